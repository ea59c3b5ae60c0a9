//! The messages of the ocicrypt key provider protocol: read tolerantly, written exactly.
//!
//! A container tool sends a key provider one JSON message and reads one JSON answer (the [key provider protocol]). This crate is what the
//! native host and the sandboxed component both know of that protocol, so that they can't read one message in two ways:
//!
//! - [`Message`] reads what Go's ocicrypt and ocicrypt-rs write: unknown members, nulls and missing objects are fine, duplicate
//!   members are not. It can be written anew for a guest, holding nothing but what one provider needs. [`compose`] writes one.
//! - [`Answer`] writes and reads the results.
//! - [`json::Object`] and [`bytes`] are the two readers that all of it is made of. They never quote what they read in an error,
//!   because it may be a key.
//!
//! [key provider protocol]: https://github.com/containers/ocicrypt/blob/main/docs/keyprovider.md
#![forbid(unsafe_code)]

mod answer;
pub mod bytes;
pub mod json;
mod message;

pub use answer::{Answer, AnswerError, Spelling};
pub use message::{Message, MessageError, Operation, Parameter, compose};

/// The longest message that is read, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;
/// The most values of one provider's parameter that are read.
pub const MAX_VALUES: usize = 64;
/// The longest of these values as the client spells it, in bytes: a key URI has at most 2048, and takes four as an array of numbers.
pub const MAX_VALUE: usize = 16 << 10;
/// The longest decoded annotation that is read or written, in bytes.
pub const MAX_ANNOTATION: usize = 64 << 10;
/// The most packets in one annotation, and so the most recipients of one wrap.
pub const MAX_PACKETS: usize = 16;
