//! What leaves of a guest's answer.

use ocicrypt_kms_protocol::{Answer, MAX_ANNOTATION, Operation};

use crate::Error;
use crate::exchange::is_opts_data;

/// Reads a guest's answer, to be written anew: a client sees a result of the right operation and nothing else. Opts data that isn't opts
/// data is not answered: the provider is no decryption oracle for other ciphertexts of the same key.
pub fn check(operation: Operation, answer: &[u8]) -> Result<Answer, Error> {
    let failed = |reason: String| Error::Component { reason };
    let answer = Answer::parse(operation, answer).map_err(|error| failed(error.to_string()))?;
    match operation {
        Operation::Wrap if answer.result.is_empty() || answer.result.len() > MAX_ANNOTATION => {
            Err(failed(format!("its annotation is empty or longer than {MAX_ANNOTATION} bytes")))
        }
        Operation::Unwrap if !is_opts_data(&answer.result) => Err(Error::InvalidInput {
            reason: "what the annotation holds is not the key of an image layer, so it is not handed out".into(),
            hint: "the packet was not made for this use; check where the image comes from".into(),
        }),
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use ocicrypt_kms_protocol::Spelling;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn only_opts_data_is_handed_out() {
        let answer = |opts_data: &[u8]| Answer::new(Operation::Unwrap, Zeroizing::new(opts_data.to_vec())).write(Spelling::Numbers);
        assert!(check(Operation::Unwrap, &answer(br#"{"symkey":"a"}"#)).is_ok());
        let error = check(Operation::Unwrap, &answer(b"{}")).unwrap_err();
        assert!(error.line().contains("is not the key of an image layer"), "{}", error.line());
    }

    #[test]
    fn a_guests_answer_is_written_anew() {
        let answer = br#"{"x":1,"keywrapresults":{"annotation":"YQ==","y":2},"keyunwrapresults":{"optsdata":"c2VjcmV0"}}"#;
        assert_eq!(
            check(Operation::Wrap, answer).unwrap().write(Spelling::Numbers).as_slice(),
            br#"{"keywrapresults":{"annotation":[97]}}"#
        );
        let error = check(Operation::Unwrap, answer).err().unwrap();
        assert!(!error.line().contains("secret"), "{}", error.line());
    }

    #[test]
    fn an_annotation_that_no_client_would_store_is_refused() {
        for length in [0, MAX_ANNOTATION + 1] {
            let answer = Answer::new(Operation::Wrap, Zeroizing::new(vec![b'a'; length])).write(Spelling::Numbers);
            assert!(matches!(check(Operation::Wrap, &answer), Err(Error::Component { .. })), "{length}");
        }
    }
}
