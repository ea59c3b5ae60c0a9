//! Credential files, of each type that Application Default Credentials may have.

use std::path::Path;
use std::sync::Mutex;

use ocicrypt_kms_protocol::json::{JsonError, Value, string};
use zeroize::Zeroizing;

use super::federation::Federation;
use super::fields::Fields;
use super::refresh::{Client, RefreshToken, User};
use super::service_account::{ServiceAccount, read_key};
use super::token_service::Impersonation;
use super::{Found, Source, VARIABLE};
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::trusted_file::{self, Trust};
use crate::{Error, shown};

/// The most bytes of a credential file.
pub(super) const MAX_LENGTH: usize = 64 << 10;
/// What editors and other systems' tools put in front of a text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How deep credentials may stand in each other: an account that is impersonated, and who impersonates it.
const MAX_SOURCES: usize = 2;

/// What is wrong with a file, and what to do about it if that isn't the usual.
struct Flaw {
    reason: String,
    remedy: Option<&'static str>,
}

impl Flaw {
    fn with_remedy(reason: &str, remedy: &'static str) -> Self {
        Self { reason: reason.to_owned(), remedy: Some(remedy) }
    }
}

impl From<String> for Flaw {
    fn from(reason: String) -> Self {
        Self { reason, remedy: None }
    }
}

/// Reads a credential file.
pub(super) fn read(path: &Path) -> Result<Found, Error> {
    let place = shown::path(path).to_string();
    let unusable = |Flaw { reason, remedy }| {
        let usual =
            || format!("name a readable credential file with --adc or {VARIABLE}, or log in: gcloud auth application-default login");
        let remedy = remedy.map_or_else(usual, str::to_owned);
        let reason = format!("{}; {remedy}", printable(&reason, MAX_OUTSIDE_TEXT));
        Error::Configuration { place: format!("the credentials in {place}"), reason }
    };
    let text = trusted_file::read(path, Trust::Credential, MAX_LENGTH).map_err(|untrusted| unusable(untrusted.line(path).into()))?;
    parse(&text, &place).map_err(unusable)
}

fn parse(text: &[u8], place: &str) -> Result<Found, Flaw> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let value = Value::parse(text).map_err(|error| match error {
        JsonError::Syntax { line, column } => format!("it is not JSON (line {line}, column {column})"),
        other => other.to_string(),
    })?;
    let object = value.into_object().map_err(|_| "its `type` is not that of a credential: it is no JSON object".to_owned())?;
    if object.get("installed").is_some() || object.get("web").is_some() {
        return Err(Flaw::with_remedy(
            "its `type` is not that of a credential: it is the file of an OAuth client, with which users log in",
            "do that: gcloud auth application-default login --client-id-file FILE --scopes https://www.googleapis.com/auth/cloud-platform",
        ));
    }
    let kind = object.get("type").and_then(string).unwrap_or_default();
    let fields = Fields { object: &object, kind: &kind };
    let source = source(fields, MAX_SOURCES)?;
    let inner = fields.object("source_credentials")?;
    let universe = match fields.text("universe_domain")? {
        None => inner.map(|inner| inner.text("universe_domain")).transpose()?.flatten(),
        universe => universe,
    };
    Ok(Found { place: place.to_owned(), source, universe, quota_project: fields.text("quota_project_id")? })
}

fn source(fields: Fields<'_>, depth: usize) -> Result<Source, Flaw> {
    let source = match fields.kind {
        "service_account" => Source::ServiceAccount(service_account(fields)?),
        "authorized_user" => Source::Refresh(refresh(fields, User::Google)?),
        "external_account_authorized_user" => Source::Refresh(refresh(fields, User::Workforce)?),
        "external_account" if fields.object("credential_source")?.is_some_and(|source| source.object.get("certificate").is_some()) => {
            return Err(Flaw::with_remedy(
                "its `credential_source` is an X.509 certificate, which is not supported",
                "make one with another source, such as --credential-source-file or --executable-command: gcloud iam workload-identity-pools \
                 create-cred-config",
            ));
        }
        "external_account" => {
            let federated = Source::Federated(Box::new(Federation::read(fields)?));
            return Ok(match impersonation(fields)? {
                Some(impersonation) => Source::Impersonated(Box::new(federated), impersonation),
                None => federated,
            });
        }
        "impersonated_service_account" if depth > 1 => {
            let impersonation = impersonation(fields)?.ok_or_else(|| fields.missing("service_account_impersonation_url"))?;
            let inner = fields.object("source_credentials")?.ok_or_else(|| fields.missing("source_credentials"))?;
            let kind = inner.text("type")?.unwrap_or_default();
            Source::Impersonated(Box::new(source(Fields { kind: &kind, ..inner }, depth - 1)?), impersonation)
        }
        "gdch_service_account" => {
            return Err(Flaw::with_remedy(
                "its `type` is gdch_service_account, of Google Distributed Cloud, which is not supported: Cloud KMS doesn't accept its tokens",
                "name the credentials of an account of Google Cloud that may use the key",
            ));
        }
        other => return Err(format!("its `type` is not that of a credential: {}", shown::name(other)).into()),
    };
    Ok(source)
}

fn service_account(fields: Fields<'_>) -> Result<ServiceAccount, Flaw> {
    let key = read_key(&fields.secret("private_key")?).ok_or_else(|| {
        Flaw::with_remedy(
            "its `private_key` is not an RSA private key in PEM",
            "take the file as it was downloaded, or make another one: gcloud iam service-accounts keys create FILE --iam-account ACCOUNT",
        )
    })?;
    Ok(ServiceAccount { email: fields.required("client_email")?, key_id: fields.required("private_key_id")?, key })
}

fn refresh(fields: Fields<'_>, user: User) -> Result<RefreshToken, String> {
    let url = match user {
        User::Google => fields.address("token_uri", "https://oauth2.googleapis.com/token")?,
        User::Workforce => fields.address("token_url", "https://sts.googleapis.com/v1/oauthtoken")?,
    };
    let client = Client { id: fields.required("client_id")?, secret: fields.secret("client_secret")? };
    Ok(RefreshToken { url, client, token: Mutex::new(Zeroizing::new(fields.required("refresh_token")?)), user })
}

/// Whom to impersonate, if the file says so.
fn impersonation(fields: Fields<'_>) -> Result<Option<Impersonation>, String> {
    if fields.text("service_account_impersonation_url")?.is_none() {
        return Ok(None);
    }
    let options = fields.object("service_account_impersonation")?;
    let lifetime = options.map(|options| options.number("token_lifetime_seconds")).transpose()?.flatten();
    Ok(Some(Impersonation {
        url: fields.address("service_account_impersonation_url", "")?,
        delegates: fields.texts("delegates")?,
        lifetime: lifetime.unwrap_or(Impersonation::LIFETIME),
    }))
}
