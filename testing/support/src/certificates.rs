//! Certificates for servers and clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// The next certificate's serial number.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its own certificate's serial number.
    pub serial: u64,
    /// The certificates between it and its root, its own first, in PEM.
    between: String,
}

/// A certificate and its key, in PEM.
pub struct Issued {
    /// The certificate, and those between it and its root.
    pub certificate: String,
    /// The private key.
    pub key: String,
    /// Its serial number.
    pub serial: u64,
}

/// A name of a client's certificate that isn't its subject.
pub use rcgen::SanType as Name;

impl Authority {
    /// One of this name, with a new key.
    pub fn new(name: &str) -> Self {
        let (params, serial) = authority(name);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(), serial, between: String::new() }
    }

    /// One below this one.
    pub fn below(&self, name: &str) -> Self {
        let (params, serial) = authority(name);
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap();
        Self { between: issuer.pem() + &self.between, issuer, serial }
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A list, in PEM, that revokes the certificates with these serial numbers and is good for so long.
    pub fn revoking(&self, serials: &[u64], lasting: Duration) -> String {
        self.list(serials, SystemTime::now() + lasting)
    }

    /// A list that has expired.
    pub fn expired_list(&self, serials: &[u64]) -> String {
        self.list(serials, SystemTime::now() - Duration::from_secs(60))
    }

    fn list(&self, serials: &[u64], next_update: SystemTime) -> String {
        let revoked = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A certificate for a server of this name.
    pub fn server(&self, name: &str) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// A certificate for a server of this name that was good until the end of this year.
    pub fn server_until(&self, name: &str, year: i32) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        self.issue(params)
    }

    /// A certificate for a server of this name that will be good from this year on.
    pub fn server_from(&self, name: &str, year: i32) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(year, 1, 1);
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

    /// A certificate for a client of this name that is good for so long.
    pub fn client_lasting(&self, name: &str, lasting: Duration) -> Issued {
        let mut params = client(name, std::iter::empty());
        params.not_after = (SystemTime::now() + lasting).into();
        self.issue(params)
    }

    /// A certificate for a client of this name, with these further ones.
    pub fn client_named(&self, name: &str, names: Vec<Name>) -> Issued {
        self.client_of(name, names.into_iter())
    }

    fn client_of(&self, name: &str, names: impl Iterator<Item = SanType>) -> Issued {
        self.issue(client(name, names))
    }

    fn issue(&self, mut params: CertificateParams) -> Issued {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem() + &self.between, key: key.serialize_pem(), serial }
    }
}

fn authority(name: &str) -> (CertificateParams, u64) {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    (params, serial)
}

fn client(name: &str, names: impl Iterator<Item = SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names.collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// What `openssl req -x509` makes for a server of this name: a certificate of an authority that vouches for itself, with whatever else is asked for.
pub fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Issued { certificate: certificate.pem(), key: key.serialize_pem(), serial }
}

/// For [`self_signed`].
pub use rcgen::{ExtendedKeyUsagePurpose as Purpose, KeyUsagePurpose as Usage, date_time_ymd as beginning_of};

impl Issued {
    /// TLS of a server with this certificate.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.config(Arc::new(NoClientAuth))
    }

    /// The same, for clients of this authority alone.
    pub fn mutual_config(&self, clients: &Authority) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.certificate().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        self.config(WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap())
    }

    fn config(&self, clients: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap())
    }

    /// Writes both into a folder, each by renaming, as those do who replace them under load.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let place = |extension: &str, content: &str| {
            let path = folder.join(format!("{name}.{extension}"));
            let new = path.with_extension("new");
            std::fs::write(&new, content).unwrap();
            let mode = if extension == "key" { 0o600 } else { 0o644 };
            std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            std::fs::rename(&new, &path).unwrap();
            path
        };
        // The key first: for a moment the two don't fit together.
        let key = place("key", &self.key);
        (place("crt", &self.certificate), key)
    }
}
