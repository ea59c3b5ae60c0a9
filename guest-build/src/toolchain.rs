//! Which toolchain compiles for wasm32 here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clean_command;

/// What guests are compiled for: no system interface, so that only their WIT world is imported.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// A toolchain that compiles for wasm32.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Toolchain {
    /// The `rustc` and `cargo` in use, which have the target installed (`rustup target add`).
    Installed {
        /// The compiler.
        rustc: PathBuf,
        /// The cargo beside it.
        cargo: PathBuf,
    },
    /// Debian's `rustc-web`, `cargo-web`, `rust-web-src` and `lld-22`: builds the standard library from source.
    Debian,
}

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-22";

impl Toolchain {
    /// The first toolchain that is complete, or `None`.
    #[must_use]
    pub fn find() -> Option<Self> {
        let program = |variable, default: &str| PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| default.into()));
        let rustc = program("RUSTC", "rustc");
        if library_of(&rustc, TARGET).is_some_and(|library| library.is_dir()) {
            return Some(Self::Installed { rustc, cargo: program("CARGO", "cargo") });
        }
        Self::debian()
    }

    /// Debian's, if it is complete.
    #[must_use]
    pub fn debian() -> Option<Self> {
        let source = library_of(Path::new(DEBIAN_RUSTC), "")?.join("../../src/rust/library/std");
        let complete = [Path::new(DEBIAN_CARGO), Path::new(DEBIAN_LINKER), &source].iter().all(|path| path.exists());
        complete.then_some(Self::Debian)
    }

    /// cargo of this toolchain, set up for compiling `guest`.
    pub(crate) fn cargo(&self, guest: &Path) -> Command {
        let mut command;
        match self {
            Self::Installed { rustc, cargo } => {
                command = clean_command(cargo);
                command.env("RUSTC", rustc);
            }
            Self::Debian => {
                command = clean_command(Path::new(DEBIAN_CARGO));
                command.env("RUSTC", DEBIAN_RUSTC);
                // Building the standard library is not stable; this compiler's own library is the only one it is used with.
                command.env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
                command.arg("-Zbuild-std=std,panic_abort");
            }
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(guest).join("\u{1f}"));
        command
    }
}

/// A small stack keeps the pages that a guest touches close together: a host that pools instances resets them by copying.
/// The paths of this machine stay out of the component, so that its digest is the same everywhere.
fn rustflags(guest: &Path) -> Vec<String> {
    let mut flags = vec!["-Clink-arg=-zstack-size=32768".to_owned()];
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let workspace = guest.ancestors().filter(|folder| folder.join("Cargo.lock").is_file()).last();
    for (folder, name) in [(cargo_home.as_deref(), "/cargo"), (workspace, "/build")] {
        flags.extend(folder.map(|folder| format!("--remap-path-prefix={}={name}", folder.display())));
    }
    flags
}

/// Where `rustc` keeps the libraries for `target` (empty: its host's), whether or not they are installed.
fn library_of(rustc: &Path, target: &str) -> Option<PathBuf> {
    let mut command = clean_command(rustc);
    command.args(["--print", "target-libdir"]);
    if !target.is_empty() {
        command.args(["--target", target]);
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}
