//! `ocicrypt-kms-guest-build [--toolchain debian] GUEST OUT.wasm`: builds the guest in a folder into a component file.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

use ocicrypt_kms_guest_build::{BuildError, Toolchain, build, build_with};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (debian, guest, out) = match arguments.as_slice() {
        [option, toolchain, guest, out] if option == "--toolchain" && toolchain == "debian" => (true, guest, out),
        [guest, out] => (false, guest, out),
        _ => {
            eprintln!("usage: ocicrypt-kms-guest-build [--toolchain debian] GUEST OUT.wasm");
            return ExitCode::from(2);
        }
    };
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    let (guest, target_dir) = (absolute(Path::new(guest)), absolute(&Path::new(out).parent().unwrap_or(Path::new("")).join("guests")));
    let built = if debian {
        Toolchain::debian().ok_or(BuildError::NoToolchain).and_then(|debian| build_with(&debian, &guest, &target_dir))
    } else {
        build(&guest, &target_dir)
    };
    let write = |component: Vec<u8>| std::fs::write(out, component).map_err(|error| error.to_string());
    match built.map_err(|error| error.to_string()).and_then(write) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
