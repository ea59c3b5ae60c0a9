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
        let results = answer.object(results).map_err(AnswerError::Json)?;
        let result = results.get(member).and_then(bytes::read);
        Ok(Self { operation, result: result.ok_or(AnswerError::Missing(member))? })
    }

    /// Writes the answer: bytes as an array of numbers, the other operation's result left out.
    #[must_use]
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        let (results, member) = names(self.operation);
        let head = format!(r#"{{"{results}":{{"{member}":"#);
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut text = Zeroizing::new(Vec::with_capacity(head.len() + self.result.len() * 4 + 4));
        text.extend_from_slice(head.as_bytes());
        bytes::write_numbers(&self.result, &mut text);
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
