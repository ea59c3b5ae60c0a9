//! What an answer of the engine has to look like.
//!
//! The engine doesn't say of what type a key is, unless it is asked, which takes another round trip and another permission. How much
//! longer a ciphertext is than its plaintext shows it: nonce and tag of an authenticated cipher are 28 or 40 bytes, and what an RSA key
//! makes is as long as its modulus.

use std::time::Duration;

use ocicrypt_kms_protocol::bytes;
use ocicrypt_kms_protocol::json::{Object, string};
use zeroize::Zeroizing;

use crate::Error;

/// Nonce and tag of AES-GCM and ChaCha20-Poly1305 (12 and 16 bytes), and of XChaCha20-Poly1305 (24 and 16).
const AEAD_OVERHEAD: [usize; 2] = [12 + 16, 24 + 16];
/// The shortest ciphertext of the engine's RSA keys, which have 2048 bits or more.
pub const RSA_LENGTH: usize = 2048 / 8;
/// What the engine answers where a server doesn't know a parameter.
const IGNORED: &str = "associated_data";

/// What an answer has to be of.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The key's URI.
    pub uri: &'a str,
    /// Whether associated data was sent.
    pub bound: bool,
}

impl Asked<'_> {
    /// The ciphertext of an answer to `encrypt`, as it is spelled and taken apart.
    pub fn encrypted(&self, body: &[u8]) -> Result<(String, Ciphertext), Error> {
        let text = self.data(body)?.get("ciphertext").and_then(string).map(|text| text.into_owned());
        let text = text.ok_or_else(|| self.untrusted("it holds no `ciphertext`"))?;
        let ciphertext = Ciphertext::parse(&text).ok_or_else(|| self.untrusted("its `ciphertext` is not of the form `vault:vN:…`"))?;
        Ok((text, ciphertext))
    }

    /// The plaintext of an answer to `decrypt`.
    pub fn decrypted(&self, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let plaintext = self.data(body)?.get("plaintext").and_then(bytes::read);
        plaintext.ok_or_else(|| self.untrusted("it holds no `plaintext`"))
    }

    fn data<'b>(&self, body: &'b [u8]) -> Result<Object<'b>, Error> {
        let broken = |error| self.untrusted(&format!("it is {error}"));
        let outer = Object::parse(body).map_err(broken)?;
        self.check_bound(&outer)?;
        outer.object("data").cloned().map_err(broken)
    }

    /// Servers before Vault 1.13 don't know associated data. They would leave it out, with no more than a warning.
    fn check_bound(&self, outer: &Object<'_>) -> Result<(), Error> {
        let ignored = outer.get("warnings").is_some_and(|warnings| warnings.text().contains(IGNORED));
        match self.bound && ignored {
            true => Err(Error::InvalidInput {
                reason: format!("{}: the server does not know associated data, so it can't bind an encryption context", self.uri),
                hint: "use Vault 1.13, OpenBao 2.0 or newer, or leave context_… out of the URI".into(),
            }),
            false => Ok(()),
        }
    }

    fn untrusted(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.to_owned(), reason: format!("Vault's answer can't be used: {reason}") }
    }
}

/// `vault:vN:…`
pub struct Ciphertext {
    pub version: u32,
    pub bytes: Vec<u8>,
}

