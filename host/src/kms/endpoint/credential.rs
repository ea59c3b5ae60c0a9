//! What the host shows to a service, and no component ever sees.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::printable;
use crate::trusted_file::{self, Trust};
use crate::{Error, shown};

/// The most bytes of a credential.
const MAX_LENGTH: usize = 64 << 10;

/// Where the credential is. It is read for each request, so that something else may renew it.
#[derive(Debug)]
pub(super) enum Credential {
    /// A token after `Bearer`.
    Bearer(PathBuf),
    /// The whole value of a header.
    Header { name: HeaderName, file: PathBuf },
    /// The client's certificate: the connection has it.
    Certificate,
}

/// A header with a credential.
pub(super) struct Shown {
    pub name: HeaderName,
    pub value: HeaderValue,
    /// What must not come back.
    secret: Zeroizing<Vec<u8>>,
}

impl Credential {
    /// The header that is only the host's.
    pub fn header_name(&self) -> Option<&HeaderName> {
        match self {
            Self::Bearer(_) => Some(&AUTHORIZATION),
            Self::Header { name, .. } => Some(name),
            Self::Certificate => None,
        }
    }

    /// The header to send.
    pub fn show(&self) -> Result<Option<Shown>, Error> {
        let (name, file, start) = match self {
            Self::Bearer(file) => (AUTHORIZATION, file, "Bearer "),
            Self::Header { name, file } => (name.clone(), file, ""),
            Self::Certificate => return Ok(None),
        };
        let secret = read_secret(file)?;
        let allowed = |byte: &u8| byte.is_ascii_graphic() || (*byte == b' ' && start.is_empty());
        if secret.is_empty() || !secret.iter().all(allowed) {
            return Err(unusable(file, "it does not hold one line of printable ASCII"));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(start.len() + secret.len()));
        text.extend_from_slice(start.as_bytes());
        text.extend_from_slice(&secret);
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).map_err(|_| unusable(file, "no header can hold it"))?;
        value.set_sensitive(true);
        Ok(Some(Shown { name, value, secret }))
    }
}

impl Shown {
    /// Whether a service repeats it.
    pub fn is_in(&self, text: &[u8]) -> bool {
        text.windows(self.secret.len()).any(|window| window == &**self.secret)
    }
}

/// What errors call a file.
const WHAT: &str = "the credential in";

/// The content of a file that is this user's alone, without the white space around it.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let text = trusted_file::read(path, Trust::Secret, MAX_LENGTH).map_err(|untrusted| untrusted.error(WHAT, path))?;
    Ok(Zeroizing::new(text.trim_ascii().to_vec()))
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::Configuration { place: format!("{WHAT} {}", shown::path(path)), reason: printable(reason, 256) }
}
