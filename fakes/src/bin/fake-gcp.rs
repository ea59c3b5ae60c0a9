//! Serves a fake of Google Cloud KMS on loopback, for scripts.
//!
//! It prints its endpoint, and runs until standard input closes or a signal ends it.

use std::path::PathBuf;
use std::process::ExitCode;

use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_fakes::program;

const USAGE: &str = "usage: fake-gcp --key projects/P/locations/L/keyRings/R/cryptoKeys/K [--key …] [--port N] \
                     [--require-auth DIR]

  --key NAME          a symmetric key to have
  --port N            the port of 127.0.0.1 to listen on (default: a free one)
  --require-auth DIR  ask for access tokens, and write credential files that get them into DIR";

#[derive(Default)]
struct Options {
    keys: Vec<String>,
    port: u16,
    credentials: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => return program::misused("fake-gcp", problem, USAGE),
    };
    let fake = FakeGcp::start_on(options.port);
    for key in &options.keys {
        fake.add_key(key);
    }
    if let Some(dir) = &options.credentials {
        std::fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        fake.all_credential_files(dir);
        fake.require_auth(true);
    }
    // Whoever reads the line may call: everything is in place by now.
    program::announce(&fake.endpoint());
    ExitCode::SUCCESS
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--key" => options.keys.push(value()?),
            "--port" => options.port = value()?.parse().map_err(|_| "--port needs a number".to_owned())?,
            "--require-auth" => options.credentials = Some(value()?.into()),
            other => return Err(format!("unknown argument: {other}")),
        }
    }
    if options.keys.is_empty() { Err("no --key given".to_owned()) } else { Ok(options) }
}
