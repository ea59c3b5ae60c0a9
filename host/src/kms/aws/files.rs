//! What `aws-config` reads by itself, of the process's environment: looked at before, since it waits for pipes, quotes what it can't read, and asks
//! nobody who else may write a file.

use std::path::{Path, PathBuf};

use crate::trusted_file::{self, Trust, Untrusted};
use crate::{Environment, Error, shown};

/// The most bytes of one file.
const MAX_LENGTH: usize = 1 << 20;

/// Variables that name a file, with where it is without them, below the home folder.
const FILES: [(&str, Option<&str>, Trust); 4] = [
    // It can name programs to run.
    ("AWS_CONFIG_FILE", Some(".aws/config"), Trust::Decides),
    ("AWS_SHARED_CREDENTIALS_FILE", Some(".aws/credentials"), Trust::Credential),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", None, Trust::Credential),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", None, Trust::Credential),
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

/// Whether the library may read what these variables name.
pub(super) fn check(environment: &Environment) -> Result<(), Error> {
    for (variable, usual, trust) in FILES {
        let named = environment.get(variable).map(PathBuf::from);
        let usual = || Some(PathBuf::from(environment.get("HOME")?).join(usual?));
        if let Some(file) = named.or_else(usual) {
            check_file(variable, &file, trust)?;
        }
    }
    for (variable, what, may_be) in OTHERS {
        if environment.get(variable).is_some_and(|value| !may_be(&value.to_string_lossy())) {
            return Err(wrong(variable, format!("it holds something that is not {what}")));
        }
    }
    Ok(())
}

fn check_file(variable: &str, file: &Path, trust: Trust) -> Result<(), Error> {
    match trusted_file::check(file, trust, MAX_LENGTH) {
        // One that isn't there, or is another user's alone, is the library's to pass over.
        Ok(()) | Err(Untrusted::System(_)) => Ok(()),
        Err(untrusted) => Err(wrong(variable, format!("{} is not used: {}", shown::path(file), untrusted.line(file)))),
    }
}

fn wrong(place: &str, reason: String) -> Error {
    Error::Configuration { place: place.to_owned(), reason }
}
