//! TLS with client certificates: what the server shows, whom it trusts, and for how long.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use zeroize::Zeroizing;

use super::connections::Connections;
use super::identity::identity;
use crate::Error;
use crate::caller::Identity;
use crate::distinguished_name::rfc4514;
use crate::fresh::{Fresh, Source};
use crate::shown;
use crate::trusted_file::{self, Trust};

/// The most bytes of one file.
const MAX_FILE: usize = 1 << 20;
/// The most bytes of a file of lists of revoked certificates.
const MAX_LISTS: usize = 16 << 20;

/// The files that TLS is made of, all in PEM.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
    /// The lists of revoked certificates, and whether a certificate needs one of its issuer that has not ended.
    pub client_crl: Option<PathBuf>,
    pub client_crl_required: bool,
}

/// What new connections are greeted with, and open ones are held to. Read anew when a file changes.
pub(super) struct Tls(Fresh<Files>);

/// What the files say.
pub(super) struct Greeting {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// What the server's own certificate is called, and when it ends to be valid, for who watches that.
    pub subject: String,
    pub not_after: ASN1Time,
    /// When the lists of revoked certificates end to be valid, in seconds since 1970.
    crl_ends: Vec<i64>,
    /// Whether certificates end with them.
    crl_required: bool,
}

/// Who has connected, by TLS.
pub(super) struct Client {
    pub stream: TlsStream<TcpStream>,
    pub identity: Identity,
    pub shown: Shown,
}

/// The certificates that a client has shown: its own, and those of authorities between it and one that is trusted.
pub(super) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    /// When each of them ends to be valid, in seconds since 1970.
    ends: Vec<i64>,
    verified: Mutex<Verified>,
}

/// By what they were verified, and when.
struct Verified {
    by: Arc<Greeting>,
    at: UnixTime,
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
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Client> {
        let by = self.current();
        let at = UnixTime::now();
        let acceptor = TlsAcceptor::from(by.config.clone());
        let stream = acceptor.accept(stream).await?;
        let chain: Vec<_> =
            stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|shown| shown.clone().into_owned()).collect();
        let own = chain.first().ok_or_else(|| io::Error::other("the client has shown no certificate"))?;
        let identity = identity(own).map_err(|nobody| io::Error::other(format!("the client's certificate names nobody: {nobody}")))?;
        let ends = chain.iter().map(|certificate| end_of(certificate)).collect::<Option<_>>();
        let ends = ends.ok_or_else(|| io::Error::other("a certificate that the client has shown beside its own can't be parsed"))?;
        Ok(Client { stream, identity, shown: Shown { chain, ends, verified: Mutex::new(Verified { by, at }) } })
    }

    /// Closes the connections whose clients would not be let in any more: an authority is gone, a list revokes a certificate, or something has ended.
    /// Those are looked at that were verified by other files than the current ones, and those for which something has ended since.
    pub fn review(&self, connections: &Connections) {
        let current = self.current();
        for entry in connections.all() {
            if let Some(Err(error)) = entry.shown.as_ref().map(|shown| shown.verify_anew(&current, UnixTime::now())) {
                entry.close();
                let (caller, error) = (entry.caller.to_string(), error.to_string());
                tracing::info!(caller, error, "a connection is closed: its certificate is not valid any more");
            }
        }
    }
}

impl Greeting {
    /// When the first list of revoked certificates ends to be valid.
    pub fn crl_end(&self) -> Option<i64> {
        self.crl_ends.iter().min().copied()
    }

    /// What ends at a time, beside the certificates that a client shows.
    fn ends(&self) -> &[i64] {
        if self.crl_required { &self.crl_ends } else { &[] }
    }
}

impl Shown {
    /// Verifies them again, if there is a reason to.
    fn verify_anew(&self, current: &Arc<Greeting>, now: UnixTime) -> Result<(), rustls::Error> {
        let mut verified = self.verified();
        if !self.is_due(&verified, current, now) {
            return Ok(());
        }
        let (own, others) = self.chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
        current.verifier.verify_client_cert(own, others, now)?;
        *verified = Verified { by: current.clone(), at: now };
        Ok(())
    }

