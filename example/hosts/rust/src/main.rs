//! `ocicrypt-kms-example-host COMPONENT.wasm NAME.jwks [OPTION=VALUE...] < message > answer`
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [component, key, options @ ..] = arguments.as_slice() else {
        return Err("usage: ocicrypt-kms-example-host COMPONENT.wasm NAME.jwks [OPTION=VALUE...]".into());
    };
    let options = options.iter().filter_map(|option| option.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut message = Vec::new();
    std::io::stdin().read_to_end(&mut message)?;
    let answer = ocicrypt_kms_example_host::exchange(&std::fs::read(component)?, Path::new(key), options.collect(), &message)?;
    Ok(std::io::stdout().write_all(&answer)?)
}
