//! Builds a Rust guest into a WebAssembly component.
//!
//! A guest is compiled for `wasm32-unknown-unknown`, which has no system interface at all, and then made a component: what it imports is
//! exactly what its WIT world names, and nothing of WASI comes in through the standard library.
//!
//! Used by `tools/component`, which builds the component that comes with the sources, and by tests that build hostile guests.
#![forbid(unsafe_code)]

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use wit_component::ComponentEncoder;

pub use toolchain::Toolchain;

/// Why a guest could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Neither of the toolchains that can compile for wasm32 is installed.
    #[error(
        "no Rust toolchain here compiles for wasm32-unknown-unknown. Install one of:\n\
         \x20 rustup target add wasm32-unknown-unknown\n\
         \x20 apt-get install --no-install-recommends rustc-web cargo-web rust-web-src lld-22   # Debian 12, security suite"
    )]
    NoToolchain,
    /// cargo could not be started.
    #[error("{program} could not be started: {error}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The guest did not compile; the compiler has said why.
    #[error("the guest in {0} did not compile")]
    Compile(PathBuf),
    /// A file could not be read.
    #[error("{path} could not be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The module could not be made a component.
    #[error("the module could not be made a component: {0}")]
    Encode(String),
}

/// Compiles the library in the folder `guest` and makes it a component, with the first toolchain that is found. Intermediate files go to
/// `target_dir`.
///
/// # Errors
/// If no toolchain is installed, or if compiling or encoding fails.
pub fn build(guest: &Path, target_dir: &Path) -> Result<Vec<u8>, BuildError> {
    build_with(&Toolchain::find().ok_or(BuildError::NoToolchain)?, guest, target_dir)
}

/// The same with this toolchain, which decides about the component's bytes.
///
/// # Errors
/// If compiling or encoding fails.
pub fn build_with(toolchain: &Toolchain, guest: &Path, target_dir: &Path) -> Result<Vec<u8>, BuildError> {
    let mut cargo = toolchain.cargo(guest);
    // A guest's manifest names no `cdylib`: natively, the names of its exports can't be linked.
    cargo.args(["rustc", "--quiet", "--lib", "--crate-type", "cdylib", "--profile", "guest", "--target", toolchain::TARGET]);
    cargo.arg("--target-dir").arg(target_dir);
    let program = PathBuf::from(cargo.get_program());
    let status = cargo.current_dir(guest).status().map_err(|error| BuildError::Start { program, error })?;
    if !status.success() {
        return Err(BuildError::Compile(guest.to_owned()));
    }
    let module = target_dir.join(toolchain::TARGET).join("guest").join(module_name(guest)?);
    let module = std::fs::read(&module).map_err(|error| BuildError::Read { path: module, error })?;
    encode(&module)
}

/// Makes a core module that holds wit-bindgen's metadata a component.
fn encode(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let encode = || ComponentEncoder::default().validate(true).module(module)?.encode();
    encode().map_err(|error| BuildError::Encode(format!("{error:#}")))
}

/// The file that cargo writes for the package in `guest`.
fn module_name(guest: &Path) -> Result<String, BuildError> {
    let manifest = guest.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).map_err(|error| BuildError::Read { path: manifest, error })?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default();
    Ok(format!("{}.wasm", name.trim().trim_matches('"').replace('-', "_")))
}

/// The folder for intermediate files of guests beside those of the build that `out_dir` (a build script's `OUT_DIR`) belongs to, so
/// that all profiles and features share them.
#[must_use]
pub fn shared_target_dir(out_dir: &Path) -> PathBuf {
    let target = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.unwrap_or(out_dir).join("guests")
}

/// A command with nothing of the environment that a surrounding cargo set for its own build.
fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let keep = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR"].contains(&text.as_ref()) || text.starts_with("CARGO_REGISTR");
        if !keep
            && (text.starts_with("CARGO")
                || text.starts_with("RUSTC")
                || ["RUSTFLAGS", "RUSTDOC", "TARGET", "HOST"].contains(&text.as_ref()))
        {
            command.env_remove(&name);
        }
    }
    command
}
