//! Compiled code of components, kept for the next process.
//!
//! Whoever can write here can have this user's processes run code of theirs: compiled code is native code, and no check of its content makes it
//! safe. So the folder and its files have to be this user's alone, and nobody else may be able to put others in their place; else it isn't used, and
//! components are compiled anew each time. The digest at a file's end finds damage, not malice.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::Digest as _;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::config::Environment;
use crate::digest::Digest;
use crate::permissions::{check_private, check_private_folder};
use crate::shown;

/// The most bytes of one file: native code is several times the size of a component.
const MAX_LENGTH: u64 = 1 << 30;
/// The digest at a file's end.
const DIGEST_LENGTH: usize = 32;

/// A folder of compiled code.
#[derive(Clone, Debug)]
pub struct CodeCache {
    folder: PathBuf,
}

impl CodeCache {
    /// A cache in `folder`, which need not exist yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// `$XDG_CACHE_HOME/ocicrypt-kms/components`; `None` where no home folder is known.
    #[must_use]
    pub fn of_user(environment: &Environment) -> Option<Self> {
        Some(Self::new(environment.base_directory("XDG_CACHE_HOME", ".cache")?.join("ocicrypt-kms/components")))
    }

    /// The component, from here or compiled now. A cache that can't be used is none.
    pub(super) fn component(&self, engine: &Engine, bytes: &[u8], digest: Digest) -> wasmtime::Result<Component> {
        let path = self.path(engine, digest);
        match self.load(engine, &path) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(reason) => tracing::warn!(reason, "the compiled code of the component is not used"),
        }
        // Clients start a process for each layer, several at once: one compiles, and the others wait for what it keeps.
        let _turn = self.turn().inspect_err(|reason| tracing::debug!(reason, "no other process is waited for")).ok();
        if let Ok(Some(component)) = self.load(engine, &path) {
            return Ok(component);
        }
        tracing::debug!(%digest, "compiling the component");
        let component = Component::new(engine, bytes)?;
        if let Err(reason) = self.store(&path, &component) {
            tracing::warn!(reason, "the compiled code of the component is not kept");
        }
        Ok(component)
    }

    /// One file for a component and whatever else decides about its code.
    fn path(&self, engine: &Engine, digest: Digest) -> PathBuf {
        let mut compiler = CompilerHash(sha2::Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut compiler);
        compiler.write(env!("CARGO_PKG_VERSION").as_bytes());
        let compiler = Digest::from_bytes(compiler.0.finalize().into()).to_string();
        self.folder.join(format!("{digest}-{}.cwasm", &compiler[..16]))
    }

    /// Held until it is dropped or the process ends.
    fn turn(&self) -> Result<File, String> {
        self.make_folder()?;
        let folder = File::open(&self.folder).map_err(|error| error.to_string())?;
        folder.lock().map_err(|error| error.to_string())?;
        Ok(folder)
    }

    fn load(&self, engine: &Engine, path: &Path) -> Result<Option<Component>, String> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| error.to_string())?,
        };
        check_private_folder(&self.folder)?;
        let code = read(&file).map_err(|reason| format!("{}: {reason}", shown::path(path)))?;
        // SAFETY: the code is what `Component::serialize` wrote in `store` for the same engine settings (its digest says that it is whole,
        // its name and wasmtime itself that the settings are the same), or else it was written by this user or root: the file is this user's alone
        // in a folder that nobody else can write, and both were checked of what was opened. They can run code as this user without it.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, code) };
        component.map(Some).map_err(|error| format!("{}: {error:#}", shown::path(path)))
    }

    fn make_folder(&self) -> Result<(), String> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(|error| error.to_string())?;
        check_private_folder(&self.folder)
    }

    /// Readers see a whole file or none.
    fn store(&self, path: &Path, component: &Component) -> Result<(), String> {
        self.make_folder()?;
        let code = component.serialize().map_err(|error| format!("{error:#}"))?;
        let write = || {
            // Created with mode 0600.
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
            file.write_all(&code)?;
            file.write_all(Digest::of(&code).as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error: std::io::Error| format!("{}: {error}", shown::path(&self.folder)))
    }
}

/// The code in a file that is this user's alone, without the digest that it is checked against.
fn read(mut file: &File) -> Result<Vec<u8>, String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > MAX_LENGTH {
        return Err(format!("it is not a file of at most {MAX_LENGTH} bytes"));
    }
    check_private(&metadata)?;
    let mut code = Vec::with_capacity(metadata.len() as usize + 1);
    Read::by_ref(&mut file).take(MAX_LENGTH).read_to_end(&mut code).map_err(|error| error.to_string())?;
    let expected = code.len().checked_sub(DIGEST_LENGTH).map(|length| code.split_off(length));
    match expected {
        Some(expected) if expected == Digest::of(&code).as_bytes() => Ok(code),
        _ => Err("it is damaged".into()),
    }
}

