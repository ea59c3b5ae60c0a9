//! `ocicrypt-kms-guest-build GUEST OUT.wasm`: builds the guest in a folder into a component file.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [guest, out] = arguments.as_slice() else {
        eprintln!("usage: ocicrypt-kms-guest-build GUEST OUT.wasm");
        return ExitCode::from(2);
    };
    let target_dir = Path::new(out).parent().unwrap_or(Path::new("")).join("guests");
    let write = |component: Vec<u8>| std::fs::write(out, component).map_err(|error| error.to_string());
    let guest = std::path::absolute(guest).unwrap_or_else(|_| guest.into());
    let target_dir = std::path::absolute(&target_dir).unwrap_or(target_dir);
    match ocicrypt_kms_guest_build::build(&guest, &target_dir).map_err(|error| error.to_string()).and_then(write) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
