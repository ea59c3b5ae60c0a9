//! `ocicrypt-kms public NAME`: prints the public half of a local key, for machines that wrap and must not unwrap.

use ocicrypt_kms::Error;
use ocicrypt_kms::kms::keystore::write_public_set;

use super::keygen::LocalName;
use super::{Options, print};

#[derive(Debug, clap::Args)]
pub(super) struct Public {
    /// Name of the key: its URI is local://NAME
    name: String,
}

impl Public {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let key = LocalName::parse(&self.name)?;
        let versions = key.versions(options)?;
        let set = write_public_set(&versions);
        let set = set.ok_or_else(|| Error::InvalidInput {
            reason: format!("{}: the key is symmetric and has no public half; who can wrap with it can unwrap", key.uri),
            hint: "make a key of another name with `ocicrypt-kms keygen --algorithm ECDH-ES+A256KW NAME`".into(),
        })?;
        print(set.as_bytes())
    }
}
