//! What Cloud KMS says when it says no, and what to do about it.

use ocicrypt_kms_protocol::json::{Object, Value, string};

use super::verb::Verb;
use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::GcpKey;
use crate::kms::answer::Answer;

/// How many details of an error are looked at.
const MAX_DETAILS: usize = 16;
/// The project of gcloud's own OAuth client, which calls of a user are counted for who named no other.
const GCLOUD_PROJECTS: [&str; 2] = ["764086051850", "32555940559"];

/// A call that was refused.
pub struct Refusal<'a> {
    /// The key's URI.
    pub uri: &'a str,
    pub name: &'a GcpKey,
    pub verb: Verb,
}

/// An error as Google's services give it: [`google.rpc.Status`], with the [`ErrorInfo`] among its details, or that of an OAuth server
/// (RFC 6749, section 5.2). Everything in it is short and printable.
///
/// [`google.rpc.Status`]: https://cloud.google.com/apis/design/errors
/// [`ErrorInfo`]: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
#[derive(Debug, Default)]
pub struct GoogleError {
    /// The canonical code's name, or OAuth's.
    pub code: String,
    pub message: String,
    /// Why, in a word that doesn't change: `SERVICE_DISABLED`.
    pub reason: String,
    /// The project that the call was counted for, if it is one.
    pub consumer: Option<String>,
    /// The number of a key's version, if the message or a detail names one.
    pub version: Option<String>,
}

/// Reads an error.
#[must_use]
pub fn google_error(body: &[u8]) -> GoogleError {
    let outer = Object::parse(body).unwrap_or_default();
    let text = |object: &Object<'_>, name, limit| printable(&object.get(name).and_then(string).unwrap_or_default(), limit);
    let Some(inner) = outer.object("error").ok().filter(|_| outer.get("error").is_some()) else {
        return GoogleError {
            code: text(&outer, "error", 64),
            message: text(&outer, "error_description", MAX_OUTSIDE_TEXT),
            reason: text(&outer, "error_subtype", 64),
            ..GoogleError::default()
        };
    };
    let details =
        || inner.get("details").and_then(Value::elements).into_iter().flatten().take(MAX_DETAILS).filter_map(|it| it.into_object().ok());
    let info = details().find(|detail| text(detail, "@type", 64).ends_with("google.rpc.ErrorInfo")).unwrap_or_default();
    let consumer = info.object("metadata").map(|metadata| text(metadata, "consumer", 128)).unwrap_or_default();
    let message = text(inner, "message", MAX_OUTSIDE_TEXT);
    GoogleError {
        code: text(inner, "status", 64),
        reason: text(&info, "reason", 64),
        consumer: consumer.strip_prefix("projects/").filter(|project| is_project(project)).map(str::to_owned),
        version: version_in(&message).map(str::to_owned),
        message,
    }
}

/// A project's number or id, which may stand in a command.
fn is_project(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-')
}

/// The number of the version that a text names by its resource name.
fn version_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("/cryptoKeyVersions/")?;
    let number = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
    (1..=18).contains(&number.len()).then_some(number)
}

