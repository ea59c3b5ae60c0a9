//! What the server says when it says no, with the remedy.

use ocicrypt_kms_protocol::Operation;

use super::super::http::Answer;
use super::server::{errors, is_busy};
use super::transit::NO_TYPE;
use crate::Error;
use crate::key_uri::{VaultFlavour, VaultKey};

/// One operation that was refused.
pub(super) struct Refusal<'a> {
    /// The key's URI.
    pub key: &'a str,
    pub name: &'a VaultKey,
    pub operation: Operation,
    /// The version in the ciphertext that was to be decrypted.
    pub version: Option<u32>,
}

/// The command line program of a product, for hints.
pub(super) fn program(flavour: VaultFlavour) -> &'static str {
    match flavour {
        VaultFlavour::HashiVault => "vault",
        VaultFlavour::OpenBao => "bao",
    }
}

/// The status, and its name in place of the code that Vault's errors don't have.
pub(super) fn status(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.status.canonical_reason().unwrap_or("error").to_owned())
}

/// The server can't serve now.
pub(super) fn busy(key: &str, answer: &Answer, message: &str) -> Error {
    let sealed = if message.contains("sealed") { " (`vault operator unseal` or `bao operator unseal` opens it)" } else { "" };
    Error::Busy { key: key.to_owned(), status: answer.status.as_u16(), message: format!("{message}{sealed}") }
}

impl Refusal<'_> {
    /// The error of an answer that isn't a success.
    pub fn error(&self, answer: &Answer) -> Error {
        let message = errors(&answer.body);
        let (status, code) = status(answer);
        if is_busy(answer) {
            return busy(self.key, answer, if message.is_empty() { &code } else { &message });
        }
        let hint = self.hint(status, &message);
        Error::Kms { key: self.key.to_owned(), status, code, message, hint }
    }

    fn hint(&self, status: u16, message: &str) -> String {
        let VaultKey { flavour, mount, key } = self.name;
        let program = program(*flavour);
        let says = |text: &str| message.contains(text);
        match status {
            403 => self.permission(),
            404 | 405 => {
                format!("check that a transit engine is mounted at {mount}/ (`{program} secrets list`), and the namespace if there are any")
            }
            _ if says("key derivation") => "the key was created with derived=true, which is not supported; name another key".into(),
            _ if says("non-AEAD") => "a key of this type can't bind an encryption context; leave context_… out of the URI".into(),
            _ if says("too long for RSA") => "add ?algorithm=RSA-OAEP-256 to the key's URI".into(),
            _ if says("not supported for key type") => "name a key that encrypts, such as one of the type aes256-gcm96".into(),
            _ if says("key not found") || says(NO_TYPE) => {
                format!("check the key's name, or create it: {program} write -f {mount}/keys/{key}")
            }
            _ if says("soft-deleted") => format!("restore the key: {program} write -f {mount}/keys/{key}/soft-delete-restore"),
            _ if says("too old") => self.too_old(),
            _ if self.operation == Operation::Unwrap => {
                "the packet was not made by this key, or with another encryption context (context_… in the key URI)".into()
            }
            _ => "see the service's message".into(),
        }
    }

    /// Whoever may not see what is there is told the same for a mount that is missing, and without `create` also for a key that is.
    fn permission(&self) -> String {
        let VaultKey { flavour, mount, key } = self.name;
        let (verb, missing) = match self.operation {
            Operation::Wrap => ("encrypt", format!(" (a key that is missing: {} write -f {mount}/keys/{key})", program(*flavour))),
            Operation::Unwrap => ("decrypt", String::new()),
        };
        format!(
            "check that the mount {mount}/ and the key {key} exist{missing}, that the token has not expired, and that it has a policy with \
             path \"{mount}/{verb}/{key}\" {{ capabilities = [\"update\"] }}"
        )
    }

    fn too_old(&self) -> String {
        let VaultKey { flavour, mount, key } = self.name;
        let version = self.version.map_or_else(|| "VERSION".to_owned(), |version| version.to_string());
        format!(
            "the packet's version of the key is below the key's min_decryption_version; encrypt the image anew, or allow the version again: \
             {} write {mount}/keys/{key}/config min_decryption_version={version}",
            program(*flavour)
        )
    }
}
