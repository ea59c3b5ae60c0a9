//! The way to a service, where settings say more of it than an address: this client's certificate, a proxy, a Unix socket.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use zeroize::Zeroizing;

use super::http::Identity;
use crate::trusted_file::{self, Trust};
use crate::{Error, shown};

/// The most bytes of a certificate with those above it, and of a private key.
const MAX_LENGTH: usize = 64 << 10;

/// How connections are made. The default is as everywhere.
#[derive(Default)]
pub struct Way {
    /// What this client shows of itself over TLS.
    pub certificate: Option<ClientCertificate>,
    /// What `https` goes through, in place of the proxies that the environment names for all programs, and the variable that says so.
    pub proxy: Option<(String, Url)>,
    /// What each connection is made to, in plain HTTP, whatever an address says.
    pub socket: Option<PathBuf>,
    /// Whether a 307 is an answer like others, with the address that it names. It is followed by nobody but whoever asked.
    pub tells_redirects: bool,
}

/// A client's certificate and its private key, in files.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its root, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
    /// Whether this program's user made the key's file for it alone; else another program wrote it, which has its own mind about modes.
    pub is_private: bool,
}

/// Not derived: a proxy's address may hold a password.
impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("certificate", &self.certificate).field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl ClientCertificate {
    /// Reads both files.
    pub(crate) fn read(&self) -> Result<Identity, Error> {
        let key_trust = if self.is_private { Trust::Secret } else { Trust::Credential };
        let mut both = Zeroizing::new(Vec::with_capacity(2 * MAX_LENGTH + 1));
        both.extend_from_slice(&read("the private key in", &self.key, key_trust)?);
        both.push(b'\n');
        both.extend_from_slice(&read("the client certificate in", &self.certificate, Trust::Decides)?);
        let wrong = |reason: String| Error::Configuration {
            place: format!("the client certificate in {} and {}", shown::path(&self.certificate), shown::path(&self.key)),
            reason,
        };
        let identity = Identity::from_pem(&both).map_err(|reason| {
            wrong(format!("{reason}; name a certificate and its private key, both in PEM, and the key unencrypted (openssl pkey)"))
        })?;
        // Whether they do is only seen when a client is made, whose error would be laid to what else is in it.
        identity.check().map_err(|reason| wrong(format!("the key is not the certificate's, or of a kind that can't sign ({reason})")))?;
        Ok(identity)
    }
}

fn read(what: &str, path: &Path, trust: Trust) -> Result<Zeroizing<Vec<u8>>, Error> {
    trusted_file::read(path, trust, MAX_LENGTH).map_err(|untrusted| untrusted.error(what, path))
}
