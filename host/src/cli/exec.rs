//! One exchange on standard input and output.

use std::io::{IsTerminal, Read};

#[cfg(feature = "hardening")]
use ocicrypt_kms::Environment;
use ocicrypt_kms::Error;
use ocicrypt_kms::config::Audit;
use ocicrypt_kms::key_uri::Service;
use ocicrypt_kms::protocol::MAX_MESSAGE;
use zeroize::Zeroizing;

use super::{Options, block_on, print};

pub(super) fn run(options: Options) -> Result<(), Error> {
    let message = read_message()?;
    let config = options.config()?;
    let (hardening, audit) = (config.hardening, config.audit.clone());
    let exchange = options.provider_of(config).build()?.last_exchange(&message);
    let services = exchange.services();
    if hardening {
        give_up(&services, &audit);
    }
    let answer = block_on(need_network(&services), exchange.run()).flatten().inspect_err(|_| {
        if hardening {
            tracing::debug!("if a call that it needed was refused, it works with `hardening = false` in the configuration");
        }
    })?;
    print(&answer)
}

/// Whether keys of these services are somewhere else.
pub(super) fn need_network(services: &[Service]) -> bool {
    services.iter().any(|service| *service != Service::Local)
}

/// From here on, the process has no rights that its exchange doesn't need.
#[cfg(feature = "hardening")]
fn give_up(services: &[Service], audit: &Audit) {
    use super::harden::{Needs, Records, harden};
    harden(Needs::of(services, &Environment::process()), &Records::of(audit));
}

#[cfg(not(feature = "hardening"))]
fn give_up(_: &[Service], _: &Audit) {}

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
