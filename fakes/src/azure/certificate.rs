//! A certificate authority that exists for one test, and a certificate for Azure's names.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Names that clients reach the fake by: the vaults' and HSMs', who gives out tokens, and the fake's own.
const NAMES: [&str; 5] = ["*.vault.azure.net", "*.managedhsm.azure.net", "login.microsoftonline.com", "localhost", "127.0.0.1"];

/// A certificate with its key, and the authority that signed it.
pub struct Certificate {
    /// What clients have to trust, in PEM.
    pub authority_pem: String,
    pub(super) chain_pem: String,
    pub(super) key_pem: String,
}

impl Certificate {
    /// A new authority, whose key is thrown away, and a certificate that it signed.
    pub fn generate() -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Named, because a certificate whose issuer has its own name passes for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("a certificate");
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(NAMES.map(str::to_owned)).expect("names");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        Self { authority_pem: authority.pem(), chain_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}
