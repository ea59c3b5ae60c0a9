//! What an application signs with its certificate
//! (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>).

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

/// The longest that an assertion may be good for, in seconds.
const MAX_LIFETIME: u64 = 600;

/// A certificate that an application has.
pub(super) struct Trusted {
    thumbprint: String,
    public_key: Vec<u8>,
}

impl Trusted {
    pub(super) fn new(certificate: &[u8], public_key: &[u8]) -> Self {
        Self { thumbprint: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate)), public_key: public_key.to_vec() }
    }

    /// Why an assertion of this client for this endpoint isn't accepted, if it isn't: the number and the words.
    pub(super) fn refuses(&self, assertion: &str, client: &str, endpoint: &str) -> Option<(u32, &'static str)> {
        const MALFORMED: (u32, &str) = (50027, "JWT token is invalid or malformed.");
        let Some((signed, signature)) = assertion.rsplit_once('.') else { return Some(MALFORMED) };
        let Some((header, claims)) = signed.split_once('.') else { return Some(MALFORMED) };
        let (Some(header), Some(claims)) = (decode(header), decode(claims)) else { return Some(MALFORMED) };
        if header["x5t#S256"] != self.thumbprint.as_str() {
            return Some((700027, "The certificate with identifier used to sign the client assertion is not registered on application."));
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &self.public_key);
        if header["alg"] != "PS256" || key.verify(signed.as_bytes(), &signature).is_err() {
            return Some((700027, "Client assertion failed signature validation."));
        }
        if claims["aud"] != endpoint || claims["iss"] != client || claims["sub"] != client || !claims["jti"].is_string() {
            return Some((700023, "Client assertion audience claim does not match Realm issuer."));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_secs();
        match (claims["nbf"].as_u64(), claims["exp"].as_u64()) {
            (Some(from), Some(until)) if from <= now + 1 && now < until && until - from <= MAX_LIFETIME => None,
            _ => Some((700024, "Client assertion is not within its valid time range.")),
        }
    }
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
