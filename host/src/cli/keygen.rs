//! `ocicrypt-kms keygen NAME`: creates a key in the local keystore.

use ocicrypt_kms::key_uri::{Addresses, Key, KeyUri, LocalKey};
use ocicrypt_kms::kms::keystore::{Existing, Keystore, default_folder};
use ocicrypt_kms::{Environment, Error};

use super::{Options, print};

#[derive(Debug, clap::Args)]
pub(super) struct Keygen {
    /// Name of the key: its URI is local://NAME
    name: String,
    /// Add a version to a key that exists; older versions still unwrap
    #[arg(long)]
    rotate: bool,
}

impl Keygen {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let uri = KeyUri::parse(&format!("local://{}", self.name), &Addresses::default())?;
        let Key::Local(LocalKey { name, .. }) = uri.key() else { unreachable!("the scheme is local") };
        if *name != self.name {
            let reason = format!("{uri}: a key's name has no query");
            return Err(Error::InvalidInput { reason, hint: "leave out what follows the `?`".into() });
        }
        let keystore = Keystore::new(default_folder(&Environment::process(), options.config()?.keystore.as_deref())?);
        let existing = if self.rotate { Existing::Rotate } else { Existing::Refuse };
        let (path, kid) = keystore.create(name, existing)?;
        print(format!("{uri}  version {kid}  {}\n", path.display()).as_bytes())
    }
}
