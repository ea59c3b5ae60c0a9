//! The local keystore: a folder of JWK sets (RFC 7517 section 5), one file `NAME.jwks` per key.
//!
//! A set's first key is the current version; those after it are older and only unwrap. The folder is 0700 and the files are 0600; a file
//! that others could read or write, or that belongs to somebody else, is refused, as ssh refuses its private keys. A set that holds
//! nothing but public keys may be read by others.

#[cfg(feature = "local")]
mod cache;
mod jwk;

use std::fs::{DirBuilder, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::{Object, Value};
use zeroize::Zeroizing;

#[cfg(feature = "local")]
pub(super) use self::cache::Cache;
pub use self::jwk::{Curve, CurveKey, HpkeKey, Jwk, Material, RsaKey, RsaPrivate, parse_ephemeral, write_ephemeral};
use crate::Error;
use crate::permissions::{check_owner, make_it_yours, user};
use crate::shown;
use crate::trusted_file::{self, Untrusted};

/// The most bytes of one JWK set.
const MAX_LENGTH: u64 = 64 << 10;
/// The most versions of one key.
const MAX_VERSIONS: usize = 256;

/// The `code` of the error that a key can't unwrap because only its public half is here.
pub const PUBLIC_ONLY: &str = "PUBLIC_KEY_ONLY";

/// A folder of JWK sets.
#[derive(Clone, Debug)]
pub struct Keystore {
    folder: PathBuf,
}

/// What [`Keystore::create`] does if the key exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    /// Leave it alone and fail.
    Refuse,
    /// Put a new version in front of it.
    Rotate,
}

/// Whether a file is of somebody who may own it here.
type OwnerCheck = fn(&Metadata) -> Result<(), String>;

/// A file of the keystore, as it was opened.
struct KeyFile {
    metadata: Metadata,
    text: Zeroizing<Vec<u8>>,
    versions: Vec<Jwk>,
}

