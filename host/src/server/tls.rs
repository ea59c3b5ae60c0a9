//! TLS with client certificates: what the server shows, whom it trusts, and the names in what clients show.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::connection::GREETING;
use crate::Error;
use crate::caller::Identity;
use crate::error::printable;

/// How often the files are looked at.
const REFRESH: Duration = Duration::from_secs(2);
/// The longest name that is taken from a certificate.
const MAX_NAME: usize = 256;
/// The most DNS names that are taken from a certificate.
const MAX_NAMES: usize = 16;

/// The files that TLS is made of, all in PEM.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
}

/// What new connections are greeted with. Read anew when a file changes; connections that stand are not touched.
pub(super) struct Tls {
    files: Files,
    current: RwLock<(Arc<ServerConfig>, Stamp)>,
}

/// Tells whether a file is another than before: Kubernetes replaces a link, others write or rename.
type Stamp = [Option<(u64, u64, SystemTime)>; 3];

impl Tls {
    pub fn load(files: Files) -> Result<Self, Error> {
        // The stamp first: a file that changes while it is read is read again.
        let stamp = files.stamp();
        let config = files.read()?;
        Ok(Self { files, current: RwLock::new((config, stamp)) })
    }

    /// Reads the files anew if they changed, or anyhow if `asked`. While they don't fit together, the old ones stay.
    pub fn refresh(&self, asked: bool) -> Result<bool, Error> {
        let stamp = self.files.stamp();
        if !asked && self.current().1 == stamp {
            return Ok(false);
        }
        // The stamp also where they don't fit: they are complained of once, and read again when they change again.
        let read = self.files.read();
        let mut current = self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.1 = stamp;
        current.0 = read?;
        Ok(true)
    }

    /// Looks at the files from time to time, and when asked.
    pub async fn keep_fresh(self: Arc<Self>, reload: Arc<Notify>) {
        loop {
            let asked = tokio::time::timeout(REFRESH, reload.notified()).await.is_ok();
            match self.refresh(asked) {
                Ok(true) => tracing::info!(certificate = %self.files.certificate.display(), "new connections get the new certificates"),
                Ok(false) => {}
                Err(error) => tracing::error!(error = error.line(), "the certificates stay as they were"),
            }
        }
    }

    fn current(&self) -> (Arc<ServerConfig>, Stamp) {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Greets a client, and tells who it is.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, Identity)> {
        let acceptor = TlsAcceptor::from(self.current().0);
        let stream = tokio::time::timeout(GREETING, acceptor.accept(stream)).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let identity = certificate.and_then(|certificate| identity(certificate));
        identity.map(|identity| (stream, identity)).ok_or_else(|| std::io::Error::other("the client's certificate can't be read"))
    }
}

impl Files {
    fn stamp(&self) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        [&self.certificate, &self.key, &self.client_ca].map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.len(), file.modified().ok()?))
        })
    }

    fn read(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.client_ca)? {
            roots.add(certificate).map_err(|error| unusable(&self.client_ca, &error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let verifier = verifier.build().map_err(|error| unusable(&self.client_ca, &error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, &error))?;
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(&self.certificate, &error))?.with_client_cert_verifier(verifier);
        let config = builder.with_single_cert(certificates(&self.certificate)?, key);
        let mut config = config.map_err(|error| unusable(&self.certificate, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show its certificate again, and so outlive a CA that was taken out. Go's clients resume none.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().map_err(|error| unusable(path, &error))?;
    match certificates.is_empty() {
        true => Err(unusable(path, &"there is no certificate in it")),
        false => Ok(certificates),
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Configuration { place: path.display().to_string(), reason: format!("the file can't be used for TLS: {error}") }
}

/// The names in a certificate that was verified.
fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = |text: &str| printable(text, MAX_NAME);
    let names = certificate.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
    let names = || names.iter().flat_map(|names| names.iter());
    let dns = names().filter_map(|general| if let GeneralName::DNSName(dns) = general { Some(name(dns)) } else { None });
    // X.509-SVID section 2: a certificate with several URIs is no SPIFFE identity.
    let mut uris = names().filter_map(|general| if let GeneralName::URI(uri) = general { Some(*uri) } else { None });
    let spiffe = match (uris.next(), uris.next()) {
        (Some(uri), None) if uri.starts_with("spiffe://") && uri.len() <= MAX_NAME => Some(name(uri)),
        _ => None,
    };
    Some(Identity { subject: name(&certificate.subject().to_string()), spiffe, dns: dns.take(MAX_NAMES).collect() })
}
