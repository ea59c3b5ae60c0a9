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

/// How bytes are spelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spelling {
    /// Base64 in a string, a third as long as the other: for Go's clients, and between a guest and its host.
    Base64,
    /// An array of numbers, which all clients read.
    Numbers,
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

    /// Writes the answer, with the other operation's result left out.
    #[must_use]
    pub fn write(&self, spelling: Spelling) -> Zeroizing<Vec<u8>> {
        match spelling {
            Spelling::Base64 => self.write_with(self.result.len().div_ceil(3) * 4 + 2, bytes::write_base64),
            Spelling::Numbers => self.write_with(self.result.len() * 4 + 2, bytes::write_numbers),
        }
    }

    /// With a result that takes at most `length` bytes.
    fn write_with(&self, length: usize, write_result: impl FnOnce(&[u8], &mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
        let (results, member) = names(self.operation);
        let head = ["{\"", results, "\":{\"", member, "\":"];
        // Sized beforehand, so that no copy of the opts data is left behind by a buffer that grew.
        let mut text = Zeroizing::new(Vec::with_capacity(head.iter().map(|part| part.len()).sum::<usize>() + length + 2));
        head.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
        write_result(&self.result, &mut text);
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
    fn answers_are_written_with_one_result() {
        let answer = |operation, result: &[u8]| Answer::new(operation, Zeroizing::new(result.to_vec()));
        let wrap = answer(Operation::Wrap, b"ab");
        assert_eq!(wrap.write(Spelling::Numbers).as_slice(), br#"{"keywrapresults":{"annotation":[97,98]}}"#);
        assert_eq!(wrap.write(Spelling::Base64).as_slice(), br#"{"keywrapresults":{"annotation":"YWI="}}"#);
        let unwrap = answer(Operation::Unwrap, b"");
        assert_eq!(unwrap.write(Spelling::Numbers).as_slice(), br#"{"keyunwrapresults":{"optsdata":[]}}"#);
    }

    #[test]
    fn every_spelling_reads_the_same_and_no_buffer_grows_while_it_is_written() {
        for length in [0, 1, 2, 3, 4, 1000] {
            let answer = Answer::new(Operation::Unwrap, Zeroizing::new(vec![0xff; length]));
            for spelling in [Spelling::Base64, Spelling::Numbers] {
                let text = answer.write(spelling);
                assert_eq!(Answer::parse(Operation::Unwrap, &text).unwrap(), answer);
                assert!(text.capacity() < text.len() + 8, "{} of {}", text.len(), text.capacity());
            }
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
