//! What went wrong on the way to a service, in words, and what to do about it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;

use jiff::Timestamp;
use reqwest::Url;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, InvalidMessage};

use super::proxy::Proxy;
use super::trust::is_authority;
use super::{address, root_cause};
use crate::Error;
use crate::error::printable;

/// The most bytes of a server's names that are shown.
const MAX_NAMES: usize = 256;

/// The settings that errors of a service name.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where a file of certificate authorities is named.
    pub authority: Cow<'static, str>,
    /// What to do if the server wants a client certificate or refuses it, where this program can have one for the service.
    pub client_certificate: Option<Cow<'static, str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { authority: SYSTEM.into(), client_certificate: None }
    }
}

/// Where authorities are named for services that have no setting of their own.
const SYSTEM: &str = "SSL_CERT_FILE";

/// Why there is no answer of a service. It stays whole on its way through a cloud's library.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Unreached {
    pub reason: String,
    /// What to do, if the network isn't what is to be looked at.
    pub hint: Option<String>,
    /// Whether trying again won't mend it.
    pub lasts: bool,
}

impl Unreached {
    /// The network failed, or seems to.
    pub fn network(reason: String) -> Self {
        Self { reason, hint: None, lasts: false }
    }

    fn lasting(reason: String, hint: String) -> Self {
        Self { reason, hint: Some(hint), lasts: true }
    }

    /// The error about a key.
    pub fn error(self, key: &str) -> Error {
        let key = key.to_owned();
        match self.hint {
            Some(hint) => Error::NoConnection { key, reason: self.reason, hint },
            None => Error::Unavailable { key, reason: self.reason },
        }
    }

    /// One among the causes of a library's error that the network isn't to blame for.
    #[cfg_attr(not(any(feature = "aws", feature = "azure")), allow(dead_code))]
    pub fn among<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref::<Self>()).filter(|unreached| unreached.hint.is_some())
    }
}

/// A client that can't be made, because of files or settings.
impl From<Error> for Unreached {
    fn from(error: Error) -> Self {
        Self::lasting(error.to_string(), error.hint().into_owned())
    }
}

/// The causes of an error, itself first, and what is packed into an [`io::Error`].
pub(super) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let packed = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        packed.map(|packed| packed as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

/// A call to `url` on its way.
pub(super) struct Journey<'a> {
    pub url: &'a Url,
    pub proxy: Option<&'a Proxy>,
    pub settings: &'a Settings,
}

