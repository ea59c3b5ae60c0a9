//! Builds the component, compiles it ahead of time for the target, and leaves both in `OUT_DIR` for embedding.
//!
//! The component comes with the sources, as `component.wasm` beside this file, so that no toolchain for WebAssembly is needed; `tools/component`
//! builds it anew, byte for byte. `OCICRYPT_KMS_COMPONENT` names another file.

use std::error::Error;
use std::path::PathBuf;

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
    let component = component()?;
    std::fs::write(out_dir.join("component.wasm"), &component)?;
    std::fs::write(out_dir.join("component.sha256"), sha2::Sha256::digest(&component))?;
    std::fs::write(out_dir.join("component.cwasm"), precompile(&component)?)?;
    Ok(())
}

fn component() -> Result<Vec<u8>, Box<dyn Error>> {
    let path = PathBuf::from(std::env::var_os(VARIABLE).unwrap_or_else(|| "component.wasm".into()));
    println!("cargo::rerun-if-changed={}", path.display());
    std::fs::read(&path).map_err(|error| format!("{} could not be read: {error}", path.display()).into())
}

/// Compiles for the target, not for this machine's CPU: the binary has to run on older ones too.
fn precompile(component: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut config = engine_config::engine_config();
    config.target(&std::env::var("TARGET")?)?;
    Ok(wasmtime::Engine::new(&config)?.precompile_component(component)?)
}
