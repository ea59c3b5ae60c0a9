//! `hashivault://…`, `openbao://…`: keys of the transit engine of HashiCorp Vault and OpenBao ([`encrypt`], [`decrypt`]).
//!
//! A key that encrypts with authentication makes its own ciphertext of the opts data. An RSA key (`?algorithm=RSA-OAEP-256`) wraps the
//! content-encryption key of a JWE.
//!
//! Nothing is asked of the server but these two operations and, where it is configured, a login: what a key is shows in what it answers.
//!
//! [`encrypt`]: https://openbao.org/api-docs/secret/transit/#encrypt-data
//! [`decrypt`]: https://openbao.org/api-docs/secret/transit/#decrypt-data

mod address;
mod answer;
mod credentials;
mod refusal;
mod server;
mod session;
mod settings;
mod transit;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use ocicrypt_kms_protocol::Operation;

use self::session::Session;
use self::settings::Settings;
use self::transit::{AeadKey, RsaKey, Transit};
use super::{KeyService, OpenKey};
use crate::key_uri::{Algorithm, Key, KeyUri, VaultFlavour};
use crate::{Environment, Error, config};

/// The transit engine as a service.
pub struct Vault {
    hashivault: Arc<Session>,
    openbao: Arc<Session>,
}

impl Vault {
    /// The servers that `VAULT_ADDR` (for `hashivault://`) and `BAO_ADDR` (for `openbao://`) name, each in place of the other if that is
    /// missing, or else the configuration. Credentials and certificates are found in the same way, and not read before a key is used.
    #[must_use]
    pub fn new(environment: &Environment, config: &config::Vault) -> Self {
        let session = |flavour| Arc::new(Session::new(&Settings { flavour, environment, config }));
        Self { hashivault: session(VaultFlavour::HashiVault), openbao: session(VaultFlavour::OpenBao) }
    }
}

/// The name of the host that `hcvault://HOST/…` may name: the one where keys of `hashivault://…` are.
#[must_use]
pub fn host(environment: &Environment, config: &config::Vault) -> Option<String> {
    let settings = Settings { flavour: VaultFlavour::HashiVault, environment, config };
    let address = settings.address().ok()??;
    // A socket's host is only a name.
    if address.socket.is_some() { None } else { address.url.host_str().map(str::to_owned) }
}

#[async_trait]
impl KeyService for Vault {
    async fn open(&self, uri: &KeyUri, _: Operation, deadline: Instant) -> Result<OpenKey, Error> {
        let Key::Vault(name) = uri.key() else { unreachable!("{uri} was given to Vault") };
        let session = match name.flavour {
            VaultFlavour::OpenBao => &self.openbao,
            VaultFlavour::HashiVault => &self.hashivault,
        };
        session.check(uri.canonical())?;
        let transit = Transit { session: session.clone(), uri: uri.canonical().to_owned(), name: name.clone(), deadline };
        match uri.algorithm() {
            None => Ok(OpenKey::Cipher(Box::new(AeadKey::new(transit, uri.context())))),
            Some(Algorithm::RsaOaep256) if uri.context().is_empty() => Ok(OpenKey::KeyWrap(Box::new(RsaKey::new(transit)))),
            Some(Algorithm::RsaOaep256) => Err(Error::InvalidInput {
                reason: format!("{uri}: an RSA key of Vault can't bind an encryption context"),
                hint: "leave context_… out of the URI, or name a key of the type aes256-gcm96, without `algorithm`".into(),
            }),
            Some(algorithm) => Err(Error::InvalidInput {
                reason: format!("{uri}: keys of Vault don't wrap by {algorithm}"),
                hint: "leave `algorithm` out of the URI, or write algorithm=RSA-OAEP-256 for an RSA key".into(),
            }),
        }
    }
}