impl Ciphertext {
    /// Reads it in the one spelling that [`Ciphertext::to_text`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, encoded) = text.strip_prefix("vault:v")?.split_once(':')?;
        let read = Self { version: parse_version(version)?, bytes: bytes::decode(encoded)?.to_vec() };
        (read.to_text() == text).then_some(read)
    }

    pub fn to_text(&self) -> String {
        format!("vault:v{}:{}", self.version, bytes::encode(&self.bytes))
    }

    /// Whether it is one of a key that encrypts with authentication, as `key` says.
    pub fn check_aead(&self, key: &str, plaintext: &[u8]) -> Result<(), Error> {
        let overhead = self.bytes.len().checked_sub(plaintext.len());
        match overhead.is_some_and(|overhead| AEAD_OVERHEAD.contains(&overhead)) {
            true => Ok(()),
            false => Err(other_type(
                key,
                "does not encrypt with authentication",
                "for an RSA key, add ?algorithm=RSA-OAEP-256 to the URI; else name a key of the type aes256-gcm96",
            )),
        }
    }

    /// Whether it can be one of an RSA key, as `key` says.
    pub fn check_rsa(&self, key: &str) -> Result<(), Error> {
        match self.bytes.len() >= RSA_LENGTH {
            true => Ok(()),
            false => Err(other_type(key, "is not an RSA key", "leave `algorithm` out of the URI, or name an RSA key")),
        }
    }
}

/// The key is not of the type that its URI says.
fn other_type(key: &str, is: &str, hint: &str) -> Error {
    Error::InvalidInput { reason: format!("{key}: the key {is}"), hint: hint.to_owned() }
}

/// A version as a decimal number from 1, without anything else.
pub fn parse_version(text: &str) -> Option<u32> {
    text.parse().ok().filter(|version: &u32| *version > 0 && version.to_string() == text)
}

/// What a login gave.
pub struct Auth {
    /// A token, if there is one; of whatever characters.
    pub token: Option<Zeroizing<Vec<u8>>>,
    /// How long it lasts. None: it does not expire.
    pub lease: Option<Duration>,
    /// Whether it is good for as many requests as one likes.
    pub reusable: bool,
}

/// Reads an answer to a login.
pub fn auth(body: &[u8]) -> Auth {
    let outer = Object::parse(body).unwrap_or_default();
    let auth = outer.object("auth").unwrap_or_default();
    // What is there and can't be read is none of the usual numbers.
    let number = |name| auth.get(name).map_or(Some(0), |value| value.text().parse::<u32>().ok());
    let token = auth.get("client_token").and_then(string).map(|text| Zeroizing::new(text.into_owned().into_bytes()));
    // 0 seconds: it does not expire; 0 uses: as many as one likes.
    let (lease, uses) = (number("lease_duration"), number("num_uses"));
    let reusable = lease.is_some() && uses == Some(0);
    Auth { token, lease: lease.filter(|&seconds| seconds > 0).map(|seconds| Duration::from_secs(seconds.into())), reusable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_whose_lease_or_uses_are_absurd_is_not_kept() {
        let auth = |lease: &str, uses: &str| {
            auth(format!(r#"{{"auth":{{"client_token":"t","lease_duration":{lease},"num_uses":{uses}}}}}"#).as_bytes())
        };
        assert!(auth("0", "0").reusable && auth("4294967295", "0").reusable && !auth("3600", "1").reusable);
        for absurd in ["4294967296", "18446744073709551615", "18446744073709551616", "-1", "0.5", "1e400", "\"3600\"", "[]"] {
            let (by_lease, by_uses) = (auth(absurd, "0"), auth("3600", absurd));
            assert!(!by_lease.reusable && by_lease.lease.is_none() && !by_uses.reusable, "{absurd}");
        }
    }

    #[test]
    fn ciphertexts_are_read_in_one_spelling() {
        let read = Ciphertext::parse("vault:v12:AAEC").unwrap();
        assert_eq!((read.version, read.bytes.as_slice(), read.to_text().as_str()), (12, &[0, 1, 2][..], "vault:v12:AAEC"));
        for other in [
            "",
            "vault:v1",
            "vault:1:AAEC",
            "vault:v0:AAEC",
            "vault:v01:AAEC",
            "vault:v+1:AAEC",
            "vault:v1:A*",
            "vault:v1:AA",
            "v1:AAEC",
            "vault:v4294967296:AA==",
        ] {
            assert!(Ciphertext::parse(other).is_none(), "{other}");
        }
    }
}
