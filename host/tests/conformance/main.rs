//! One table of cases that every service has to pass. A new service is one more file in `services/` and one more line in [`fixtures`].
//!
//! With `--list`, it lists each case of each service: `aws::another_key_does_not_unwrap` by the library,
//! `aws::program::another_key_does_not_unwrap` by the program. A case takes a word of its name to run alone, as other tests do.

mod fixture;
mod harness;
mod mutations;
mod packets;
mod rows;
mod services;
mod stage;
mod transport;

use std::process::ExitCode;
use std::sync::Arc;

use self::fixture::{Case, Fixture, Row, Way};
use self::harness::Trial;

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

/// Each row by the library, and by the program too where that doesn't take thousands of processes.
fn trials(fixture: &Arc<dyn Fixture>) -> impl Iterator<Item = Trial> {
    let both =
        [rows::ROWS, packets::ROWS, transport::ROWS].into_iter().flatten().flat_map(|row| [(row, Way::Library), (row, Way::Program)]);
    let rows = both.chain(mutations::ROWS.iter().map(|row| (row, Way::Library)));
    rows.filter(|(row, _)| (row.applies)(&**fixture)).map(|(&Row { name, run, .. }, way)| {
        let fixture = fixture.clone();
        let of = if way == Way::Program { "program::" } else { "" };
        let name = format!("{}::{of}{name}", fixture.name());
        Trial { name, run: Box::new(move || run(&Case { fixture: &*fixture, way })) }
    })
}

fn main() -> ExitCode {
    let fixtures = fixtures();
    // The services stop when their fixtures are dropped, at the end of this function.
    if harness::run(fixtures.iter().flat_map(trials).collect()) { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
