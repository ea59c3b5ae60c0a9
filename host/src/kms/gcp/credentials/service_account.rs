//! Keys of service accounts, which sign their own tokens ([AIP-4111]).
//!
//! [AIP-4111]: https://google.aip.dev/auth/4111

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use jiff::Timestamp;
use ocicrypt_kms_protocol::bytes;
use serde::Serialize;
use zeroize::Zeroizing;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::SCOPE;
use super::token::Token;
use crate::Error;

/// Clocks differ: tokens are dated back by so many seconds.
const SKEW: i64 = 10;
/// The longest that such a token may last, in seconds.
const LIFETIME: i64 = 3600;

/// A service account and its key.
pub(super) struct ServiceAccount {
    pub email: String,
    pub key_id: String,
    pub key: RsaKeyPair,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    scope: &'static str,
    iat: i64,
    exp: i64,
}

impl ServiceAccount {
    /// A token that is signed here: nobody is asked.
    pub fn token(&self, key: &str) -> Result<Token, Error> {
        let issued = Timestamp::now().as_second() - SKEW;
        let token =
            Zeroizing::new(self.signed(issued).ok_or_else(|| Error::Internal { reason: "the system gives no random numbers".into() })?);
        let lifetime = Duration::from_secs((LIFETIME - SKEW).unsigned_abs());
        Token::new(&token, lifetime).ok_or_else(|| Error::Unavailable { key: key.to_owned(), reason: "the token can't be sent".into() })
    }

    /// A JSON Web Token (RFC 7519) by RS256.
    fn signed(&self, iat: i64) -> Option<String> {
        let header = json(&Header { alg: "RS256", typ: "JWT", kid: &self.key_id });
        let claims = json(&Claims { iss: &self.email, sub: &self.email, scope: SCOPE, iat, exp: iat + LIFETIME });
        let mut signature = vec![0; self.key.public_modulus_len()];
        let text = format!("{header}.{claims}");
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        Some(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn json(part: &impl Serialize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("strings serialise"))
}

/// An RSA key in PEM, by PKCS#8 or PKCS#1. Whoever passed the file through a variable may have left `\n` in place of line ends.
pub(super) fn read_key(pem: &str) -> Option<RsaKeyPair> {
    let block = |name: &str| {
        let (_, rest) = pem.split_once(&format!("-----BEGIN {name}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {name}-----"))?;
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        let lines = body.split("\\n").flat_map(|line| line.split("\\r"));
        lines.flat_map(str::split_ascii_whitespace).for_each(|word| base64.push_str(word));
        bytes::decode(&base64)
    };
    let pkcs8 = || block("PRIVATE KEY").and_then(|der| RsaKeyPair::from_pkcs8(&der).ok());
    pkcs8().or_else(|| block("RSA PRIVATE KEY").and_then(|der| RsaKeyPair::from_der(&der).ok()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;

    use super::*;

    fn pem(newline: &str) -> String {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let text = bytes::encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        ["-----BEGIN PRIVATE KEY-----", &lines.join(newline), "-----END PRIVATE KEY-----", ""].join(newline)
    }

    #[test]
    fn a_key_reads_with_line_ends_however_they_are_spelled() {
        for newline in ["\n", "\r\n", "\\n", "\\r\\n", " "] {
            assert!(read_key(&pem(newline)).is_some(), "{newline:?}");
        }
        let whole = pem("\n");
        for other in ["", "SECRET", &whole.replace("PRIVATE", "PUBLIC"), &whole.replace("END", "BEGIN"), &whole[..200]] {
            assert!(read_key(other).is_none());
        }
    }

    #[test]
    fn a_token_says_who_signed_it_and_what_it_is_for() {
        let key = read_key(&pem("\n")).unwrap();
        let public = key.public_key().as_ref().to_vec();
        let account = ServiceAccount { email: "a@p.iam.gserviceaccount.com".into(), key_id: "id".into(), key };
        let token = account.signed(1_000_000).unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        let verifier = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256, public);
        verifier.verify(text.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(text.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["iat"], &claims["exp"], &claims["scope"]), (&1_000_000.into(), &1_003_600.into(), &SCOPE.into()));
    }
}
