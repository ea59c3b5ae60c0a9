//! One exchange on standard input and output.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

#[cfg(feature = "hardening")]
use ocicrypt_kms::Environment;
use ocicrypt_kms::key_uri::Service;
use ocicrypt_kms::protocol::MAX_MESSAGE;
use ocicrypt_kms::{Error, LastExchange};
use zeroize::Zeroizing;

use super::{Options, block_on, print};

pub(super) fn run(options: Options) -> Result<(), Error> {
    let message = read_message()?;
    let config = options.config()?;
    let (hardening, logs) = (config.hardening, config.audit.folders());
    let exchange = options.provider_of(config).build()?.last_exchange(&message);
    if hardening {
        give_up(&exchange, &logs);
    }
    let network = exchange.services().iter().any(|service| *service != Service::Local);
    let answer = block_on(network, exchange.run())??;
    print(&answer)
}

/// From here on, the process has no rights that its exchange doesn't need.
#[cfg(feature = "hardening")]
fn give_up(exchange: &LastExchange, logs: &[PathBuf]) {
    use super::harden::{Needs, harden};
    harden(Needs::of(&exchange.services(), &Environment::process()), logs);
}

#[cfg(not(feature = "hardening"))]
fn give_up(_: &LastExchange, _: &[PathBuf]) {}

fn read_message() -> Result<Zeroizing<Vec<u8>>, Error> {
    let input = std::io::stdin();
    if input.is_terminal() {
        let reason = "container tools start this program, with a message on its standard input".into();
        return Err(Error::InvalidInput { reason, hint: "for what a person can do with it, see `ocicrypt-kms --help`".into() });
    }
    let mut message = Zeroizing::new(Vec::with_capacity(8 << 10));
    let read = input.lock().take(MAX_MESSAGE as u64 + 1).read_to_end(&mut message);
    read.map_err(|error| Error::Internal { reason: format!("the message can't be read: {error}") })?;
    Ok(message)
}
