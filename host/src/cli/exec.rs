//! One exchange on standard input and output.

use std::io::{IsTerminal, Read};

use ocicrypt_kms::Error;
use ocicrypt_kms::protocol::MAX_MESSAGE;
use zeroize::Zeroizing;

use super::{Options, block_on, print};

pub(super) fn run(options: Options) -> Result<(), Error> {
    let message = read_message()?;
    let provider = options.provider()?.build()?;
    let answer = block_on(provider.last_exchange(&message))??;
    print(&answer)
}

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
