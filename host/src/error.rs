//! Why an exchange failed: one enum for all of the host.
//!
//! [`Display`](std::fmt::Display) is a sentence that names the thing. [`Error::hint`] is what to do about it. [`Error::line`] is both on
//! one line, the form in which every user sees them. No variant ever holds a secret.

use std::borrow::Cow;

use crate::key_uri::KeyUriError;
pub use crate::printable::printable;

/// The longest line that [`Error::line`] gives, in bytes. Messages of a KMS or a component are cut before.
pub const MAX_LINE: usize = 4096;
/// The longest text of outside origin (a KMS's message, a component's error) that is shown, in bytes.
pub const MAX_OUTSIDE_TEXT: usize = 1024;

/// What kind of failure an [`Error`] is: decides exit codes and, in WIT, the variant's case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The host itself or its surroundings failed.
    Internal,
    /// The message, an annotation, a key URI or the configuration is malformed.
    InvalidInput,
    /// No packet of the annotation is for a key asked for.
    NoMatchingKey,
    /// Policy or budget said no.
    Denied,
    /// The KMS, or the keystore, answered with an error.
    Kms,
    /// The KMS could not be reached in time; trying again may help.
    Unavailable,
    /// A checksum or an authentication tag did not verify.
    Corrupt,
    /// The component broke its contract or its limits.
    Component,
}

impl ErrorKind {
    /// Each of them.
    pub const ALL: &'static [Self] = &[
        Self::Internal,
        Self::InvalidInput,
        Self::NoMatchingKey,
        Self::Denied,
        Self::Kms,
        Self::Unavailable,
        Self::Corrupt,
        Self::Component,
    ];

    /// The name, as a WIT `attempt` and logs spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::InvalidInput => "invalid-input",
            Self::NoMatchingKey => "no-matching-key",
            Self::Denied => "denied",
            Self::Kms => "kms",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Component => "component",
        }
    }

    /// The exit code of a process that ends with such an error. 0 is success; clap's usage errors are 2, like malformed input.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::InvalidInput => 2,
            Self::NoMatchingKey => 3,
            Self::Denied => 4,
            Self::Kms => 5,
            Self::Unavailable => 6,
            Self::Corrupt => 7,
            Self::Component => 8,
        }
    }
}