impl Journey<'_> {
    /// What an error of the HTTP library is about: `what` happened.
    pub fn explain(&self, what: &str, error: &(dyn StdError + 'static)) -> Unreached {
        let host = self.host();
        let root = root_cause(error);
        if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            let (reason, hint) = self.explain_tls(tls);
            // A server may ask for a client's certificate after the handshake: it wasn't reached for all that.
            return Unreached { reason: format!("{host} can't be reached: {reason}"), hint: Some(hint), lasts: lasts(tls) };
        }
        // Text of tokio-rustls; its error has no type of its own.
        if root == "tls handshake eof" {
            let hint = self.other_protocol(
                "check that the address and the port are those of the service and that it speaks TLS there, and see its log",
            );
            return Unreached {
                reason: format!("{host} can't be reached: it closed the connection in the middle of the TLS handshake"),
                hint: Some(hint),
                lasts: false,
            };
        }
        // Text of hyper: what came is a record of TLS.
        if self.url.scheme() == "http" && root.contains("invalid HTTP version") {
            return self.plain_to_tls();
        }
        match self.proxy {
            Some(proxy) => self.explain_proxy(proxy, what, &root),
            None => Unreached::network(format!("{host} {what}: {root}")),
        }
    }

    /// The service answers plain http as a TLS port does.
    pub fn plain_to_tls(&self) -> Unreached {
        let host = address(self.url);
        Unreached::lasting(
            format!("{host} was asked in plain http and speaks TLS at this port"),
            format!("write https:// in place of http:// in the service's address: https://{host}"),
        )
    }

    fn host(&self) -> String {
        let host = address(self.url);
        self.proxy.map_or_else(|| host.clone(), |proxy| format!("{host}, through the proxy {proxy} of {},", proxy.variable))
    }

    fn explain_proxy(&self, proxy: &Proxy, what: &str, root: &str) -> Unreached {
        let (host, variable) = (self.host(), &proxy.variable);
        if root.contains("proxy authorization required") {
            return Unreached::lasting(
                format!("{host} {what}: the proxy wants a user and a password (407)"),
                format!("write them into {variable}: http://USER:PASSWORD@HOST:PORT"),
            );
        }
        let root = if root == "tunnel error: unsuccessful" { "the proxy refuses to connect to it" } else { root };
        let direct = if proxy.is_of_service {
            format!("check the proxy in {variable}, or unset it if {} can be reached without", self.name())
        } else {
            format!("check the proxy in {variable}, or list {} in NO_PROXY if it can be reached without", self.name())
        };
        Unreached { reason: format!("{host} {what}: {root}"), hint: Some(direct), lasts: false }
    }

    fn name(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn explain_tls(&self, error: &rustls::Error) -> (String, String) {
        let port = "check the address's port and scheme";
        match error {
            rustls::Error::InvalidCertificate(certificate) => self.explain_certificate(error, certificate),
            rustls::Error::InvalidMessage(message) => {
                let name = if *message == InvalidMessage::InvalidContentType { "InvalidContentType" } else { "InvalidMessage" };
                let reason = format!("what answers there doesn't speak TLS: plain http, or another protocol ({name})");
                (reason, self.other_protocol(port))
            }
            rustls::Error::AlertReceived(alert) => self.explain_alert(*alert),
            rustls::Error::PeerIncompatible(why) => (
                format!("it and this program have no version, cipher or key of TLS in common ({why:?})"),
                "let the server offer TLS 1.2 or 1.3 with usual ciphers (ECDHE with AES-GCM or ChaCha20)".into(),
            ),
            other => (
                format!("TLS failed: {}", printable(&other.to_string(), MAX_NAMES)),
                self.other_protocol("see the server's log, and what stands between it and this machine"),
            ),
        }
    }

    fn explain_alert(&self, alert: AlertDescription) -> (String, String) {
        let setting = match &self.settings.client_certificate {
            Some(advice) => advice.to_string(),
            None => {
                "this program has none for this service: let the server do without, or put a proxy of yours in between that has one".into()
            }
        };
        match alert {
            AlertDescription::CertificateRequired => (format!("the server wants a client certificate ({alert:?})"), setting),
            AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate => (
                format!("the server refuses this client's certificate, or that there is none ({alert:?})"),
                format!("see the server's log; if it wants a client certificate: {setting}"),
            ),
            AlertDescription::UnrecognisedName => (
                format!("the server doesn't know the name {} ({alert:?})", self.name()),
                "write a name that it has a certificate for into the address".into(),
            ),
            AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => (
                format!("the server ended the TLS handshake ({alert:?})"),
                format!(
                    "let it offer TLS 1.2 or 1.3 with usual ciphers (ECDHE with AES-GCM or ChaCha20); if it wants a client certificate: {setting}"
                ),
            ),
            _ => (
                format!("the server ended TLS ({alert:?})"),
                self.other_protocol("see the server's log, and check that the address and the port are the service's"),
            ),
        }
    }

    /// For failures that the proxy, which is spoken to by TLS, may be the cause of, too.
    fn other_protocol(&self, advice: &str) -> String {
        match self.proxy.filter(|proxy| proxy.is_encrypted()) {
            Some(proxy) => format!("{advice}, and that the proxy in {} is one for https://", proxy.variable),
            None => advice.to_owned(),
        }
    }

    fn explain_certificate(&self, error: &rustls::Error, certificate: &CertificateError) -> (String, String) {
        let authority = &self.settings.authority;
        let system = if authority.ends_with(SYSTEM) { ", or add it to the system's (update-ca-certificates)" } else { "" };
        let name_it = || format!("name the authority that signed it in {authority}{system}");
        match certificate {
            CertificateError::UnknownIssuer => {
                ("its certificate is signed by an authority that is not trusted here (UnknownIssuer)".into(), name_it())
            }
            CertificateError::BadSignature => {
                ("its certificate is signed by another authority than the trusted one of the same name (BadSignature)".into(), name_it())
            }
            CertificateError::Expired => ("its certificate has expired (Expired)".into(), RENEW.into()),
            CertificateError::ExpiredContext { time, not_after } => {
                let reason = format!("its certificate expired at {}, and it is {} (Expired)", date(*not_after), date(*time));
                (reason, RENEW.into())
            }
            CertificateError::NotValidYet => ("its certificate is not valid yet (NotValidYet)".into(), CLOCK.into()),
            CertificateError::NotValidYetContext { time, not_before } => {
                let reason = format!("its certificate is valid from {} on, and it is {} (NotValidYet)", date(*not_before), date(*time));
                (reason, CLOCK.into())
            }
            CertificateError::NotValidForName => {
                (format!("its certificate is not for the name {} (NotValidForName)", self.name()), RENAME.into())
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = printable(&presented.join(", "), MAX_NAMES);
                let is_for = if names.is_empty() { "has no name in subjectAltName".into() } else { format!("is for {names}") };
                (format!("its certificate {is_for}, not for {} (NotValidForName)", self.name()), RENAME.into())
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
                "its certificate is not for servers (InvalidPurpose)".into(),
                "give the server one whose key usage has digitalSignature and whose extended key usage, if it has any, has serverAuth"
                    .into(),
            ),
            _ if is_authority(error) => (
                "its certificate is that of an authority, such as `openssl req -x509` makes (CaUsedAsEndEntity)".into(),
                format!("name a file that holds exactly this certificate in {authority}, or give the server one that an authority signed"),
            ),
            other => (
                format!("its certificate can't be used ({})", printable(&format!("{other:?}"), MAX_NAMES)),
                format!("give the server another one; its authority is named in {authority}"),
            ),
        }
    }
}

const RENEW: &str = "renew the server's certificate; if it isn't that late, set this machine's clock";
const CLOCK: &str = "set this machine's clock; if it is right, give the server a certificate that is valid now";
const RENAME: &str =
    "write a name that the certificate has into the service's address, or give the server a certificate with this one in subjectAltName";

fn date(time: UnixTime) -> Timestamp {
    i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default()
}

/// Whether trying again won't mend it: what is the matter is in a certificate, or in what the server is.
fn lasts(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::AlertReceived(alert) => {
            !matches!(alert, AlertDescription::InternalError | AlertDescription::UserCanceled | AlertDescription::CloseNotify)
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) => true,
        _ => false,
    }
}
