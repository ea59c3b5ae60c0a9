//! Who shares a limit.

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

impl From<&Caller> for Party {
    fn from(caller: &Caller) -> Self {
        match caller {
            Caller::Peer { uid, .. } => Self::User(*uid),
            Caller::Certificate(identity) => Self::Certificate(Arc::new(identity.as_ref().clone())),
            Caller::Process | Caller::Anonymous => Self::Anonymous,
        }
    }
}
