//! The service account's key, and assertions signed with it (RFC 7519, RS256).

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::identity::hex;
use super::keys::random;

const MAX_LIFETIME: u64 = 3600;
/// Clocks differ. Google's own libraries date their assertions back by 10 s and let them live 10 s longer.
const SKEW: u64 = 30;

pub(super) struct ServiceKey {
    pub(super) id: String,
    pub(super) private_pem: String,
    public: Vec<u8>,
}

pub(super) struct Claims(Value);

impl Claims {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

impl ServiceKey {
    pub(super) fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("an RSA key has a PKCS#8 form");
        let mut id = [0; 20];
        random(&mut id);
        Self { id: hex(&id), private_pem: pem(der.as_ref()), public: pair.public_key().as_ref().to_vec() }
    }

    /// The claims of an assertion that this key signed for `issuer`, and that is valid now.
    pub(super) fn verify(&self, assertion: &str, issuer: &str) -> Result<Claims, &'static str> {
        const MALFORMED: &str = "Invalid JWT: the assertion is not well formed.";
        let (signed, signature) = assertion.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
        let header = decode(header).ok_or(MALFORMED)?;
        if header["alg"] != "RS256" || header["kid"] != self.id.as_str() {
            return Err("Invalid JWT Signature.");
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "Invalid JWT Signature.")?;
        let claims = decode(claims).ok_or(MALFORMED)?;
        if claims["iss"] != issuer {
            return Err("Invalid grant: account not found");
        }
        check_times(&claims)?;
        Ok(Claims(claims))
    }
}

fn check_times(claims: &Value) -> Result<(), &'static str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_secs();
    match (claims["iat"].as_u64(), claims["exp"].as_u64()) {
        (Some(issued), Some(expires)) if issued <= now + SKEW && now < expires && expires.saturating_sub(issued) <= MAX_LIFETIME + SKEW => {
            Ok(())
        }
        _ => Err("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check \
                  your iat and exp values in the JWT claim."),
    }
}

fn decode(part: &str) -> Option<Value> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok().filter(Value::is_object)
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem + "-----END PRIVATE KEY-----\n"
}