impl Keystore {
    /// The keystore in `folder`, which need not exist yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file that holds the key called `name` (which has passed the rules for names in key URIs).
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.jwks"))
    }

    /// The versions of the key called `name`, the current one first; all wrap by the same algorithm. What it is for decides only what an
    /// error advises.
    ///
    /// # Errors
    /// If it doesn't exist, its file could be read or changed by others, or isn't a JWK set that can be used.
    pub fn load(&self, name: &str, operation: Operation) -> Result<Vec<Jwk>, Error> {
        self.read(name, operation, check_owner).map(|file| file.versions)
    }

    /// The same of a key that gets another version: root may do that for any user.
    ///
    /// # Errors
    /// Those of [`Keystore::load`].
    pub fn load_to_rotate(&self, name: &str) -> Result<Vec<Jwk>, Error> {
        self.read(name, Operation::Wrap, check_rotatable).map(|file| file.versions)
    }

    /// The key's file and what it holds.
    fn read(&self, name: &str, operation: Operation, check_owner: OwnerCheck) -> Result<KeyFile, Error> {
        let path = self.path(name);
        // Who may do what with it is asked below: it depends on what is in it.
        let (mut file, metadata) = trusted_file::open_regular(&path).map_err(|untrusted| match untrusted {
            Untrusted::System(error) if error.kind() == std::io::ErrorKind::NotFound => self.missing(name, operation),
            Untrusted::System(error) => self.unusable(name, &error.to_string(), "check the folder's and the file's permissions"),
            untrusted => self.unusable(name, &untrusted.to_string(), "put a JWK set there"),
        })?;
        if metadata.len() > MAX_LENGTH {
            return Err(self.unusable(name, &format!("it is longer than {MAX_LENGTH} bytes"), "check the file"));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        let read = (&mut file).take(MAX_LENGTH).read_to_end(&mut text);
        read.map_err(|error| self.unusable(name, &error.to_string(), "check the file"))?;
        let versions = parse_set(&text);
        // What can't be read may be anything, a secret too.
        let secret = versions.as_ref().map_or(true, |versions| versions.iter().any(Jwk::is_secret));
        check_owner(&metadata).map_err(|reason| self.unusable(name, &reason, &make_it_yours(&path)))?;
        check_mode(&metadata, secret).map_err(|reason| {
            self.unusable(name, &reason, &format!("if nobody else has used it, make it yours alone: chmod 600 {}", shown::path(&path)))
        })?;
        let versions = versions.map_err(|reason| self.unusable(name, &reason, &conversion(&text, &path)))?;
        Ok(KeyFile { metadata, text, versions })
    }

    /// Puts a new key called `name` into the keystore, or with [`Existing::Rotate`] a new version of it, and gives its file.
    ///
    /// The new file appears whole or not at all, and never replaces a key: rotating keeps all older versions, and the file's owner, group and mode. If
    /// root makes a key, it is the folder's owner's.
    ///
    /// # Errors
    /// If it exists (or, for rotating, doesn't, or wraps in another way), or if the file can't be written, or not be given to its owner.
    pub fn create(&self, name: &str, existing: Existing, key: &Jwk) -> Result<PathBuf, Error> {
        let failed = |error: std::io::Error| self.unusable(name, &error.to_string(), "check the folder's permissions and space");
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed)?;
        let _lock = self.lock().map_err(failed)?;
        let (older, owner, mode) = match existing {
            Existing::Refuse => (Zeroizing::new(Vec::new()), self.folder.metadata().map_err(failed)?, 0o600),
            Existing::Rotate => self.older(name, key).map(|(older, file)| (older, file.clone(), file.mode() & 0o777))?,
        };
        let set = write_set(&key.write(), &older);
        if set.len() as u64 > MAX_LENGTH {
            let reason = format!("with one more version it would be longer than {MAX_LENGTH} bytes");
            return Err(self.unusable(name, &reason, "remove versions that no image needs any more"));
        }
        // Created with mode 0600.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder).map_err(failed)?;
        self.give(name, file.as_file(), &owner, existing)?;
        file.as_file().set_permissions(PermissionsExt::from_mode(mode)).map_err(failed)?;
        file.write_all(&set).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        let path = self.path(name);
        match existing {
            Existing::Refuse => file.persist_noclobber(&path).map_err(|error| match error.error.kind() {
                std::io::ErrorKind::AlreadyExists => self.exists(name),
                _ => failed(error.error),
            })?,
            Existing::Rotate => file.persist(&path).map_err(|error| failed(error.error))?,
        };
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(path)
    }

    /// Gives a new file, which is nobody else's yet, to the owner and group of the file that it replaces. A new key stays whose process made it, unless
    /// that is root.
    fn give(&self, name: &str, file: &File, owner: &Metadata, existing: Existing) -> Result<(), Error> {
        let failed = |error: std::io::Error| self.unusable(name, &error.to_string(), "check the folder's permissions and space");
        let made = file.metadata().map_err(failed)?;
        let (user, group) = (owner.uid(), owner.gid());
        let stays = existing == Existing::Refuse && made.uid() != 0;
        if stays || (made.uid(), made.gid()) == (user, group) {
            return Ok(());
        }
        match fchown(file, Some(user), Some(group)) {
            // A group that isn't this user's: it has no rights in a file that holds a key.
            Err(_) if made.uid() == user => Ok(()),
            given => given.map_err(|error| {
                let reason = format!("it can't be given to its owner, user {user} and group {group}: {error}");
                self.unusable(name, &reason, "nothing was changed; run this as that user")
            }),
        }
    }

    /// The text of the set's keys as they stand in the file, and the file, after checking that `key` can become a version of them.
    fn older(&self, name: &str, key: &Jwk) -> Result<(Zeroizing<Vec<u8>>, Metadata), Error> {
        let KeyFile { metadata, text, versions } = self.read(name, Operation::Wrap, check_rotatable)?;
        let wrong = |reason: String| self.unusable(name, &reason, "restore the file from a backup");
        if versions.len() >= MAX_VERSIONS {
            return Err(wrong(format!("it has {} versions already", versions.len())));
        }
        let current = &versions[0];
        if current.algorithm() != key.algorithm() {
            let reason = format!("it wraps by {}, and a new version can't wrap by {}", current.algorithm(), key.algorithm());
            return Err(self.unusable(name, &reason, "create a key of another name"));
        }
        if !current.is_secret() {
            let hint = format!("rotate it where its private half is, then copy what `ocicrypt-kms public {name}` prints there");
            return Err(self.unusable(name, "it holds only the public half of the key", &hint));
        }
        let keys = keys_of(&text).map_err(wrong)?;
        Ok((Zeroizing::new(keys.iter().map(Value::text).collect::<Vec<_>>().join(",\n  ").into_bytes()), metadata))
    }

    /// One writer at a time; readers see whole files without it.
    fn lock(&self) -> std::io::Result<File> {
        let folder = File::open(&self.folder)?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(folder)
    }

    fn missing(&self, name: &str, operation: Operation) -> Error {
        let message = format!("there is no such key in the keystore {}", shown::path(&self.folder));
        let hint = match operation {
            Operation::Wrap => format!("create it with `ocicrypt-kms keygen {name}`, or name its folder in OCICRYPT_KMS_KEYSTORE"),
            // A new key of this name would not decrypt.
            Operation::Unwrap => format!("copy the file {name}.jwks there, or name its folder in OCICRYPT_KMS_KEYSTORE"),
        };
        Error::Kms { key: uri(name), status: 0, code: "KEY_NOT_FOUND".into(), message, hint }
    }

    fn exists(&self, name: &str) -> Error {
        let message = format!("the key exists already ({})", shown::path(&self.path(name)));
        let hint = format!("`ocicrypt-kms keygen --rotate {name}` adds a version to it; choose another name for another key");
        Error::Kms { key: uri(name), status: 0, code: "KEY_EXISTS".into(), message, hint }
    }

    fn unusable(&self, name: &str, reason: &str, hint: &str) -> Error {
        let message = format!("{} can't be used: {reason}", shown::path(&self.path(name)));
        Error::Kms { key: uri(name), status: 0, code: "KEY_UNUSABLE".into(), message, hint: hint.to_owned() }
    }
}