impl Refusal<'_> {
    /// Google's error as one with its remedy.
    pub fn error(&self, answer: &Answer) -> Error {
        let status = answer.status.as_u16();
        let said = google_error(&answer.body);
        let key = self.uri.to_owned();
        if answer.is_busy() {
            return Error::Busy { key, status, message: format!("{}: {}", said.code, said.message) };
        }
        let hint = self.hint(status, &said);
        Error::Kms { key, status, code: said.code, message: said.message, hint }
    }

    fn hint(&self, status: u16, said: &GoogleError) -> String {
        match (status, &*said.code) {
            (400, "FAILED_PRECONDITION") if said.is_about_state() => self.state(said),
            (400, _) if said.message.contains("purpose") => {
                "a symmetric key is named without `algorithm`; an asymmetric one by its version and ?algorithm=RSA-OAEP-256".into()
            }
            // Of a project, not of a key.
            (400 | 403, _) if said.reason == "BILLING_DISABLED" => self.forbidden(said),
            (400, "FAILED_PRECONDITION") => {
                let GcpKey { project, location, key_ring, key, .. } = self.name;
                format!(
                    "see the service's message, and the key's versions: gcloud kms keys versions list --key {key} --keyring {key_ring} --location \
                     {location} --project {project}"
                )
            }
            (400, _) if self.verb.unwraps() => {
                "the packet was not made by this key, or with another encryption context (context_… in the key URI)".into()
            }
            (401, _) if said.reason == "ACCOUNT_STATE_INVALID" => {
                "the account is disabled or deleted: enable it (gcloud iam service-accounts enable ACCOUNT), or use other credentials".into()
            }
            (401, _) => "the credentials were not accepted; renew them (gcloud auth application-default login) or check --adc; those of a service account \
                         need this machine's clock to be right"
                .into(),
            (403, _) => self.forbidden(said),
            (404, _) => "check the project, location, key ring and key in the URI".into(),
            _ => "see the service's message".into(),
        }
    }

    /// What to do about the [state] of a version.
    ///
    /// [state]: https://cloud.google.com/kms/docs/key-states
    fn state(&self, said: &GoogleError) -> String {
        let GcpKey { project, location, key_ring, key, version } = self.name;
        let version = said.version.as_deref().or(version.as_deref()).unwrap_or("VERSION");
        let of = format!("--key {key} --keyring {key_ring} --location {location} --project {project}");
        let is = |state: &str| said.message.contains(state);
        if is("DESTROY_SCHEDULED") {
            format!(
                "the version will be destroyed; before that, restore it, then enable it: gcloud kms keys versions restore {version} {of} && gcloud kms \
                 keys versions enable {version} {of}"
            )
        } else if is("DESTROYED") && self.verb.unwraps() {
            "the version is destroyed, for ever: decrypt with the key of another recipient, if the image was encrypted for one".into()
        } else if is("DESTROYED") {
            match self.verb {
                Verb::Encrypt => {
                    format!("the version is destroyed, for ever; make another one: gcloud kms keys versions create --primary {of}")
                }
                _ => format!("the version is destroyed, for ever; make another one, and name it: gcloud kms keys versions create {of}"),
            }
        } else if is("PENDING") {
            format!("the version is not made yet; wait, and see how it is: gcloud kms keys versions describe {version} {of}")
        } else if is("FAILED") {
            format!("the version could not be made; make another one: gcloud kms keys versions create {of}")
        } else {
            format!("enable the key's version: gcloud kms keys versions enable {version} {of}")
        }
    }

    /// What to do about a call that is forbidden: [`ErrorInfo`] says why, and where there is none, the message.
    ///
    /// [`ErrorInfo`]: https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto
    fn forbidden(&self, said: &GoogleError) -> String {
        let project = said.consumer.as_deref().unwrap_or(&self.name.project);
        let (role, permission) = self.verb.role();
        match said.reason_of_refusal() {
            Some(Forbidden::NoQuotaProject) => format!(
                "name a project that calls are counted for: gcloud auth application-default set-quota-project {0}, or GOOGLE_CLOUD_QUOTA_PROJECT={0}",
                self.name.project
            ),
            Some(Forbidden::ServiceDisabled) => {
                format!("enable the API, then wait some minutes: gcloud services enable cloudkms.googleapis.com --project {project}")
            }
            Some(Forbidden::Billing) => {
                format!("link the project to a billing account: gcloud billing projects link {project} --billing-account ACCOUNT")
            }
            Some(Forbidden::Scope) => {
                "no role helps, since the token lacks the scope cloud-platform: stop the machine and give it that (gcloud compute \
                                       instances set-service-account VM --scopes cloud-platform), or log in again: gcloud auth \
                                       application-default login"
                    .into()
            }
            Some(Forbidden::Perimeter) => {
                "no role helps, since a perimeter of VPC Service Controls forbids it: call from inside, or let who administers it \
                                           allow cloudkms.googleapis.com for this caller (an ingress or egress rule)"
                    .into()
            }
            Some(Forbidden::QuotaProject) => format!(
                "grant roles/serviceusage.serviceUsageConsumer on the project {project} to the caller, or name another project in \
                 GOOGLE_CLOUD_QUOTA_PROJECT or the credential file's `quota_project_id`"
            ),
            Some(Forbidden::Project) => {
                format!("the project can't be used: see whether it is suspended or deleted: gcloud projects describe {project}")
            }
            Some(Forbidden::Organisation) => "no role helps, since a policy of the organisation forbids it: ask who administers it".into(),
            None => format!("grant {role} on the key to the caller, who lacks the permission to {permission}"),
        }
    }
}

/// Why a call is forbidden, other than for want of a role on the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Forbidden {
    NoQuotaProject,
    ServiceDisabled,
    Billing,
    Scope,
    Perimeter,
    QuotaProject,
    Project,
    Organisation,
}

