//! What AWS KMS says when it says no ([common errors], and those of each call), with what to do about it.
//!
//! [common errors]: https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html

use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::{Object, string};

use super::answer::parse;
use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::AwsKey;
use crate::kms::answer::Answer;

/// Too many requests, which AWS KMS tells with the status 400 ([throttling]).
///
/// [throttling]: https://docs.aws.amazon.com/kms/latest/developerguide/throttling.html
const THROTTLED: [&str; 4] = ["ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException"];

/// An error of AWS KMS: `{"__type": …, "message": …}`.
pub struct Refusal {
    code: String,
    message: String,
}

/// Whether AWS KMS can't serve now.
pub fn is_busy(answer: &Answer) -> bool {
    answer.is_busy() || (answer.status.is_client_error() && Refusal::read(answer).is_throttled())
}

impl Refusal {
    pub fn read(answer: &Answer) -> Self {
        let members = Object::parse(&answer.body).unwrap_or_default();
        let text = |name| members.get(name).and_then(string);
        let kind = text("__type").unwrap_or_default();
        // It may stand behind a namespace and in front of an address: com.amazonaws.kms#NotFoundException:http://…
        let code = kind.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
        let message = text("message").or_else(|| text("Message")).filter(|message| !message.is_empty());
        // Something between here and AWS KMS may answer in its place.
        let code = if code.is_empty() { "without an error code" } else { code };
        Self { code: printable(code, 64), message: printable(message.as_deref().unwrap_or("it gave no reason"), MAX_OUTSIDE_TEXT) }
    }

    fn is_throttled(&self) -> bool {
        THROTTLED.contains(&self.code.as_str())
    }

    /// Whether other credentials could do what these can't.
    pub fn is_about_credentials(&self) -> bool {
        credentials_hint(&self.code).is_some()
    }

    pub fn explain(self, answer: &Answer, operation: Operation, uri: &str, key_id: &str, region: &str) -> Error {
        let (key, status) = (uri.to_owned(), answer.status.as_u16());
        let hint = hint(&self, operation, key_id, region);
        let Self { code, message } = self;
        match is_busy(answer) {
            true => Error::Busy { key, status, message: format!("{code}: {message}") },
            false => Error::Kms { key, status, code, message, hint },
        }
    }
}

/// Whether the ciphertext is not one of the key.
pub fn is_of_ciphertext(code: &str) -> bool {
    matches!(code, "InvalidCiphertextException" | "IncorrectKeyException")
}

/// The key that a message is about, for a command that takes no alias: what stands there as an ARN of the region that was asked.
fn told_key(message: &str, region: &str) -> Option<AwsKey> {
    let words = message.split(|c: char| c.is_whitespace() || "'\"`,;()".contains(c));
    let keys = words.filter_map(|word| parse(word.trim_end_matches(['.', ':'])));
    keys.into_iter().find(|key| key.arn.as_ref().is_some_and(|arn| arn.region == region))
}

fn hint(refusal: &Refusal, operation: Operation, key_id: &str, region: &str) -> String {
    let Refusal { code, message } = refusal;
    let permission = match operation {
        Operation::Wrap => "kms:Encrypt",
        Operation::Unwrap => "kms:Decrypt",
    };
    let describe = format!("aws kms describe-key --region {region} --key-id {key_id}");
    // `describe-key` takes an alias; what changes a key doesn't.
    let told = || told_key(message, region).map(|key| key.key_id);
    let id = if key_id.contains("alias/") { told() } else { Some(key_id.to_owned()) };
    let command = |verb: &str| match &id {
        Some(id) => format!("aws kms {verb} --region {region} --key-id {id}"),
        None => format!("aws kms {verb} --region {region} --key-id ID, with the id that this tells: {describe} --query KeyMetadata.KeyId"),
    };
    match code.as_str() {
        "NotFoundException" => format!("check the id or alias, and the account; AWS KMS was asked in the region {region}"),
        "DisabledException" => format!("enable the key: {}", command("enable-key")),
        "KMSInvalidStateException" => {
            format!("see what state the key is in: {describe}; if it is to be deleted: {}", command("cancel-key-deletion"))
        }
        "AccessDeniedException" => {
            format!(
                "allow {permission} on the key to the caller, in an IAM policy or the key's own; who that is: aws sts get-caller-identity"
            )
        }
        code if is_of_ciphertext(code) => {
            "the packet was not made by this key, or with another encryption context (context_… in the key URI)".into()
        }
        "InvalidKeyUsageException" => {
            "an RSA key needs ?algorithm=RSA-OAEP-256 in its URI, a symmetric one must not have it, and keys for signing can't be used"
                .into()
        }
        _ => credentials_hint(code).unwrap_or("see the service's message").to_owned(),
    }
}

