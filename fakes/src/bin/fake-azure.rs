//! Serves a fake of Azure Key Vault on loopback, for scripts.
//!
//! It prints its endpoint, and runs until standard input closes or a signal ends it.

use std::path::PathBuf;
use std::process::ExitCode;

use ocicrypt_kms_fakes::azure::{Certificate, FakeAzure};
use ocicrypt_kms_fakes::program;

const USAGE: &str = "usage: fake-azure --key https://HOST/keys/NAME [--key …] [--port N] [--tls CA_FILE] [--variables FILE]

  --key IDENTIFIER  a key to have: AES in a Managed HSM if its name begins with `aes`, else RSA
  --port N          the port of 127.0.0.1 to listen on (default: a free one)
  --tls CA_FILE     speak HTTPS under Azure's names, and write the certificate of the authority that vouches for it
  --variables FILE  write the environment variables of an application whose tokens are accepted, for a shell to read";

#[derive(Default)]
struct Options {
    keys: Vec<String>,
    port: u16,
    authority: Option<PathBuf>,
    variables: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => return program::misused("fake-azure", problem, USAGE),
    };
    let fake = match &options.authority {
        None => FakeAzure::start_on(options.port),
        Some(file) => {
            let certificate = Certificate::generate();
            write(file, &certificate.authority_pem);
            FakeAzure::start_tls(options.port, &certificate)
        }
    };
    for key in &options.keys {
        let symmetric = key.contains(".managedhsm.") && key.rsplit('/').next().is_some_and(|name| name.starts_with("aes"));
        if symmetric {
            fake.add_symmetric_key(key)
        } else {
            fake.add_key(key)
        };
    }
    if let Some(file) = &options.variables {
        write(file, &fake.client_secret().map(|(name, value)| format!("export {name}='{value}'\n")).concat());
    }
    // Whoever reads the line may call: everything is in place by now.
    program::announce(&fake.endpoint());
    ExitCode::SUCCESS
}

fn write(file: &PathBuf, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--key" => options.keys.push(value()?),
            "--port" => options.port = value()?.parse().map_err(|_| "--port needs a number".to_owned())?,
            "--tls" => options.authority = Some(value()?.into()),
            "--variables" => options.variables = Some(value()?.into()),
            other => return Err(format!("unknown argument: {other}")),
        }
    }
    if options.keys.is_empty() { Err("no --key given".to_owned()) } else { Ok(options) }
}
