//! JWE compact serialisation (RFC 7516) with A256GCM content encryption (RFC 7518 section 5.3), around a content-encryption key that the
//! host wraps.
//!
//! The protected header comes from an image, so it decides nothing: `alg` must be the lent key's, `enc` is fixed, `kid` is the host's
//! to judge, and what could change the meaning (`crit`, `zip`) is refused. `jwk`, `jku`, `x5u` and `x5c` are never looked at.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key as AesKey, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ocicrypt_kms_protocol::json::{Object, quote, string};
use zeroize::Zeroizing;

use crate::keys::{Error, Host, Key, KeyInfo, WrappedKey};

/// The one content encryption algorithm: a 256-bit key, a 96-bit IV, a 128-bit tag.
const ENC: &str = "A256GCM";
const CEK_LENGTH: usize = 32;
const IV_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;

/// Encrypts `plaintext` to a compact JWE, with a fresh content-encryption key that `key` wraps.
///
/// # Errors
/// Those of the host.
pub fn encrypt<H: Host>(host: &H, key: &H::Key, info: &KeyInfo, plaintext: &[u8]) -> Result<String, Error> {
    let mut random = Zeroizing::new([0; CEK_LENGTH + IV_LENGTH]);
    host.fill_random(&mut *random);
    let (cek, iv) = random.split_at(CEK_LENGTH);
    let wrapped = key.wrap_key(cek, ENC)?;
    let header = BASE64URL.encode(header(info, &wrapped));
    let ciphertext = cipher(cek)
        .encrypt(nonce(iv), Payload { msg: plaintext, aad: header.as_bytes() })
        .map_err(|_| Error::InvalidInput("the opts data is too long".into()))?;
    let (ciphertext, tag) = ciphertext.split_at(plaintext.len());
    let mut compact = header;
    for part in [&wrapped.encrypted_key, iv, ciphertext, tag] {
        compact.push('.');
        BASE64URL.encode_string(part, &mut compact);
    }
    Ok(compact)
}

/// The protected header's text: `alg`, `enc`, the members that the host wants protected, and the URI's context.
fn header(info: &KeyInfo, wrapped: &WrappedKey) -> String {
    let mut header = ["{\"alg\":", &quote(&info.wrapping), ",\"enc\":\"", ENC, "\""].concat();
    for (name, value) in &wrapped.header {
        header.extend([",", &quote(name), ":", value]);
    }
    if !info.context.is_empty() {
        let entries: Vec<_> = info.context.iter().map(|(name, value)| [quote(name), quote(value)].join(":")).collect();
        header.extend([",\"context\":{", &entries.join(","), "}"]);
    }
    header.push('}');
    header
}

/// Decrypts a compact JWE whose content-encryption key `key` unwraps.
///
/// # Errors
/// If it is malformed, isn't for this key, or doesn't verify; and those of the host.
pub fn decrypt<K: Key>(key: &K, info: &KeyInfo, compact: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let jwe = Compact::parse(compact)?;
    check_header(info, &jwe.header)?;
    let cek = key.unwrap_key(&jwe.encrypted_key, &jwe.header)?;
    let corrupt = || Error::Corrupt("the packet does not verify with this key".into());
    if cek.len() != CEK_LENGTH {
        return Err(corrupt());
    }
    let payload = Payload { msg: &jwe.ciphertext_and_tag, aad: jwe.header_part.as_bytes() };
    let plaintext = cipher(&cek).decrypt(nonce(&jwe.iv), payload).map_err(|_| corrupt())?;
    Ok(Zeroizing::new(plaintext))
}

fn cipher(cek: &[u8]) -> Aes256Gcm {
    Aes256Gcm::new(<&AesKey<Aes256Gcm>>::try_from(cek).expect("the length was checked"))
}

fn nonce(iv: &[u8]) -> &Nonce<aes_gcm::aead::consts::U12> {
    iv.try_into().expect("the length was checked")
}

/// The parts of a compact JWE, decoded.
struct Compact<'a> {
    header_part: &'a str,
    header: String,
    encrypted_key: Vec<u8>,
    iv: Vec<u8>,
    ciphertext_and_tag: Vec<u8>,
}

impl<'a> Compact<'a> {
    fn parse(compact: &'a [u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(compact).map_err(|_| malformed("it is not text"))?;
        let parts: Vec<&str> = text.splitn(6, '.').collect();
        let &[header_part, encrypted_key, iv, ciphertext, tag] = parts.as_slice() else {
            return Err(malformed("it does not have five parts"));
        };
        let decode = |part: &str| BASE64URL.decode(part).map_err(|_| malformed("a part is not base64url"));
        let (iv, tag) = (decode(iv)?, decode(tag)?);
        if iv.len() != IV_LENGTH || tag.len() != TAG_LENGTH {
            return Err(malformed("the IV or the tag has a wrong length"));
        }
        let mut ciphertext_and_tag = decode(ciphertext)?;
        ciphertext_and_tag.extend(tag);
        let header = String::from_utf8(decode(header_part)?).map_err(|_| malformed("the header is not text"))?;
        Ok(Self { header_part, header, encrypted_key: decode(encrypted_key)?, iv, ciphertext_and_tag })
    }
}

fn check_header(info: &KeyInfo, header: &str) -> Result<(), Error> {
    let members = parse_header(header)?;
    let is = |name, expected: &str| members.get(name).and_then(string).is_some_and(|value| value == expected);
    if !is("alg", &info.wrapping) {
        return Err(malformed(&format!("`alg` is not {}, which this key wraps by", info.wrapping)));
    }
    if !is("enc", ENC) {
        return Err(malformed(&format!("`enc` is not {ENC}")));
    }
    if let Some((name, _)) = members.members().find(|(name, _)| ["crit", "zip"].contains(name)) {
        return Err(malformed(&format!("the header member `{name}` is not supported")));
    }
    if !context_matches(info, &members) {
        return Err(Error::Corrupt("the packet's context is not that of the key URI".into()));
    }
    Ok(())
}

/// Whether the header's `context` is the URI's: the same names with the same values, and absent if the URI has none.
fn context_matches(info: &KeyInfo, header: &Object<'_>) -> bool {
    let Ok(context) = header.object("context") else { return false };
    let is = |(name, value): &(String, String)| context.get(name).and_then(string).is_some_and(|given| given == *value);
    context.members().count() == info.context.len() && info.context.iter().all(is)
}

fn parse_header(header: &str) -> Result<Object<'_>, Error> {
    Object::parse(header.as_bytes()).map_err(|error| malformed(&format!("the header is {error}")))
}

/// The header members that say how a JWE was made.
///
/// # Errors
/// If it is malformed.
pub fn describe(compact: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let jwe = Compact::parse(compact)?;
    let members = parse_header(&jwe.header)?;
    let member = |name: &str| Some((name.to_owned(), string(members.get(name)?)?.into_owned()));
    Ok(["alg", "enc", "kid"].into_iter().filter_map(member).collect())
}

fn malformed(reason: &str) -> Error {
    Error::InvalidInput(format!("the packet's JWE is malformed: {reason}"))
}

#[cfg(test)]
mod tests;
