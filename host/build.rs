//! Builds the component, compiles it ahead of time for the target, and leaves both in `OUT_DIR` for embedding.
//!
//! Where the component comes from, in this order: the file that `OCICRYPT_KMS_COMPONENT` names; `component.wasm` beside this
//! file, as the published crate carries it; the sources in `../component`, by whichever wasm toolchain is installed.

use std::error::Error;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

#[path = "src/sandbox/engine_config.rs"]
mod engine_config;
mod link;

const VARIABLE: &str = "OCICRYPT_KMS_COMPONENT";

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={}", error.to_string().replace('\n', "\ncargo::error="));
        std::process::exit(1);
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/sandbox/engine_config.rs");
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    link::link(&out_dir)?;
    let component = component(&out_dir)?;
    std::fs::write(out_dir.join("component.wasm"), &component)?;
    std::fs::write(out_dir.join("component.sha256"), sha2::Sha256::digest(&component))?;
    std::fs::write(out_dir.join("component.cwasm"), precompile(&component)?)?;
    #[cfg(feature = "server")]
    generate_service(&out_dir)?;
    Ok(())
}

/// The server's side of the gRPC service, and its description for reflection.
#[cfg(feature = "server")]
fn generate_service(out_dir: &Path) -> Result<(), Box<dyn Error>> {
    const PROTO: &str = "proto/keyprovider.proto";
    println!("cargo::rerun-if-changed={PROTO}");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.open_file(PROTO)?;
    std::fs::write(out_dir.join("keyprovider.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().build_client(false).build_transport(false).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn component(out_dir: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let prebuilt = std::env::var_os(VARIABLE).map(PathBuf::from);
    let carried = Some(PathBuf::from("component.wasm")).filter(|path| path.exists());
    if let Some(path) = prebuilt.or(carried) {
        println!("cargo::rerun-if-changed={}", path.display());
        return std::fs::read(&path).map_err(|error| format!("{} could not be read: {error}", path.display()).into());
    }
    for folder in ["../component/src", "../component/Cargo.toml", "../protocol/src", "../wit", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let guest = std::path::absolute("../component")?.canonicalize()?;
    Ok(ocicrypt_kms_guest_build::build(&guest, &ocicrypt_kms_guest_build::shared_target_dir(out_dir))?)
}

/// Compiles for the target, not for this machine's CPU: the binary has to run on older ones too.
fn precompile(component: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut config = engine_config::engine_config();
    config.target(&std::env::var("TARGET")?)?;
    Ok(wasmtime::Engine::new(&config)?.precompile_component(component)?)
}