/// Why an exchange failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The message, an annotation or a packet is malformed.
    #[error("{reason}")]
    InvalidInput {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A text that should be a key URI isn't.
    #[error(transparent)]
    KeyUri(#[from] KeyUriError),
    /// The configuration or an option is wrong.
    #[error("{place}: {reason}")]
    Configuration {
        /// The file or the option.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// No packet of the annotation is for a key asked for.
    #[error("no packet is for the key asked for: {reason}")]
    NoMatchingKey {
        /// Which keys there are packets for.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// Policy or budget said no.
    #[error("{key} is not lent for {operation}: {reason}")]
    Denied {
        /// The key's URI.
        key: String,
        /// `wrap` or `unwrap`.
        operation: &'static str,
        /// Which rule said no.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The KMS, or the keystore (status 0), answered with an error.
    #[error("{key}: {}{message}", kms_code(*.status, code))]
    Kms {
        /// The key's URI.
        key: String,
        /// The HTTP status; 0 where no HTTP is spoken.
        status: u16,
        /// The service's own name of the error.
        code: String,
        /// The service's message.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The KMS could not be reached in time.
    #[error("{key}: {reason}")]
    Unavailable {
        /// The key's URI.
        key: String,
        /// What was tried, and what came of it.
        reason: String,
    },
    /// No connection to the KMS that may be used could be made: its certificate isn't trusted, say, or it speaks no TLS.
    #[error("{key}: {reason}")]
    NoConnection {
        /// The key's URI.
        key: String,
        /// What was tried, and what came of it.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// No credentials for the KMS could be got in time.
    #[error("{key}: {reason}")]
    NoCredentials {
        /// The key's URI.
        key: String,
        /// Where they were looked for, and what came of it.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The KMS answered that it can't serve now, however often it was asked.
    #[error("{key}: the KMS answered {status} {message}, however often it was asked in the time there was")]
    Busy {
        /// The key's URI.
        key: String,
        /// The HTTP status.
        status: u16,
        /// The service's message.
        message: String,
    },
    /// A checksum or an authentication tag did not verify.
    #[error("{key}: {reason}")]
    Corrupt {
        /// The key's URI.
        key: String,
        /// What did not verify.
        reason: String,
    },
    /// What the KMS answered was changed on its way, or isn't about what it was asked.
    #[error("{key}: {reason}")]
    Damaged {
        /// The key's URI.
        key: String,
        /// What does not hold.
        reason: String,
    },
    /// Several packets were tried, and each failed.
    #[error("none of the {} packets tried could be unwrapped: {}", .0.len(), list(.0))]
    AllFailed(Vec<Error>),
    /// The component broke its contract or its limits.
    #[error("the key provider component failed: {reason}")]
    Component {
        /// What it did.
        reason: String,
    },
    /// The component stopped before it had answered: by itself, by a limit, or because the program that runs it stopped it.
    #[error("the key provider component failed: {reason}")]
    Stopped {
        /// What stopped it.
        reason: String,
    },
    /// The audit log can't be written, and nothing is lent without.
    #[error("{place}: the audit log can't be written: {reason}")]
    Audit {
        /// The file, or the sink.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The host itself or its surroundings failed.
    #[error("{reason}")]
    Internal {
        /// What failed.
        reason: String,
    },
}

fn kms_code(status: u16, code: &str) -> String {
    match status {
        0 => String::new(),
        _ => format!("the KMS answered {status} {code}: "),
    }
}

fn list(errors: &[Error]) -> String {
    errors.iter().enumerate().map(|(index, error)| format!("({}) {}", index + 1, error.sentence_and_hint())).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// The failure of whatever ended by a panic, which its message, not to be trusted with secrets, says nothing of.
    #[must_use]
    pub fn defect() -> Self {
        let reason = "a defect of this program, or of a library in it, ended what was asked for; nothing else was affected. Please report it, \
                      with the line that --debugLog or the server's log has of it";
        Self::Internal { reason: reason.into() }
    }

    /// What kind of failure a guest is told this is: what is the matter with the host is none of its business.
    #[must_use]
    pub fn told_kind(&self) -> ErrorKind {
        match self.kind() {
            ErrorKind::Internal | ErrorKind::Component => ErrorKind::Unavailable,
            kind => kind,
        }
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidInput { .. } | Self::KeyUri(_) | Self::Configuration { .. } => ErrorKind::InvalidInput,
            Self::NoMatchingKey { .. } => ErrorKind::NoMatchingKey,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Kms { .. } => ErrorKind::Kms,
            Self::Unavailable { .. } | Self::NoConnection { .. } | Self::NoCredentials { .. } | Self::Busy { .. } => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            // Where one of several may yet work, trying again is worth it.
            Self::AllFailed(errors) if errors.iter().any(|error| error.kind() == ErrorKind::Unavailable) => ErrorKind::Unavailable,
            Self::AllFailed(errors) => errors.first().map_or(ErrorKind::Internal, Self::kind),
            Self::Component { .. } | Self::Stopped { .. } => ErrorKind::Component,
            Self::Audit { .. } | Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// What to do about it, as a sentence without a full stop. Empty if there is nothing to say.
    #[must_use]
    pub fn hint(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidInput { hint, .. }
            | Self::NoMatchingKey { hint, .. }
            | Self::Denied { hint, .. }
            | Self::Kms { hint, .. }
            | Self::NoConnection { hint, .. }
            | Self::NoCredentials { hint, .. } => Cow::Borrowed(hint),
            Self::KeyUri(error) => Cow::Owned(error.hint()),
            Self::Unavailable { .. } => Cow::Borrowed("check the network and the service's address, then try again"),
            Self::Busy { status: 400..=499, .. } => Cow::Borrowed("try again later; if it stays so, raise the quota of requests"),
            Self::Busy { .. } => Cow::Borrowed("try again later; if it stays so, see the service's status page or log"),
            Self::Corrupt { .. } => Cow::Borrowed("the packet was changed, or it was made with another key or another encryption context"),
            Self::Damaged { .. } => Cow::Borrowed("try again; if it stays so, something between here and the service changes its answers"),
            Self::Component { .. } => Cow::Borrowed("this is a defect of the component, not of the message; please report it"),
            Self::Audit { hint, .. } => Cow::Owned(format!("no key is used without a record; {hint}")),
            Self::Stopped { .. } => Cow::Borrowed(
                "if it is short of time or memory, raise its limits; else report this to whoever made the component, or the program that runs it",
            ),
            Self::Configuration { .. } | Self::AllFailed(_) | Self::Internal { .. } => Cow::Borrowed(""),
        }
    }

    /// Sentence and hint on one line of printable text, at most [`MAX_LINE`] bytes.
    #[must_use]
    pub fn line(&self) -> String {
        printable(&self.sentence_and_hint(), MAX_LINE)
    }

    fn sentence_and_hint(&self) -> String {
        match self.hint() {
            hint if hint.is_empty() => self.to_string(),
            hint => format!("{}; {}", self.to_string().trim_end_matches('.'), hint.trim_end_matches('.')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_a_kms_answers() {
        let message = format!("no\r\n\u{1b}[2J\u{202e}{}", "x".repeat(10_000));
        let error = Error::Kms { key: "local://k".into(), status: 403, code: "DENIED".into(), message, hint: "ask for it.".into() };
        let line = error.line();
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert!(line.starts_with("local://k: the KMS answered 403 DENIED: no   [2J x"), "{line}");
        assert!(!line.chars().any(char::is_control));
    }

    #[test]
    fn trying_again_is_worth_it_where_one_of_several_was_unavailable() {
        let corrupt = Error::Corrupt { key: "local://a".into(), reason: "no".into() };
        let unavailable = Error::Unavailable { key: "local://b".into(), reason: "no answer".into() };
        assert_eq!(Error::AllFailed(vec![corrupt.clone(), unavailable]).kind(), ErrorKind::Unavailable);
        let line = Error::AllFailed(vec![corrupt.clone(), corrupt]).line();
        assert!(line.starts_with("none of the 2 packets tried could be unwrapped: (1) local://a: no; the packet was changed"), "{line}");
    }
}
