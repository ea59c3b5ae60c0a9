//! Files that others change while the server runs: looked at from time to time, and when asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::connections::Connections;
use super::tls::{Greeting, Tls};
use crate::policy::Policy;
use crate::{Error, count};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// What is read anew.
#[derive(Clone)]
pub(super) enum Refreshed {
    /// By which open connections are looked at, too.
    Certificates(Arc<Tls>, Arc<Connections>),
    Policy(Arc<dyn Policy>),
}

impl Refreshed {
    fn refresh(&self, asked: bool) -> Result<bool, Error> {
        match self {
            Self::Certificates(tls, _) => tls.refresh(asked),
            Self::Policy(policy) => policy.refresh(asked),
        }
    }

    /// Its name in metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Certificates(..) => "certificates",
            Self::Policy(_) => "policy",
        }
    }

    fn look(&self, asked: bool) {
        self.reload(asked);
        // Also where no file has changed: what clients have shown ends by itself.
        if let Self::Certificates(tls, connections) = self {
            tls.review(connections);
        }
    }

    fn reload(&self, asked: bool) {
        let refreshed = self.refresh(asked);
        match (&refreshed, self) {
            (Ok(false), _) => return,
            (Ok(true), Self::Certificates(tls, _)) => {
                let current = tls.current();
                let until = current.not_after.to_string();
                tracing::info!(subject = current.subject, until, "new connections get the new certificates");
                count_ends(&current);
            }
            (Ok(true), Self::Policy(policy)) => {
                let sha256 = policy.digest().map(tracing::field::display);
                tracing::info!(sha256, "new exchanges get the new policy");
            }
            (Err(error), Self::Certificates(..)) => tracing::error!(error = error.line(), "the certificates stay as they were"),
            (Err(error), Self::Policy(_)) => tracing::error!(error = error.line(), "the policy stays as it was"),
        }
        count::reload(self.name(), refreshed.is_ok());
    }
}

/// Shows in metrics when the server's certificate ends to be valid, and the first list of revoked ones.
pub(super) fn count_ends(greeting: &Greeting) {
    count::certificate(greeting.not_after.timestamp());
    if let Some(end) = greeting.crl_end() {
        count::revocation_list(end);
    }
}

/// Looks at the files from time to time, and when asked.
pub(super) async fn keep_fresh(all: Vec<Refreshed>, reload: Arc<Notify>) {
    let all: Arc<[Refreshed]> = all.into();
    loop {
        let asked = tokio::time::timeout(INTERVAL, reload.notified()).await.is_ok();
        let all = all.clone();
        // Beside the threads that serve: a long policy takes a while to read.
        let looked = tokio::task::spawn_blocking(move || all.iter().for_each(|one| one.look(asked))).await;
        if let Err(error) = looked {
            tracing::error!(error = error.to_string(), "files could not be read anew");
        }
    }
}
