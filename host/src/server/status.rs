//! What a client is told of a failure: a gRPC status code, and the sentence that a process would print.

use crate::{Error, ErrorKind};

/// The longest message of a status: it travels in a header, percent-encoded, and clients bound those.
const MAX_MESSAGE: usize = 2048;

/// A failure as gRPC and ttrpc tell it. Both have the same codes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Status {
    pub code: tonic::Code,
    pub message: String,
}

impl Status {
    pub fn of(error: &Error) -> Self {
        Self { code: code(error), message: crate::error::printable(&error.line(), MAX_MESSAGE) }
    }

    /// The exchange's time was over, the client's or the configured.
    pub fn late(what: &str) -> Self {
        Self {
            code: tonic::Code::DeadlineExceeded,
            message: format!("{what}; raise the deadline, or see the metrics for what takes so long"),
        }
    }

    /// Too many exchanges wait already.
    pub fn overloaded() -> Self {
        let message = "as many exchanges wait as may wait; try again later, or raise `max-exchanges` in the configuration";
        Self { code: tonic::Code::ResourceExhausted, message: message.into() }
    }

    /// Too many exchanges of this caller wait already.
    pub fn over_share() -> Self {
        let message = "as many exchanges of this caller wait as may wait; try again later, or raise `max-waiting` in the configuration";
        Self { code: tonic::Code::ResourceExhausted, message: message.into() }
    }

    /// Too many bytes of messages and answers are held, of this caller or of all.
    pub fn out_of_memory() -> Self {
        let message = "as many bytes of messages and answers are held as may be, of this caller or of all; try again later, or raise \
                       `message-memory-mib` in the configuration";
        Self { code: tonic::Code::ResourceExhausted, message: message.into() }
    }

    /// The caller has used up its exchanges.
    pub fn over_quota() -> Self {
        let message = "this caller has used up its exchanges; try again later, or raise `exchanges-per-hour` in the configuration";
        Self { code: tonic::Code::ResourceExhausted, message: message.into() }
    }
}

/// The code that says whose turn it is: the client's to mend its message or to ask for a right, the operator's, or anybody's to try again.
fn code(error: &Error) -> tonic::Code {
    match error.kind() {
        ErrorKind::InvalidInput => match error {
            Error::Configuration { .. } => tonic::Code::FailedPrecondition,
            _ => tonic::Code::InvalidArgument,
        },
        ErrorKind::Denied => tonic::Code::PermissionDenied,
        ErrorKind::NoMatchingKey | ErrorKind::Kms | ErrorKind::Corrupt => tonic::Code::FailedPrecondition,
        ErrorKind::Unavailable => tonic::Code::Unavailable,
        ErrorKind::Component | ErrorKind::Internal => tonic::Code::Internal,
    }
}

impl From<Status> for tonic::Status {
    fn from(Status { code, message }: Status) -> Self {
        Self::new(code, message)
    }
}

impl From<Status> for ttrpc::Status {
    fn from(Status { code, message }: Status) -> Self {
        ttrpc::get_status(ttrpc_code(code), message)
    }
}

fn ttrpc_code(code: tonic::Code) -> ttrpc::Code {
    match code {
        tonic::Code::InvalidArgument => ttrpc::Code::INVALID_ARGUMENT,
        tonic::Code::PermissionDenied => ttrpc::Code::PERMISSION_DENIED,
        tonic::Code::FailedPrecondition => ttrpc::Code::FAILED_PRECONDITION,
        tonic::Code::Unavailable => ttrpc::Code::UNAVAILABLE,
        tonic::Code::DeadlineExceeded => ttrpc::Code::DEADLINE_EXCEEDED,
        tonic::Code::ResourceExhausted => ttrpc::Code::RESOURCE_EXHAUSTED,
        _ => ttrpc::Code::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_a_process_prints() {
        let error = Error::Corrupt { key: "local://k".into(), reason: "the tag does not verify".into() };
        let status = Status::of(&error);
        assert_eq!((status.code, status.message), (tonic::Code::FailedPrecondition, error.line()));
    }

    #[test]
    fn both_protocols_have_the_same_codes() {
        use tonic::Code;
        let codes = [
            Code::InvalidArgument,
            Code::PermissionDenied,
            Code::FailedPrecondition,
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
            Code::Internal,
        ];
        for code in codes {
            assert_eq!(ttrpc_code(code) as i32, code as i32, "{code:?}");
        }
    }
}
