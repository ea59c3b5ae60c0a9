//! A client's certificate as a credential: it signs an [assertion] of who it is, in place of a client secret.
//!
//! `azure_identity` has this, too, but by way of OpenSSL, and for PKCS#12 alone.
//!
//! [assertion]: https://learn.microsoft.com/entra/identity-platform/certificate-credentials

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair, RSA_PSS_SHA256, RsaKeyPair};
use azure_core::error::ErrorKind;
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::trusted_file::{self, Trust};
use crate::{Error, shown};

/// The most bytes of the file: a key and a chain of certificates.
const MAX_LENGTH: usize = 64 << 10;
/// How long an assertion is good for, in seconds: one request.
const LIFETIME: u64 = 300;
/// What errors call the file.
const FILE: &str = "the client certificate in";

/// An application that proves itself by a certificate.
pub(super) struct Application {
    /// Its id.
    pub client: String,
    /// The address at which its tokens are given out.
    pub endpoint: Url,
    /// Where the certificate and its private key are. They are read for each assertion, so that something else may renew them.
    pub file: PathBuf,
    /// Whether the certificates go along, as an application needs that trusts an authority and a name in place of one certificate.
    pub sends_chain: bool,
}

/// What a file holds.
struct Certificate {
    key: RsaKeyPair,
    /// In DER; the key's own first.
    chain: Vec<Vec<u8>>,
}

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
    #[serde(rename = "x5c", skip_serializing_if = "Vec::is_empty")]
    chain: Vec<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: u64,
    iat: u64,
    exp: u64,
}

/// Whether a file can be signed with.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn check(file: &Path) -> Result<(), Error> {
    Certificate::read(file).map(drop)
}

impl Application {
    fn assertion(&self, now: u64) -> Result<String, Error> {
        let Certificate { key, chain } = Certificate::read(&self.file)?;
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&chain[0]));
        let chain = if self.sends_chain { chain.iter().map(|certificate| STANDARD.encode(certificate)).collect() } else { Vec::new() };
        let client = self.client.as_str();
        let claims =
            Claims { aud: self.endpoint.as_str(), iss: client, sub: client, jti: drawn()?, nbf: now, iat: now, exp: now + LIFETIME };
        let signed = format!("{}.{}", part(&Header { alg: "PS256", typ: "JWT", thumbprint, chain }), part(&claims));
        let mut signature = vec![0; key.public_modulus_len()];
        let failed = |_| wrong(&self.file, "its key can't sign");
        key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).map_err(failed)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Not derived: an assertion is made of what is in the file, of which nothing is shown.
impl fmt::Debug for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Application").field("client", &self.client).finish_non_exhaustive()
    }
}

#[async_trait]
impl ClientAssertion for Application {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.assertion(now).map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))
    }
}

impl Certificate {
    fn read(file: &Path) -> Result<Self, Error> {
        let text = trusted_file::read(file, Trust::Credential, MAX_LENGTH).map_err(|untrusted| untrusted.error(FILE, file))?;
        Self::parse(&text).map_err(|reason| wrong(file, &reason.replace("FILE", &shown::path(file).to_string())))
    }

    /// Reads PEM: a private key and certificates in any order, with any text between them. `FILE` in an error stands for the path.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let has = |needle: &str| text.windows(needle.len()).any(|window| window == needle.as_bytes());
        if !has("-----BEGIN") {
            return Err("it is not PEM; if it is PKCS#12 (.pfx, .p12), convert it: openssl pkcs12 -in FILE -nodes -out FILE.pem".into());
        }
        if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
            let decrypt = "openssl pkey -in FILE -out key.pem, and put key.pem and the certificate into one file";
            return Err(format!(
                "its private key is encrypted, which is not supported (nor is AZURE_CLIENT_CERTIFICATE_PASSWORD); decrypt it: {decrypt}"
            ));
        }
        let (mut keys, mut chain) = (Vec::new(), Vec::new());
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|_| "its PEM is damaged".to_owned())?;
            match kind {
                SectionKind::Certificate => chain.push(der),
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => keys.push((kind, Zeroizing::new(der))),
                _ => {}
            }
        }
        let (kind, der) = keys.pop().ok_or("it has no private key; put the certificate and its key into one file, in PEM")?;
        let key = if kind == SectionKind::RsaPrivateKey { RsaKeyPair::from_der(&der) } else { RsaKeyPair::from_pkcs8(&der) };
        let key = key.map_err(|_| "its private key is not one of RSA with 2048 bits or more, the only kind that Microsoft Entra takes")?;
        // The public key's encoding is a part of its certificate's.
        let public = key.public_key().as_ref();
        let own = chain.iter().position(|certificate: &Vec<u8>| certificate.windows(public.len()).any(|window| window == public));
        let own = own.ok_or("it has no certificate of its private key; put the two that belong together into one file, in PEM")?;
        let own = chain.remove(own);
        chain.insert(0, own);
        Ok(Self { key, chain })
    }
}

fn wrong(file: &Path, reason: &str) -> Error {
    Error::Configuration { place: format!("{FILE} {}", shown::path(file)), reason: reason.to_owned() }
}

/// A part of a JWT.
fn part(value: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).expect("strings and numbers serialise"))
}

/// An id that no other assertion has.
fn drawn() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal { reason: format!("the system has no random bytes: {error}") })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