fn uri(name: &str) -> String {
    format!("local://{name}")
}

/// Root gives another user's key a new version, and the file stays that user's.
fn check_rotatable(metadata: &Metadata) -> Result<(), String> {
    if user() == 0 { Ok(()) } else { check_owner(metadata) }
}

fn check_mode(metadata: &Metadata, secret: bool) -> Result<(), String> {
    match (metadata.mode() & 0o777, secret) {
        (mode, true) if mode & 0o077 != 0 => Err(format!("its mode is {mode:04o}, so others could use the key")),
        (mode, false) if mode & 0o022 != 0 => Err(format!("its mode is {mode:04o}, so others could put a key of theirs in its place")),
        _ => Ok(()),
    }
}

/// Reads a JWK set. Errors name what is wrong and never quote the file.
fn parse_set(text: &[u8]) -> Result<Vec<Jwk>, String> {
    let keys = keys_of(text)?;
    if keys.len() > MAX_VERSIONS {
        return Err(format!("it holds more than {MAX_VERSIONS} keys"));
    }
    let versions = keys.into_iter().map(Jwk::parse).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = versions.first() else { return Err("it holds no key".into()) };
    match versions.iter().all(|version| version.algorithm() == first.algorithm()) {
        true => Ok(versions),
        // An image is told one way of wrapping by the key's name alone.
        false => Err("its keys don't all wrap by the same algorithm".into()),
    }
}

/// The keys of a set. A key that stands there by itself, as other tools write one, is a set of one.
fn keys_of(text: &[u8]) -> Result<Vec<Value<'_>>, String> {
    let set = Object::parse(text).map_err(|error| format!("it is {error}"))?;
    if set.get("keys").is_none() && set.get("kty").is_some() {
        return Value::parse(text).map(|key| vec![key]).map_err(|error| format!("it is {error}"));
    }
    let keys = set.get("keys").ok_or("it is not a JWK set: it has no member `keys`")?;
    let keys = keys.elements().ok_or("it is not a JWK set: `keys` is not an array")?;
    Ok(keys.take(MAX_VERSIONS + 1).collect())
}

/// What to do about a file that is no JWK set.
fn conversion(text: &[u8], path: &Path) -> String {
    let begins = |with: &str| text.trim_ascii_start().starts_with(with.as_bytes());
    let name = shown::path(path);
    if begins("-----BEGIN ") && !begins("-----BEGIN OPENSSH") {
        return format!(
            "it is PEM: make a JWK of it, with Python's jwcrypto: (umask 077; python3 -c 'import sys; from jwcrypto.jwk import JWK; \
             print(JWK.from_pem(sys.stdin.buffer.read()).export())' < {name} > {name}.new) && mv {name}.new {name}"
        );
    }
    "restore the file from a backup, or put a JWK or a JWK set there".into()
}

fn write_set(key: &[u8], older: &[u8]) -> Zeroizing<Vec<u8>> {
    // Sized beforehand, so that no copy of a key is left behind by a buffer that grew.
    let mut set = Zeroizing::new(Vec::with_capacity(key.len() + older.len() + 32));
    set.extend_from_slice(b"{\"keys\":[\n  ");
    set.extend_from_slice(key);
    if !older.is_empty() {
        set.extend_from_slice(b",\n  ");
        set.extend_from_slice(older);
    }
    set.extend_from_slice(b"\n]}\n");
    set
}

