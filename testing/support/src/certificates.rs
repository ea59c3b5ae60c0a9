//! Certificates for servers and clients.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// One of this name, with a new key.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server of this name.
    pub fn server(&self, name: &str) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// A certificate for a client of this name, with these URIs.
    pub fn client(&self, name: &str, uris: &[&str]) -> Issued {
        self.client_of(name, uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())))
    }

    /// A certificate for a client of this name, with these DNS names.
    pub fn client_with_dns(&self, name: &str, dns: &[&str]) -> Issued {
        self.client_of(name, dns.iter().map(|dns| SanType::DnsName((*dns).try_into().unwrap())))
    }

    /// A certificate for a client of this name that was good in this year and before.
    pub fn client_until(&self, name: &str, year: i32) -> Issued {
        let mut params = client(name, std::iter::empty());
        params.not_after = date_time_ymd(year, 12, 31);
        self.issue(params)
    }

    /// A certificate for a client of this name that will be good from this year on.
    pub fn client_from(&self, name: &str, year: i32) -> Issued {
        let mut params = client(name, std::iter::empty());
        params.not_before = date_time_ymd(year, 1, 1);
        self.issue(params)
    }

    fn client_of(&self, name: &str, names: impl Iterator<Item = SanType>) -> Issued {
        self.issue(client(name, names))
    }

    fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn client(name: &str, names: impl Iterator<Item = SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names.collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Issued {
    /// Writes both into a folder, each by renaming, as those do who replace them under load.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let place = |extension: &str, content: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            let new = path.with_extension("new");
            std::fs::write(&new, content).unwrap();
            std::fs::rename(&new, &path).unwrap();
            path
        };
        // The key first: for a moment the two don't fit together.
        let key = place("key", &self.key);
        (place("crt", &self.certificate), key)
    }
}