/// Whatever the engine tells a [`Hash`], as SHA-256: the standard library's hashes are too short for a name that decides about code.
struct CompilerHash(sha2::Sha256);

impl Hasher for CompilerHash {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::sandbox::BUILT_IN;

    struct Fixture {
        folder: tempfile::TempDir,
        cache: CodeCache,
        engine: Engine,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let cache = CodeCache::of_user(&Environment::of([("XDG_CACHE_HOME", folder.path())])).unwrap();
            Self { folder, cache, engine: Engine::new(&super::super::engine_config::engine_config()).unwrap() }
        }

        /// Compiles into the cache.
        fn filled() -> Self {
            let fixture = Self::new();
            fixture.cache.component(&fixture.engine, BUILT_IN, Digest::of(BUILT_IN)).unwrap();
            fixture
        }

        fn path(&self) -> PathBuf {
            self.cache.path(&self.engine, Digest::of(BUILT_IN))
        }

        fn load(&self) -> Result<bool, String> {
            self.cache.load(&self.engine, &self.path()).map(|component| component.is_some())
        }

        /// Nothing is lost but time.
        fn assert_refused(&self, reason: &str) {
            let refusal = self.load().unwrap_err();
            assert!(refusal.contains(reason), "{refusal}");
            self.cache.component(&self.engine, BUILT_IN, Digest::of(BUILT_IN)).unwrap();
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn compiled_code_is_kept_and_is_its_users_alone() {
        let empty = Fixture::new();
        assert_eq!(empty.load(), Ok(false));
        let fixture = Fixture::filled();
        assert_eq!(fixture.load(), Ok(true));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&fixture.path()), mode(&fixture.cache.folder)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(&fixture.cache.folder).unwrap().count(), 1, "nothing else stays behind");
    }

    #[test]
    fn of_several_that_need_the_code_at_once_one_compiles_and_the_others_wait() {
        let fixture = Fixture::new();
        let turn = fixture.cache.turn().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| fixture.cache.component(&fixture.engine, BUILT_IN, Digest::of(BUILT_IN)).map(drop).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(200));
            assert!(!waiting.is_finished());
            fixture.cache.store(&fixture.path(), &Component::new(&fixture.engine, BUILT_IN).unwrap()).unwrap();
            let stored = std::fs::metadata(fixture.path()).unwrap().ino();
            drop(turn);
            waiting.join().unwrap();
            assert_eq!(std::fs::metadata(fixture.path()).unwrap().ino(), stored, "it compiled, too");
        });
    }

    #[test]
    fn code_of_another_component_or_another_compiler_is_not_taken_for_it() {
        let fixture = Fixture::filled();
        assert_ne!(fixture.path(), fixture.cache.path(&fixture.engine, Digest::of(b"")));
        let mut other = super::super::engine_config::engine_config();
        other.consume_fuel(true);
        let other = Engine::new(&other).unwrap();
        assert_ne!(fixture.path(), fixture.cache.path(&other, Digest::of(BUILT_IN)));
        assert!(fixture.cache.load(&other, &fixture.path()).is_err(), "nor if its name says so");
    }

    #[test]
    fn damaged_code_is_compiled_anew() {
        let fixture = Fixture::filled();
        let whole = std::fs::read(fixture.path()).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        for bytes in [changed.as_slice(), &whole[..whole.len() - 1], &whole[..20], b""] {
            std::fs::write(fixture.path(), bytes).unwrap();
            fixture.assert_refused("it is damaged");
            assert_eq!(std::fs::read(fixture.path()).unwrap().len(), whole.len());
        }
    }

    #[test]
    fn code_that_others_could_have_written_is_not_run() {
        let fixture = Fixture::filled();
        for mode in [0o620, 0o602, 0o640] {
            set_mode(&fixture.path(), mode);
            fixture.assert_refused("others could use it");
        }
        for (folder, reason) in
            [(fixture.cache.folder.as_path(), "others could use it"), (fixture.folder.path(), "could replace what is in it")]
        {
            set_mode(folder, 0o777);
            fixture.assert_refused(reason);
            set_mode(folder, 0o700);
        }
    }

    #[test]
    fn a_link_or_a_pipe_in_place_of_the_code_is_refused_at_once() {
        let fixture = Fixture::filled();
        let elsewhere = fixture.folder.path().join("elsewhere");
        std::fs::rename(fixture.path(), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, fixture.path()).unwrap();
        fixture.assert_refused("symbolic link");
        std::fs::remove_file(fixture.path()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, fixture.path(), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        fixture.assert_refused("it is not a file");
    }

    #[test]
    fn a_folder_that_can_not_be_made_costs_time_and_nothing_else() {
        let fixture = Fixture::new();
        std::fs::write(fixture.folder.path().join("ocicrypt-kms"), "").unwrap();
        fixture.cache.component(&fixture.engine, BUILT_IN, Digest::of(BUILT_IN)).unwrap();
    }
}
