//! What an answer of Key Vault must show before what it holds is used.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ocicrypt_kms_protocol::json::{Object, string};
use zeroize::Zeroizing;

use crate::Error;
use crate::error::printable;
use crate::key_uri::AzureKey;

/// Bytes that the service sends and wants (RFC 4648 section 5, without padding).
pub const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What an answer has to be of.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The key's URI.
    pub uri: &'a str,
    pub name: &'a AzureKey,
    /// The version that was asked for; without, it is the service's choice.
    pub version: Option<&'a str>,
}

impl Asked<'_> {
    /// The version that did it and the bytes that came of it. The answer must be this key's, and if a version was asked for, that one's.
    pub fn read(&self, body: &[u8]) -> Result<(String, Zeroizing<Vec<u8>>), Error> {
        let answer = Object::parse(body).map_err(|error| self.damaged(&format!("it is {error}")))?;
        let kid = answer.get("kid").and_then(string).unwrap_or_default();
        let version = version_of(self.name, &kid).filter(|version| self.version.is_none_or(|asked| asked == version));
        let version = version.ok_or_else(|| self.damaged(&format!("it is of another key, `{}`", printable(&kid, 256))))?;
        let value = answer.get("value").and_then(string).map(|text| Zeroizing::new(text.into_owned()));
        let bytes = value.and_then(|value| BASE64_URL.decode(value.as_bytes()).ok()).map(Zeroizing::new);
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => Ok((version, bytes)),
            None => Err(self.damaged("it holds no `value`")),
        }
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.to_owned(), reason: format!("Key Vault's answer can't be trusted: {reason}") }
    }
}

/// The beginning of the [identifiers] of this key's versions.
///
/// [identifiers]: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#object-identifiers
pub fn identifier(name: &AzureKey) -> String {
    format!("https://{}/keys/{}/", name.host, name.key)
}

/// The version that a key identifier names, if it is one of this key, and the one that the URI names if it names one.
pub fn version_of(name: &AzureKey, kid: &str) -> Option<String> {
    let kid = kid.to_ascii_lowercase();
    let version = kid.strip_prefix(&identifier(name))?;
    let is_version = version.len() == 32 && version.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_asked = name.version.as_deref().is_none_or(|asked| asked == version);
    (is_version && is_asked).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_uri::{Addresses, Key, KeyUri};

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    fn key(uri: &str) -> AzureKey {
        match KeyUri::parse(uri, &Addresses::default()).unwrap().key() {
            Key::Azure(key) => key.clone(),
            _ => unreachable!(),
        }
    }

    #[test]
    fn a_key_identifier_is_of_this_key_only_if_all_of_it_is() {
        let name = key("azurekms://team.vault.azure.net/k");
        let good = format!("https://team.vault.azure.net/keys/k/{VERSION}");
        assert_eq!(version_of(&name, &good).as_deref(), Some(VERSION));
        assert_eq!(version_of(&name, &good.to_ascii_uppercase()).as_deref(), Some(VERSION));
        for bad in [
            "",
            VERSION,
            "https://team.vault.azure.net/keys/k",
            "https://team.vault.azure.net/keys/k/",
            &good[..good.len() - 1],
            &format!("{good}0"),
            &format!("{good}/"),
            &format!("{good}?a=b"),
            &good.replace("https", "http"),
            &good.replace("team", "other"),
            &good.replace("vault.azure.net", "vault.azure.net.example.com"),
            &good.replace("azure.net/", "azure.net:443/"),
            &good.replace("/k/", "/k2/"),
            &good.replace("/keys/", "/secrets/"),
            &format!("https://team.vault.azure.net/keys/k/../../keys/other/{VERSION}"),
            &good.replace("0123456789abcdef0", "../../secrets/abc"),
        ] {
            assert_eq!(version_of(&name, bad), None, "{bad}");
        }
        let named = key(&format!("azurekms://team.vault.azure.net/k/{VERSION}"));
        assert_eq!(version_of(&named, &good).as_deref(), Some(VERSION));
        assert_eq!(version_of(&named, &good.replace("0123456789abcdef", "1123456789abcdef")), None);
    }
}
