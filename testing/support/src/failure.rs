//! What an exchange in this process that fails says.

use ocicrypt_kms::{Error, ErrorKind};

/// The line of a failure of this kind, which starts so.
#[track_caller]
pub fn line(outcome: Result<Vec<u8>, Error>, kind: ErrorKind, start: &str) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{}", error.line());
    assert!(error.line().starts_with(start), "{}", error.line());
    error.line()
}