/// The public halves of these versions as a JWK set; `None` if they have none.
#[must_use]
pub fn write_public_set(versions: &[Jwk]) -> Option<String> {
    let public = versions.iter().map(|jwk| jwk.write_public(&jwk.version()?)).collect::<Option<Vec<_>>>()?;
    Some(format!("{{\"keys\":[\n  {}\n]}}\n", public.join(",\n  ")))
}

/// The folder of the keystore: `OCICRYPT_KMS_KEYSTORE`, else the configured one, else `$XDG_DATA_HOME/ocicrypt-kms/keys`.
///
/// # Errors
/// If none of them is known.
pub fn default_folder(environment: &crate::config::Environment, configured: Option<&Path>) -> Result<PathBuf, Error> {
    let data = || Some(environment.base_directory("XDG_DATA_HOME", ".local/share")?.join("ocicrypt-kms/keys"));
    let named = environment.get("OCICRYPT_KMS_KEYSTORE").map(PathBuf::from);
    named.or_else(|| configured.map(Path::to_owned)).or_else(data).ok_or_else(|| Error::Configuration {
        place: "the keystore".into(),
        reason: "no folder is known for it; set OCICRYPT_KMS_KEYSTORE, or `keystore` in the configuration".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn keystore() -> (tempfile::TempDir, Keystore) {
        let folder = tempfile::tempdir().unwrap();
        let keystore = Keystore::new(folder.path().join("keys"));
        (folder, keystore)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    /// Creates a symmetric key, or a version of one: its file and version.
    fn create(keystore: &Keystore, existing: Existing) -> Result<(PathBuf, String), Error> {
        let key = Jwk::generate_symmetric().unwrap();
        keystore.create("team", existing, &key).map(|path| (path, key.kid.unwrap()))
    }

    fn symmetric(jwk: &Jwk) -> &[u8] {
        match &jwk.key {
            Material::Symmetric(key) => &**key,
            _ => panic!("the key is symmetric"),
        }
    }

    const PUBLIC: &str = r#"{"keys":[{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}]}"#;

    #[test]
    fn a_new_key_is_its_owners_alone() {
        let (_folder, keystore) = keystore();
        let (path, kid) = create(&keystore, Existing::Refuse).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let versions = keystore.load("team", Operation::Wrap).unwrap();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].kid.as_deref(), Some(kid.as_str()));
        assert_ne!(symmetric(&versions[0]), [0; 32]);
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let (_folder, keystore) = keystore();
        let (path, _) = create(&keystore, Existing::Refuse).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = create(&keystore, Existing::Refuse).unwrap_err();
        assert!(error.line().contains("exists already") && error.line().contains("keygen --rotate team"), "{}", error.line());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let left_over = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left_over, 1, "no half-written file stays behind");
    }

    #[test]
    fn rotating_puts_a_version_in_front_and_keeps_the_older_ones() {
        let (_folder, keystore) = keystore();
        let (_, first) = create(&keystore, Existing::Refuse).unwrap();
        let (path, second) = create(&keystore, Existing::Rotate).unwrap();
        let (_, third) = create(&keystore, Existing::Rotate).unwrap();
        let kids: Vec<_> = keystore.load("team", Operation::Wrap).unwrap().into_iter().map(|key| key.kid.unwrap()).collect();
        assert_eq!(kids, [third, second, first]);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_key_that_does_not_exist_is_not_rotated() {
        let (_folder, keystore) = keystore();
        let error = create(&keystore, Existing::Rotate).unwrap_err();
        assert!(error.line().contains("no such key") && error.line().contains("keygen team"), "{}", error.line());
    }

    #[test]
    fn a_set_that_rotating_would_make_too_long_to_read_is_left_alone() {
        let (_folder, keystore) = keystore();
        let (path, _) = create(&keystore, Existing::Refuse).unwrap();
        let set = std::fs::read_to_string(&path).unwrap();
        let comment = "x".repeat(MAX_LENGTH as usize - set.len() - 9);
        let full = set.replacen("\"kty\"", &format!("\"x\": \"{comment}\",\"kty\""), 1);
        std::fs::write(&path, &full).unwrap();
        assert_eq!(keystore.load("team", Operation::Wrap).unwrap().len(), 1);
        let line = create(&keystore, Existing::Rotate).unwrap_err().line();
        assert!(line.contains("would be longer than") && line.contains("remove versions"), "{line}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), full);
    }

    #[test]
    fn writers_at_the_same_time_lose_no_version() {
        let (_folder, keystore) = keystore();
        create(&keystore, Existing::Refuse).unwrap();
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(|| create(&keystore, Existing::Rotate).unwrap()))));
        assert_eq!(keystore.load("team", Operation::Wrap).unwrap().len(), 9);
    }

    #[test]
    fn a_file_that_others_could_use_is_refused() {
        let (_folder, keystore) = keystore();
        let (path, _) = create(&keystore, Existing::Refuse).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o666] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let line = keystore.load("team", Operation::Wrap).err().unwrap().line();
            assert!(line.contains(&format!("{mode:04o}")) && line.contains("chmod 600"), "{line}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        assert!(keystore.load("team", Operation::Wrap).is_ok());
    }

    #[test]
    fn a_set_of_public_keys_may_be_read_by_others_but_not_changed() {
        let (_folder, keystore) = keystore();
        let (path, _) = create(&keystore, Existing::Refuse).unwrap();
        std::fs::write(&path, PUBLIC).unwrap();
        for mode in [0o644, 0o444, 0o600] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert!(!keystore.load("team", Operation::Wrap).unwrap()[0].is_secret());
        }
        for mode in [0o664, 0o646, 0o620] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let line = keystore.load("team", Operation::Wrap).err().unwrap().line();
            assert!(line.contains(&format!("{mode:04o}")) && line.contains("a key of theirs"), "{line}");
        }
    }

    #[test]
    fn what_may_be_a_damaged_private_key_is_not_left_readable() {
        let (_folder, keystore) = keystore();
        let (path, _) = create(&keystore, Existing::Refuse).unwrap();
        std::fs::write(&path, "{\"keys\":[").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(keystore.load("team", Operation::Wrap).err().unwrap().line().contains("chmod 600"));
    }

    #[test]
    fn a_set_of_public_keys_is_rotated_where_the_private_ones_are() {
        let (_folder, keystore) = keystore();
        let (path, _) = create(&keystore, Existing::Refuse).unwrap();
        std::fs::write(&path, PUBLIC).unwrap();
        let private = PUBLIC.replace("[{", r#"[{"d":"XasIfmJKikt54X-Lg4AO5m87sSkmGLb9HC-LJ_-I4Os","#);
        let private = parse_set(private.as_bytes()).unwrap().remove(0);
        let line = keystore.create("team", Existing::Rotate, &private).unwrap_err().line();
        assert!(line.contains("only the public half") && line.contains("ocicrypt-kms public team"), "{line}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), PUBLIC);
        let line = create(&keystore, Existing::Rotate).unwrap_err().line();
        assert!(line.contains("it wraps by ECDH-ES+A256KW, and a new version can't wrap by A256KW"), "{line}");
    }

    #[test]
    fn keys_of_one_set_wrap_in_one_way() {
        let mixed = PUBLIC.replace("[{", r#"[{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"},{"#);
        assert_eq!(parse_set(mixed.as_bytes()).err().unwrap(), "its keys don't all wrap by the same algorithm");
    }

    #[test]
    fn a_pipe_in_place_of_a_key_is_refused_at_once() {
        let (_folder, keystore) = keystore();
        let (path, _) = create(&keystore, Existing::Refuse).unwrap();
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(keystore.load("team", Operation::Wrap).err().unwrap().line().contains("it is a pipe, not a regular file"));
    }

    #[test]
    fn the_example_key_of_rfc_7517_reads() {
        // RFC 7517 appendix A.3 has A128KW and an HMAC key; the member names and the encoding are the same.
        let set =
            br#"{"keys":[{"kty":"oct","alg":"A256KW","kid":"1","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","use":"enc","x":1}]}"#;
        let keys = parse_set(set).unwrap();
        assert_eq!(symmetric(&keys[0]), (0..32).collect::<Vec<u8>>());
        let rfc = br#"{"keys":[{"kty":"oct","alg":"A128KW","k":"GawgguFyGrWKav7AX4VKUg"}]}"#;
        assert!(parse_set(rfc).err().unwrap().contains("another algorithm"));
    }

    #[test]
    fn what_is_no_jwk_set_is_refused_without_quoting_it() {
        let refused = |text: &str| parse_set(text.as_bytes()).err().unwrap();
        for text in [
            "c2VjcmV0",
            r#"{"k":"c2VjcmV0"}"#,
            r#"{"keys":{"k":"c2VjcmV0"}}"#,
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"RSA","k":"c2VjcmV0"}]}"#,
            r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
            r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","k":"c2VjcmV0"}]}"#,
            r#"{"keys":[{"kty":"oct"}]}"#,
        ] {
            assert!(!refused(text).contains("c2Vj"), "{text}");
        }
    }
}
