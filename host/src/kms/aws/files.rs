//! The files and variables that `aws-config` reads by itself, of the process's environment: looked at before, since it waits for pipes, quotes what
//! it can't read, and asks nobody who else may write a file.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::trusted_file::{self, Trust, Untrusted};
use crate::{Environment, Error, shown};

/// The most bytes of one file.
const MAX_LENGTH: usize = 1 << 20;

/// Where a file is, and what it holds.
pub(super) type Text = (PathBuf, Zeroizing<Vec<u8>>);

/// A file that a variable names.
pub(super) struct Named {
    pub variable: &'static str,
    /// Where it is without the variable, below the home folder.
    usual: Option<&'static str>,
    trust: Trust,
}

/// Profiles. It can name programs to run, and addresses.
pub(super) const CONFIG: Named = Named { variable: "AWS_CONFIG_FILE", usual: Some(".aws/config"), trust: Trust::Decides };
/// Profiles with their access keys.
pub(super) const CREDENTIALS: Named =
    Named { variable: "AWS_SHARED_CREDENTIALS_FILE", usual: Some(".aws/credentials"), trust: Trust::Credential };
/// Tokens that are exchanged for credentials.
pub(super) const TOKENS: [Named; 2] = [
    Named { variable: "AWS_WEB_IDENTITY_TOKEN_FILE", usual: None, trust: Trust::Credential },
    Named { variable: "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", usual: None, trust: Trust::Credential },
];

/// A variable, what it holds, and whether a text may be that.
type Variable = (&'static str, &'static str, fn(&str) -> bool);
/// Variables that hold something else which the library may quote, what that is, and whether a value may be one.
const OTHERS: [Variable; 4] = [
    ("AWS_PROFILE", "the name of a profile", |text| shown::name(text).is_harmless()),
    ("AWS_ROLE_ARN", "an ARN", |text| text.starts_with("arn:") && is_plain(text)),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "a path", |text| text.starts_with('/') && is_plain(text)),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "an address without a user", |text| {
        text.starts_with("http") && is_plain(text) && !text.contains('@')
    }),
];

fn is_plain(text: &str) -> bool {
    text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}\"".contains(&byte))
}

impl Named {
    /// Where it is.
    pub fn path(&self, environment: &Environment) -> Option<PathBuf> {
        let home = || environment.get("HOME").map(PathBuf::from);
        match environment.get(self.variable).map(PathBuf::from) {
            // As the SDKs read it.
            Some(named) if named.starts_with("~") => Some(home()?.join(named.strip_prefix("~").ok()?)),
            Some(named) => Some(named),
            None => Some(home()?.join(self.usual?)),
        }
    }

    /// The text, with where it is. Nothing where there is no file that this user can read, as for the SDKs.
    pub fn read(&self, environment: &Environment) -> Result<Option<Text>, Error> {
        let Some(path) = self.path(environment) else { return Ok(None) };
        match trusted_file::read(&path, self.trust, MAX_LENGTH) {
            Ok(text) => Ok(Some((path, text))),
            Err(Untrusted::System(_)) => Ok(None),
            Err(untrusted) => Err(self.refused(&path, &untrusted)),
        }
    }

    fn check(&self, environment: &Environment) -> Result<(), Error> {
        let Some(path) = self.path(environment) else { return Ok(()) };
        match trusted_file::check(&path, self.trust, MAX_LENGTH) {
            // One that isn't there, or is another user's alone, is the library's to pass over.
            Ok(()) | Err(Untrusted::System(_)) => Ok(()),
            Err(untrusted) => Err(self.refused(&path, &untrusted)),
        }
    }

    fn refused(&self, path: &Path, untrusted: &Untrusted) -> Error {
        wrong(self.variable, format!("{} is not used: {}", shown::path(path), untrusted.line(path)))
    }
}

/// Whether the library may read what these variables name.
pub(super) fn check(environment: &Environment) -> Result<(), Error> {
    [CONFIG, CREDENTIALS].iter().chain(&TOKENS).try_for_each(|file| file.check(environment))?;
    for (variable, what, may_be) in OTHERS {
        if environment.get(variable).is_some_and(|value| !may_be(&value.to_string_lossy())) {
            return Err(wrong(variable, format!("it holds something that is not {what}")));
        }
    }
    Ok(())
}

/// Whether a file with a token can be read.
pub(super) fn check_token(path: &Path) -> Result<(), Untrusted> {
    trusted_file::check(path, Trust::Credential, MAX_LENGTH)
}

fn wrong(place: &str, reason: String) -> Error {
    Error::Configuration { place: place.to_owned(), reason }
}