    /// They are due by other files than those by which they were verified, and when something has ended since then.
    fn is_due(&self, verified: &Verified, current: &Arc<Greeting>, now: UnixTime) -> bool {
        let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let since = seconds(verified.at)..=seconds(now);
        !Arc::ptr_eq(&verified.by, current) || self.ends.iter().chain(current.ends()).any(|end| since.contains(end))
    }

    fn verified(&self) -> MutexGuard<'_, Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_of(certificate: &[u8]) -> Option<i64> {
    X509Certificate::from_der(certificate).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
}

impl Source for Files {
    type Value = Greeting;

    fn files(&self) -> Vec<&PathBuf> {
        [&self.certificate, &self.key, &self.client_ca].into_iter().chain(&self.client_crl).collect()
    }

    fn read(&self) -> Result<Greeting, Error> {
        let chain = certificates(&self.certificate)?;
        let (_, own) = X509Certificate::from_der(&chain[0]).map_err(|error| unusable(&self.certificate, &error))?;
        let subject = rfc4514(own.subject().as_raw()).unwrap_or_else(|unwritable| format!("(it {unwritable})"));
        let not_after = own.validity().not_after;
        let lists = self.client_crl.as_deref().map_or(Ok(Vec::new()), lists)?;
        let crl_ends = lists.iter().filter_map(|(_, end)| *end).collect();
        let verifier = self.verifier(lists.into_iter().map(|(list, _)| list).collect())?;
        let config = Arc::new(self.config(chain, verifier.clone())?);
        Ok(Greeting { config, verifier, subject, not_after, crl_ends, crl_required: self.client_crl_required })
    }
}

impl Files {
    fn verifier(&self, lists: Vec<CertificateRevocationListDer<'static>>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.client_ca)? {
            roots.add(certificate).map_err(|error| unusable(&self.client_ca, &error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider()).with_crls(lists);
        // They are of no effect without a list.
        let verifier =
            if self.client_crl_required { verifier.enforce_revocation_expiration() } else { verifier.allow_unknown_revocation_status() };
        verifier.build().map_err(|error| unusable(self.client_crl.as_ref().unwrap_or(&self.client_ca), &error))
    }

    fn config(&self, chain: Vec<CertificateDer<'static>>, verifier: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, Error> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key, Trust::Secret)?).map_err(|error| unusable(&self.key, &error))?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unusable(&self.certificate, &error))?.with_client_cert_verifier(verifier);
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => unusable(&self.key, &format!("it is not the key of {}", shown::path(&self.certificate))),
            error => unusable(&self.certificate, &error),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show its certificate again, and so outlive a CA that was taken out. Go's clients resume none.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

fn provider() -> Arc<crypto::CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path, Trust::Decides)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(unusable(path, &"there is no certificate in it"));
    }
    Ok(certificates)
}

/// A list of revoked certificates, and when it ends to be valid.
type List = (CertificateRevocationListDer<'static>, Option<i64>);

fn lists(path: &Path) -> Result<Vec<List>, Error> {
    let text = read_at_most(MAX_LISTS, path, Trust::Decides)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    let lists = lists.map_err(|error| unusable(path, &error))?;
    if lists.is_empty() {
        return Err(unusable(path, &"there is no list of revoked certificates in it"));
    }
    let with_end = |list: CertificateRevocationListDer<'static>| {
        let (_, parsed) = CertificateRevocationList::from_der(&list).map_err(|error| unusable(path, &error))?;
        let end = parsed.next_update().map(|end| end.timestamp());
        Ok((list, end))
    };
    lists.into_iter().map(with_end).collect()
}

fn read(path: &Path, trust: Trust) -> Result<Zeroizing<Vec<u8>>, Error> {
    read_at_most(MAX_FILE, path, trust)
}

fn read_at_most(limit: usize, path: &Path, trust: Trust) -> Result<Zeroizing<Vec<u8>>, Error> {
    trusted_file::read(path, trust, limit).map_err(|untrusted| unusable(path, &untrusted.line(path)))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Configuration { place: shown::path(path).to_string(), reason: format!("the file can't be used for TLS: {error}") }
}
