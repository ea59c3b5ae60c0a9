//! One table of cases that every service has to pass. A new service is one more file in `services/` and one more line in [`fixtures`].
//!
//! With `--list`, it lists each case of each service: `aws::another_key_does_not_unwrap`. A case takes a word of its name to run alone, as
//! other tests do.

mod fixture;
mod mutations;
mod packets;
mod rows;
mod services;
mod stage;
mod transport;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use self::fixture::{Fixture, Row};

fn fixtures() -> Vec<Arc<dyn Fixture>> {
    vec![
        Arc::new(services::aws::Aws::symmetric()),
        Arc::new(services::aws::Aws::rsa()),
        Arc::new(services::azure::Azure::vault()),
        Arc::new(services::azure::Azure::hsm()),
        Arc::new(services::gcp::Gcp::symmetric()),
        Arc::new(services::gcp::Gcp::rsa()),
        Arc::new(services::local::Local::symmetric()),
        Arc::new(services::local::Local::rsa()),
        Arc::new(services::local::Local::p256()),
        Arc::new(services::local::Local::x25519()),
        Arc::new(services::vault::Vault::start(services::vault::Kind::Aead)),
        Arc::new(services::vault::Vault::start(services::vault::Kind::Rsa)),
    ]
}

fn trials(fixture: &Arc<dyn Fixture>) -> impl Iterator<Item = Trial> {
    let rows = [rows::ROWS, packets::ROWS, mutations::ROWS, transport::ROWS];
    rows.into_iter().flatten().filter(|row| (row.applies)(&**fixture)).map(|&Row { name, run, .. }| {
        let fixture = fixture.clone();
        Trial::test(format!("{}::{name}", fixture.name()), move || {
            run(&*fixture);
            Ok(())
        })
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let fixtures = fixtures();
    // The services stop when their fixtures are dropped, at the end of this function.
    libtest_mimic::run(&arguments, fixtures.iter().flat_map(trials).collect()).exit_code()
}
