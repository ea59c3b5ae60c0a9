//! Who may use which key: asked before a key is opened, and before any credential is looked up.
//!
//! Policy is allow-list only. One key can have several names (an ARN, an alias and an id; a project's id and its number), so a rule that
//! forbids one name would be evaded by another.

#[cfg(feature = "cedar")]
pub mod cedar;
mod keys;

use std::sync::Arc;
use std::time::SystemTime;

use ocicrypt_kms_protocol::Operation;

pub use self::keys::{KeyList, PatternError};
use crate::Error;
use crate::caller::Caller;
use crate::digest::Digest;
use crate::key_uri::KeyUri;

/// Who named a key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Origin {
    /// The client, as a parameter of its message.
    Parameter,
    /// The configuration or the command line.
    Configuration,
    /// The annotation, which came with the image.
    Annotation,
}

impl Origin {
    /// The name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parameter => "parameter",
            Self::Configuration => "configuration",
            Self::Annotation => "annotation",
        }
    }
}

/// A key that somebody wants to use. Nothing in it is a guest's word.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The key.
    pub key: &'a KeyUri,
    /// What for.
    pub operation: Operation,
    /// Who named it.
    pub origin: Origin,
    /// Who asks.
    pub caller: &'a Caller,
    /// The provider that the message called.
    pub provider: &'a str,
    /// The component that would use it.
    pub component: Digest,
    /// The keys that were opened before in this exchange.
    pub opened: &'a [KeyUri],
    /// When.
    pub time: SystemTime,
}

/// A policy's yes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Permit {
    /// The names of the rules that allowed it.
    pub rules: Vec<String>,
}

/// A policy's no.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Denial {
    /// Which rule said no, as a sentence.
    pub reason: String,
    /// What to do to have it allowed.
    pub hint: String,
    /// The names of the rules that forbade it; none where no rule allowed it.
    pub rules: Vec<String>,
}

/// Decides which keys may be used.
///
/// [`Builder::policy`](crate::Builder::policy) puts one in the place of the configured one:
///
/// ```
/// use std::sync::Arc;
///
/// use ocicrypt_kms::policy::{Denial, Origin, Permit, Policy, Request};
/// use ocicrypt_kms::{Config, ErrorKind, KeyProvider};
///
/// /// Lends any key that was named, and none that only an image names.
/// struct OnlyNamed;
///
/// impl Policy for OnlyNamed {
///     fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial> {
///         match request.origin {
///             Origin::Annotation => Err(Denial { reason: "nobody but the image names it".into(), ..Denial::default() }),
///             _ => Ok(Permit { rules: vec!["only-named".into()] }),
///         }
///     }
/// }
///
/// let provider = KeyProvider::builder(Config::default()).policy(Arc::new(OnlyNamed)).build()?;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let annotation = br#"{"key_url":"local://team","wrapped_key":"AA==","wrap_type":"AES"}"#;
/// let error = provider.unwrap(annotation, &[]).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Denied);
/// # });
/// # Ok::<(), ocicrypt_kms::Error>(())
/// ```
pub trait Policy: Send + Sync {
    /// Allows a use, or says why not.
    ///
    /// # Errors
    /// If the use is not allowed.
    fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial>;

    /// Whether it could allow this use at another time of the same exchange, when other keys are open. A process that makes one exchange
    /// gives up beforehand what only other keys need: a needless yes costs protection, and a wrong no the exchange. Yes, if not implemented.
    fn could_allow(&self, _request: &Request<'_>) -> bool {
        true
    }

    /// Whether it was written for this very component: each of its rules that allows anything names the digest of a component, and one
    /// names this. A component that isn't built in and whose digest nobody gave otherwise runs only then.
    fn pins(&self, _component: Digest) -> bool {
        false
    }

    /// The SHA-256 digest of the text that it was read from, by which logs and audit records tell which policy decided. `None`: there is no
    /// such text.
    fn digest(&self) -> Option<Digest> {
        None
    }

    /// What decides for the whole of an exchange that begins now, where it is another than what may decide for later ones.
    fn current(&self) -> Option<Arc<dyn Policy>> {
        None
    }

    /// Reads anew what it was read from, if that changed, or anyhow if `asked`; tells whether it did. Exchanges that are under way keep what
    /// they began with.
    ///
    /// # Errors
    /// If what is there now is no policy; then it stays as it was.
    fn refresh(&self, _asked: bool) -> Result<bool, Error> {
        Ok(false)
    }
}
