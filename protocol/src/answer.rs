//! One answer from a key provider to a client.

use zeroize::Zeroizing;

use crate::json::{JsonError, Object};
use crate::{MAX_MESSAGE, Operation, bytes};

/// Why an answer can't be read. Never quotes values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnswerError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("the answer is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Not the JSON that was expected.
    #[error("the answer is malformed: {0}")]
    Json(JsonError),
    /// The operation's result is missing.
    #[error("the answer has no `{0}`")]
    Missing(&'static str),
}

/// What an operation yields: an annotation, or opts data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    operation: Operation,
    /// The decoded annotation (wrap) or the opts data (unwrap).
    pub result: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The answer to `operation`.
    #[must_use]
    pub fn new(operation: Operation, result: Zeroizing<Vec<u8>>) -> Self {
        Self { operation, result }
    }

    /// Reads an answer to `operation`, in any spelling that a client would read.
    ///
    /// # Errors
    /// If it is too long, malformed, or answers another operation.
    pub fn parse(operation: Operation, text: &[u8]) -> Result<Self, AnswerError> {
        if text.len() > MAX_MESSAGE {
            return Err(AnswerError::TooLong);
        }
        let (results, member) = names(operation);
        let answer = Object::parse(text).map_err(AnswerError::Json)?;
        let result = answer.object(results).map_err(AnswerError::Json)?.get(member).and_then(bytes::read);
        Ok(Self { operation, result: result.ok_or(AnswerError::Missing(member))? })
    }

    /// Writes the answer for a client: bytes as an array of numbers, the other operation's result left out.
    #[must_use]
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        self.write_with(self.result.len() * 4 + 2, |text| bytes::write_numbers(&self.result, text))
    }

    /// Writes the answer for a host, which writes it anew for its client: bytes as base64, a third as long.
    #[must_use]
    pub fn write_short(&self) -> Zeroizing<Vec<u8>> {
        self.write_with(self.result.len().div_ceil(3) * 4 + 2, |text| bytes::write_base64(&self.result, text))
    }

    fn write_with(&self, length: usize, write_result: impl FnOnce(&mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
        let (results, member) = names(self.operation);
        let head = format!(r#"{{"{results}":{{"{member}":"#);
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut text = Zeroizing::new(Vec::with_capacity(head.len() + length + 2));
        text.extend_from_slice(head.as_bytes());
        write_result(&mut text);
        text.extend_from_slice(b"}}");
        text
    }
}

/// The members that hold an operation's result.
fn names(operation: Operation) -> (&'static str, &'static str) {
    match operation {
        Operation::Wrap => ("keywrapresults", "annotation"),
        Operation::Unwrap => ("keyunwrapresults", "optsdata"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_written_as_arrays_of_numbers_with_one_result() {
        let wrap = Answer::new(Operation::Wrap, Zeroizing::new(b"ab".to_vec()));
        assert_eq!(wrap.write().as_slice(), br#"{"keywrapresults":{"annotation":[97,98]}}"#);
        let unwrap = Answer::new(Operation::Unwrap, Zeroizing::new(Vec::new()));
        assert_eq!(unwrap.write().as_slice(), br#"{"keyunwrapresults":{"optsdata":[]}}"#);
    }

    #[test]
    fn a_hosts_answers_are_short_and_read_the_same() {
        for length in 0..5 {
            let answer = Answer::new(Operation::Unwrap, Zeroizing::new(vec![b'a'; length]));
            assert_eq!(Answer::parse(Operation::Unwrap, &answer.write_short()).unwrap(), answer);
        }
        let answer = Answer::new(Operation::Wrap, Zeroizing::new(b"ab".to_vec()));
        assert_eq!(answer.write_short().as_slice(), br#"{"keywrapresults":{"annotation":"YWI="}}"#);
    }

    #[test]
    fn no_buffer_grows_while_an_answer_is_written() {
        let answer = Answer::new(Operation::Unwrap, Zeroizing::new(vec![0xff; 1000]));
        for text in [answer.write(), answer.write_short()] {
            assert!(text.capacity() < text.len() + 8, "{} of {}", text.len(), text.capacity());
        }
    }

    #[test]
    fn answers_read_in_every_spelling() {
        for text in [r#"{"keywrapresults":{"annotation":[97]},"keyunwrapresults":null}"#, r#"{"keywrapresults":{"annotation":"YQ=="}}"#] {
            assert_eq!(Answer::parse(Operation::Wrap, text.as_bytes()).unwrap().result.as_slice(), b"a");
        }
    }

    #[test]
    fn an_answer_to_the_other_operation_is_refused() {
        let text = br#"{"keyunwrapresults":{"optsdata":[97]}}"#;
        assert_eq!(Answer::parse(Operation::Wrap, text).unwrap_err(), AnswerError::Missing("annotation"));
        let twice = br#"{"keywrapresults":{"annotation":[97],"annotation":[98]}}"#;
        assert!(matches!(Answer::parse(Operation::Wrap, twice).unwrap_err(), AnswerError::Json(JsonError::Duplicate(_))));
    }
}
