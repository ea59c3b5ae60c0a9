//! What Cloud KMS says when it says no, and what to do about it.

use ocicrypt_kms_protocol::json::{Object, string};

use super::verb::Verb;
use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::GcpKey;
use crate::kms::answer::Answer;

/// A call that was refused.
pub struct Refusal<'a> {
    /// The key's URI.
    pub uri: &'a str,
    pub name: &'a GcpKey,
    pub verb: Verb,
}

impl Refusal<'_> {
    /// Google's error JSON (`google.rpc.Status` in `error`) as an error with its remedy.
    pub fn error(&self, answer: &Answer) -> Error {
        let status = answer.status.as_u16();
        let outer = Object::parse(&answer.body).unwrap_or_default();
        let inner = outer.object("error").unwrap_or_default();
        let text = |name| inner.get(name).and_then(string).unwrap_or_default();
        let code = printable(&text("status"), 64);
        let message = printable(&text("message"), MAX_OUTSIDE_TEXT);
        let key = self.uri.to_owned();
        if answer.is_busy() {
            return Error::Busy { key, status, message: format!("{code}: {message}") };
        }
        let hint = self.hint(status, &code, &message);
        Error::Kms { key, status, code, message, hint }
    }

    fn enable(&self) -> String {
        let GcpKey { project, location, key_ring, key, version } = self.name;
        let version = version.as_deref().unwrap_or("VERSION");
        format!(
            "enable the key's version: gcloud kms keys versions enable {version} --key {key} --keyring {key_ring} --location {location} \
             --project {project}"
        )
    }

    fn hint(&self, status: u16, code: &str, message: &str) -> String {
        let (role, permission) = self.verb.role();
        match (status, code) {
            (400, "FAILED_PRECONDITION") if message.contains("not enabled") || message.contains("DISABLED") => self.enable(),
            (400, _) if message.contains("purpose") => {
                "a symmetric key is named without `algorithm`; an asymmetric one by its version and ?algorithm=RSA-OAEP-256".into()
            }
            (400, _) if self.verb.unwraps() => {
                "the packet was not made by this key, or with another encryption context (context_… in the key URI)".into()
            }
            (401, _) => "the credentials were not accepted; renew them (gcloud auth application-default login) or check --adc".into(),
            (403, _) => format!("grant {role} on the key to the caller, who lacks the permission to {permission}"),
            (404, _) => "check the project, location, key ring and key in the URI".into(),
            _ => "see the service's message".into(),
        }
    }
}