/// By `ErrorInfo`.
const REASONS: [(&str, Forbidden); 10] = [
    ("SERVICE_DISABLED", Forbidden::ServiceDisabled),
    ("BILLING_DISABLED", Forbidden::Billing),
    ("ACCESS_TOKEN_SCOPE_INSUFFICIENT", Forbidden::Scope),
    ("SECURITY_POLICY_VIOLATED", Forbidden::Perimeter),
    ("USER_PROJECT_DENIED", Forbidden::QuotaProject),
    ("CONSUMER_INVALID", Forbidden::Project),
    ("CONSUMER_SUSPENDED", Forbidden::Project),
    ("RESOURCE_PROJECT_INVALID", Forbidden::Project),
    ("ORG_RESTRICTION_VIOLATION", Forbidden::Organisation),
    ("RESOURCE_USAGE_RESTRICTION_VIOLATED", Forbidden::Organisation),
];

/// By parts of messages, where there is no `ErrorInfo`.
const MESSAGES: [(&str, Forbidden); 6] = [
    ("has not been used in project", Forbidden::ServiceDisabled),
    ("requires billing to be enabled", Forbidden::Billing),
    ("insufficient authentication scopes", Forbidden::Scope),
    ("vpcServiceControlsUniqueIdentifier", Forbidden::Perimeter),
    ("prohibited by organization's policy", Forbidden::Perimeter),
    ("serviceusage.serviceUsageConsumer", Forbidden::QuotaProject),
];

impl GoogleError {
    /// Whether it is about a version that is there, but not enabled.
    fn is_about_state(&self) -> bool {
        ["current state is", "not enabled", "DISABLED"].iter().any(|part| self.message.contains(part))
    }

    fn reason_of_refusal(&self) -> Option<Forbidden> {
        let of_gcloud = self.consumer.as_deref().is_some_and(|project| GCLOUD_PROJECTS.contains(&project));
        if of_gcloud || self.message.contains("requires a quota project") {
            return Some(Forbidden::NoQuotaProject);
        }
        let by_reason = REASONS.iter().find(|(reason, _)| *reason == self.reason);
        let by_message = || MESSAGES.iter().find(|(part, _)| self.reason.is_empty() && self.message.contains(part));
        by_reason.or_else(by_message).map(|(_, forbidden)| *forbidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_error_gets_into_a_command_but_projects_and_numbers() {
        let body = |consumer: &str, version: &str| {
            let error = serde_json::json!({"error": {
                "status": "PERMISSION_DENIED",
                "message": format!("projects/p/…/cryptoKeyVersions/{version} is not enabled"),
                "details": [7, {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "X", "metadata": {"consumer": consumer}}],
            }});
            google_error(error.to_string().as_bytes())
        };
        let error = body("projects/example.com:p-1", "7");
        assert_eq!((error.consumer.as_deref(), error.version.as_deref(), &*error.reason), (Some("example.com:p-1"), Some("7"), "X"));
        for (consumer, version) in [("projects/$(x)", "x"), ("p", ""), ("projects/--all", "1234567890123456789"), ("projects/", "-1")] {
            let error = body(consumer, version);
            assert_eq!((error.consumer, error.version), (None, None), "{consumer} {version}");
        }
    }

    #[test]
    fn an_error_is_read_up_to_its_bounds() {
        let detail = r#"{"@type":"type.googleapis.com/google.rpc.Help"},"#;
        let late =
            format!(r#"{{"error":{{"details":[{}{{"@type":"google.rpc.ErrorInfo","reason":"LATE"}}]}}}}"#, detail.repeat(MAX_DETAILS));
        assert_eq!(google_error(late.as_bytes()).reason, "");
        let long = format!(r#"{{"error":{{"message":"\u001b{}"}}}}"#, "x".repeat(10_000));
        assert_eq!(google_error(long.as_bytes()).message.len(), MAX_OUTSIDE_TEXT);
        for other in ["", "[]", "{}", r#"{"error":7}"#, r#"{"error":[]}"#, r#"{"error":{"details":{}}}"#, "<!DOCTYPE html>"] {
            assert_eq!(google_error(other.as_bytes()).code, "", "{other}");
        }
        let oauth =
            google_error(br#"{"error":"invalid_grant","error_description":"Token has been expired","error_subtype":"invalid_rapt"}"#);
        assert_eq!((&*oauth.code, &*oauth.message, &*oauth.reason), ("invalid_grant", "Token has been expired", "invalid_rapt"));
    }
}
