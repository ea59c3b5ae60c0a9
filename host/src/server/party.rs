//! Who shares a limit.

use std::fmt;
use std::sync::Arc;

use crate::caller::{Caller, Identity};

/// Callers who share a limit: what one of them uses up, the others haven't.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Party {
    /// The processes of a user of this machine.
    User(u32),
    /// Who has a certificate with these names.
    Certificate(Arc<Identity>),
    /// Everybody who reaches an address that is served without TLS.
    Anonymous,
}

impl fmt::Display for Party {
    /// As its callers are called.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid:{uid}"),
            Self::Certificate(identity) => identity.fmt(f),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

impl From<&Caller> for Party {
    fn from(caller: &Caller) -> Self {
        match caller {
            Caller::Peer { uid, .. } => Self::User(*uid),
            Caller::Certificate(identity) => Self::Certificate(Arc::new(identity.as_ref().clone())),
            Caller::Process | Caller::Anonymous => Self::Anonymous,
        }
    }
}