fn credentials_hint(code: &str) -> Option<&'static str> {
    match code {
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" | "MissingAuthenticationToken" => {
            Some("AWS doesn't know the access key; check AWS_ACCESS_KEY_ID, AWS_PROFILE and ~/.aws: aws sts get-caller-identity")
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => {
            Some("the secret access key is not that of the access key, or this machine's clock is wrong")
        }
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
            Some("the temporary credentials have expired; get new ones, for instance: aws sso login")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use zeroize::Zeroizing;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            challenge: None,
            location: None,
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    #[test]
    fn the_code_is_read_in_each_of_its_spellings() {
        for body in [
            r#"{"__type":"NotFoundException","message":"gone"}"#,
            r#"{"__type":"com.amazonaws.kms#NotFoundException","Message":"gone"}"#,
            r#"{"__type":"com.amazonaws.kms#NotFoundException:http://example/","message":"gone"}"#,
        ] {
            let refusal = Refusal::read(&answer(400, body));
            assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("NotFoundException", "gone"), "{body}");
        }
        for body in ["", "<html>", "[]", r#"{"__type":1}"#] {
            let refusal = Refusal::read(&answer(403, body));
            assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("without an error code", "it gave no reason"), "{body}");
        }
    }

    #[test]
    fn throttling_is_being_busy_though_its_status_is_400() {
        let throttled = answer(400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#);
        assert!(is_busy(&throttled));
        let error = Refusal::read(&throttled).explain(&throttled, Operation::Wrap, "awskms:///alias/a", "alias/a", "eu-central-1");
        assert!(
            error.line().contains("400 ThrottlingException: Rate exceeded") && error.line().contains("raise the quota"),
            "{}",
            error.line()
        );
        assert!(!is_busy(&answer(400, r#"{"__type":"NotFoundException"}"#)));
        assert!(is_busy(&answer(500, r#"{"__type":"KMSInternalException"}"#)));
    }

    #[test]
    fn a_command_that_takes_no_alias_names_the_key() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let hint = |code: &str, message: &str, key_id: &str| {
            let refused = answer(400, &format!(r#"{{"__type":"{code}","message":"{message}"}}"#));
            let error = Refusal::read(&refused).explain(&refused, Operation::Unwrap, "awskms:///alias/a", key_id, "eu-central-1");
            error.hint().into_owned()
        };
        for (message, key_id, named) in [
            (format!("{arn} is disabled."), "alias/a", arn),
            (format!("{arn} is pending deletion."), "alias/a", arn),
            (format!("The key '{arn}' can't be used"), "alias/a", arn),
            ("no".to_owned(), arn, arn),
            // What isn't a key of that region is not put into a command.
            (arn.replace("eu-central-1", "eu-west-1"), "alias/a", "ID, with the id that this tells"),
            ("arn:aws:kms:eu-central-1:111122223333:key/$(reboot)".to_owned(), "alias/a", "ID, with the id that this tells"),
            ("no".to_owned(), "arn:aws:kms:eu-central-1:111122223333:alias/a", "ID, with the id that this tells"),
        ] {
            let enable = hint("DisabledException", &message, key_id);
            assert!(enable.contains(&format!("enable-key --region eu-central-1 --key-id {named}")), "{enable}");
            let cancel = hint("KMSInvalidStateException", &message, key_id);
            assert!(cancel.contains(&format!("describe-key --region eu-central-1 --key-id {key_id}")), "{cancel}");
            assert!(cancel.contains(&format!("cancel-key-deletion --region eu-central-1 --key-id {named}")), "{cancel}");
        }
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        for (code, remedy) in [
            ("NotFoundException", "asked in the region eu-central-1"),
            (
                "DisabledException",
                "aws kms enable-key --region eu-central-1 --key-id ID, with the id that this tells: aws kms describe-key",
            ),
            ("KMSInvalidStateException", "aws kms describe-key --region eu-central-1 --key-id alias/a"),
            ("AccessDeniedException", "allow kms:Decrypt on the key"),
            ("InvalidCiphertextException", "context_… in the key URI"),
            ("IncorrectKeyException", "not made by this key"),
            ("InvalidKeyUsageException", "?algorithm=RSA-OAEP-256"),
            ("UnrecognizedClientException", "AWS_PROFILE"),
            ("InvalidSignatureException", "clock"),
            ("ExpiredTokenException", "aws sso login"),
            ("ValidationException", "see the service's message"),
        ] {
            let refused = answer(400, &format!(r#"{{"__type":"{code}","message":"no"}}"#));
            let error = Refusal::read(&refused).explain(&refused, Operation::Unwrap, "awskms:///alias/a", "alias/a", "eu-central-1");
            assert!(error.line().starts_with(&format!("awskms:///alias/a: the KMS answered 400 {code}: no; ")), "{}", error.line());
            assert!(error.line().contains(remedy), "{}", error.line());
        }
    }
}
