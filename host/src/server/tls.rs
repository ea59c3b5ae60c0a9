//! TLS with client certificates: what the server shows, whom it trusts, and the names in what clients show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::connection::GREETING as PATIENCE;
use crate::Error;
use crate::caller::Identity;
use crate::error::printable;
use crate::fresh::{Fresh, Source};

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
pub(super) struct Tls(Fresh<Files>);

/// What the files say.
pub(super) struct Greeting {
    config: Arc<ServerConfig>,
    /// What the server's own certificate is called, and when it ends to be valid, for who watches that.
    pub subject: String,
    pub not_after: ASN1Time,
}

impl Tls {
    pub fn load(files: Files) -> Result<Self, Error> {
        Fresh::load(files).map(Self)
    }

    /// Reads the files anew if they changed, or anyhow if `asked`. While they don't fit together, the old ones stay.
    pub fn refresh(&self, asked: bool) -> Result<bool, Error> {
        self.0.refresh(asked)
    }

    /// What new connections are greeted with from now on.
    pub fn current(&self) -> Arc<Greeting> {
        self.0.current()
    }

    /// Greets a client, and tells who it is.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, Identity)> {
        let acceptor = TlsAcceptor::from(self.current().config.clone());
        let stream = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await.map_err(|_| std::io::ErrorKind::TimedOut)??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let identity = certificate.and_then(|certificate| identity(certificate));
        identity.map(|identity| (stream, identity)).ok_or_else(|| std::io::Error::other("the client's certificate can't be read"))
    }
}

impl Source for Files {
    type Value = Greeting;

    fn files(&self) -> Vec<&PathBuf> {
        vec![&self.certificate, &self.key, &self.client_ca]
    }

    fn read(&self) -> Result<Greeting, Error> {
        let chain = certificates(&self.certificate)?;
        let (_, own) = X509Certificate::from_der(&chain[0]).map_err(|error| unusable(&self.certificate, &error))?;
        let (subject, not_after) = (printable(&own.subject().to_string(), MAX_NAME), own.validity().not_after);
        Ok(Greeting { config: Arc::new(self.config(chain)?), subject, not_after })
    }
}

impl Files {
    fn config(&self, chain: Vec<CertificateDer<'static>>) -> Result<ServerConfig, Error> {
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
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => unusable(&self.key, &format!("it is not the key of {}", self.certificate.display())),
            error => unusable(&self.certificate, &error),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show its certificate again, and so outlive a CA that was taken out. Go's clients resume none.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
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
