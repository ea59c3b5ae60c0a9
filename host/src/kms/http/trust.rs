//! TLS: which servers are trusted, and what is shown to those that want a client certificate.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::root_cause;
use crate::trusted_file::{self, Trust};
use crate::{Environment, Error, shown};

/// The most bytes of a file of certificate authorities.
const MAX_AUTHORITIES: usize = 1 << 20;
/// What errors call such a file.
const AUTHORITIES: &str = "the certificate authorities in";
/// Names a file of certificate authorities in place of the system's.
const FILE: &str = "SSL_CERT_FILE";
/// Names folders of them, with colons between.
const FOLDERS: &str = "SSL_CERT_DIR";

/// A client's certificate with those between it and its root, and its key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads them from one text in PEM.
    ///
    /// # Errors
    /// A sentence that says what isn't there.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|error| format!("no PEM: {error}"))?;
        if chain.is_empty() {
            return Err("there is no certificate in PEM".into());
        }
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|_| "there is no private key in PEM".to_owned())?;
        Ok(Self { chain, key })
    }

    /// Whether they belong together.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
        let certified = CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider);
        certified.map(drop).map_err(|error| error.to_string())
    }
}

/// TLS for calls to servers that the authorities in `file` vouch for, or else the system's.
///
/// # Errors
/// If there are no authorities, or the client's certificate and key don't fit together.
pub(super) fn configuration(file: Option<&Path>, environment: &Environment, identity: Option<Identity>) -> Result<ClientConfig, Error> {
    let anchors = match file {
        Some(file) => Anchors::of_file(file)?,
        None => Anchors::of_system(environment)?,
    };
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let internal = |error: &dyn std::fmt::Display| Error::Internal { reason: format!("TLS can't be set up: {error}") };
    let verifier = Verifier::new(anchors, provider.clone()).map_err(|error| internal(&error))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| internal(&error))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(|error| Error::Configuration {
            place: "the client certificate".into(),
            reason: format!("it can't be used with its key: {error}"),
        })?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Who vouches for servers.
struct Anchors {
    roots: RootCertStore,
    /// The certificates of a file that somebody named.
    listed: Vec<CertificateDer<'static>>,
}

impl Anchors {
    fn of_file(file: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Configuration { place: format!("{AUTHORITIES} {}", shown::path(file)), reason };
        let text = trusted_file::read(file, Trust::Decides, MAX_AUTHORITIES).map_err(|untrusted| untrusted.error(AUTHORITIES, file))?;
        let listed = certificates(&text).map_err(unusable)?;
        let mut roots = RootCertStore::empty();
        for certificate in &listed {
            roots.add(certificate.clone()).map_err(|error| unusable(format!("a certificate in it can't be parsed: {error}")))?;
        }
        Ok(Self { roots, listed })
    }

    fn of_system(environment: &Environment) -> Result<Self, Error> {
        let (file, folders) = (environment.get(FILE).map(PathBuf::from), environment.get(FOLDERS));
        let mut problems = Vec::new();
        let mut roots = RootCertStore::empty();
        let mut listed = Vec::new();
        if file.is_none() && folders.is_none() {
            let found = load_native_certs();
            problems.extend(found.errors.iter().map(ToString::to_string));
            roots.add_parsable_certificates(found.certs);
        }
        for folder in folders.iter().flat_map(|folders: &OsString| std::env::split_paths(folders)) {
            let found = load_certs_from_paths(None, Some(&folder));
            problems.extend(found.errors.iter().map(|error| format!("{FOLDERS}, {}: {}", shown::path(&folder), root_cause(error))));
            roots.add_parsable_certificates(found.certs);
        }
        if let Some(file) = &file {
            let read = trusted_file::read(file, Trust::Decides, MAX_AUTHORITIES).map_err(|untrusted| untrusted.line(file));
            match read.and_then(|text| certificates(&text)) {
                Ok(certificates) => {
                    roots.add_parsable_certificates(certificates.iter().cloned());
                    listed = certificates;
                }
                Err(reason) => problems.push(format!("{FILE}, {}: {reason}", shown::path(file))),
            }
        }
        if !roots.is_empty() {
            problems.iter().for_each(|problem| tracing::warn!(problem, "certificate authorities are not used"));
            return Ok(Self { roots, listed });
        }
        let found = if problems.is_empty() { String::new() } else { format!(" ({})", problems[..problems.len().min(3)].join("; ")) };
        Err(Error::Configuration {
            place: "the certificate authorities of this machine".into(),
            reason: format!(
                "there are none{found}, so that no server could be trusted; install the package ca-certificates, or name a file of \
                 certificates in PEM in {FILE}"
            ),
        })
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| format!("what is in the file can't be read as PEM: {error}"))?;
    if certificates.is_empty() { Err("the file has no certificate in PEM".into()) } else { Ok(certificates) }
}

/// Verifies servers as usual; and takes a server's own certificate that vouches for itself, if a file that somebody named holds it.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(anchors: Anchors, provider: Arc<CryptoProvider>) -> Result<Self, rustls::server::VerifierBuilderError> {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors.roots), provider).build()?;
        Ok(Self { usual, listed: anchors.listed })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if self.listed.contains(end_entity) && is_authority(&error) => verify_itself(end_entity, server_name, now),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether a certificate is refused because it is an authority's. rustls has no type for that, only the library below it.
pub(super) fn is_authority(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(other)) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// What else is looked at of a certificate that needs nobody to vouch for it: its time, what it is for, and its name.
fn verify_itself(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let time =
        |time: &x509_parser::time::ASN1Time| UnixTime::since_unix_epoch(Duration::from_secs(time.timestamp().try_into().unwrap_or(0)));
    let (not_before, not_after) = (time(&parsed.validity().not_before), time(&parsed.validity().not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    let usage = parsed.key_usage().map_err(|_| CertificateError::BadEncoding)?;
    let purposes = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    let signs_handshakes = usage.is_none_or(|usage| usage.value.digital_signature());
    let is_for_servers = purposes.is_none_or(|purposes| purposes.value.server_auth);
    if !signs_handshakes || !is_for_servers {
        return Err(CertificateError::InvalidPurpose.into());
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    Ok(ServerCertVerified::assertion())
}
