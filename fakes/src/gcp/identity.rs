//! Who the fake knows: one user, two service accounts, one outside workload, and the tokens they were given.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::jwt::{self, ServiceKey};
use super::keys::random;
use super::refusal::Refusal;

pub(super) const PROJECT: &str = "fake-project";
pub(super) const CLIENT_ID: &str = "123456789012-fake.apps.googleusercontent.com";
/// The account that has a key, and that the metadata server speaks for.
pub(super) const SERVICE_ACCOUNT: &str = "fake@fake-project.iam.gserviceaccount.com";
/// The account that others impersonate.
pub(super) const TARGET_ACCOUNT: &str = "target@fake-project.iam.gserviceaccount.com";
pub(super) const AUDIENCE: &str = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/fake/providers/fake";

pub(super) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
const CLOUD_KMS: &str = "https://www.googleapis.com/auth/cloudkms";
const IAM: &str = "https://www.googleapis.com/auth/iam";

pub(super) const LIFETIME: Duration = Duration::from_secs(3599);

/// An API that asks for a bearer token.
#[derive(Clone, Copy)]
pub(super) enum Service {
    Kms,
    IamCredentials,
}

impl Service {
    fn host(self) -> &'static str {
        match self {
            Self::Kms => "cloudkms.googleapis.com",
            Self::IamCredentials => "iamcredentials.googleapis.com",
        }
    }

    fn accepts_scope(self, scope: &str) -> bool {
        scope == CLOUD_PLATFORM
            || match self {
                Self::Kms => scope == CLOUD_KMS,
                Self::IamCredentials => scope == IAM,
            }
    }
}

pub(super) struct Identity {
    pub(super) client_secret: String,
    pub(super) refresh_token: String,
    /// What the outside identity provider vouches with, and what it wants to hear first.
    pub(super) subject_token: String,
    pub(super) subject_request_token: String,
    issued: HashMap<String, Issued>,
    key: Option<ServiceKey>,
}

struct Issued {
    scopes: Vec<String>,
    expires: Instant,
}

impl Identity {
    pub(super) fn new() -> Self {
        Self {
            client_secret: format!("GOCSPX-{}", random_text()),
            refresh_token: format!("1//{}", random_text()),
            subject_token: format!("subject-{}", random_text()),
            subject_request_token: format!("request-{}", random_text()),
            issued: HashMap::new(),
            key: None,
        }
    }

    /// Gives out an access token.
    pub(super) fn issue(&mut self, scopes: &[&str]) -> String {
        self.issue_for(scopes, LIFETIME)
    }

    pub(super) fn issue_for(&mut self, scopes: &[&str], lifetime: Duration) -> String {
        let token = format!("ya29.{}", random_text());
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self.issued.insert(token.clone(), Issued { scopes, expires: Instant::now() + lifetime });
        token
    }

    pub(super) fn revoke_all(&mut self) {
        for token in self.issued.values_mut() {
            token.expires = Instant::now();
        }
    }

    /// The service account's key. Made when it is first asked for, because that takes a while.
    pub(super) fn service_key(&mut self) -> &ServiceKey {
        self.key.get_or_insert_with(ServiceKey::generate)
    }

    /// The claims of an assertion that the service account's key signed.
    pub(super) fn verify_assertion(&self, assertion: &str) -> Result<jwt::Claims, &'static str> {
        let key = self.key.as_ref().ok_or("Invalid JWT Signature.")?;
        key.verify(assertion, SERVICE_ACCOUNT)
    }

    /// Whether the request carries a token that this API accepts.
    pub(super) fn check_bearer(&self, headers: &HeaderMap, service: Service) -> Result<(), Refusal> {
        let header = headers.get(AUTHORIZATION).ok_or_else(|| Refusal::no_credential(service.host()))?;
        let invalid = || Refusal::invalid_credential(service.host());
        let token = header.to_str().ok().and_then(bearer).ok_or_else(invalid)?;
        let scopes = match self.issued.get(token) {
            Some(issued) if issued.expires > Instant::now() => issued.scopes.clone(),
            Some(_) => return Err(invalid()),
            None => match self.self_signed(token, service).ok_or_else(invalid)? {
                // An audience stands for all that the API does.
                None => return Ok(()),
                Some(scopes) => scopes,
            },
        };
        if scopes.iter().any(|scope| service.accepts_scope(scope)) { Ok(()) } else { Err(Refusal::insufficient_scope(service.host())) }
    }

    /// A service account may sign its own tokens (<https://google.aip.dev/auth/4111>): for an audience, which is then
    /// this API, or for scopes, which are returned.
    fn self_signed(&self, token: &str, service: Service) -> Option<Option<Vec<String>>> {
        let claims = self.verify_assertion(token).ok()?;
        if claims.text("sub") != Some(SERVICE_ACCOUNT) {
            return None;
        }
        match (claims.text("aud"), claims.text("scope")) {
            (Some(audience), None) => {
                let expected = format!("https://{}", service.host());
                (audience.trim_end_matches('/') == expected).then_some(None)
            }
            (None, Some(scopes)) => Some(Some(scopes.split(' ').map(str::to_owned).collect())),
            _ => None,
        }
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let fixed = [&self.client_secret, &self.refresh_token, &self.subject_token, &self.subject_request_token];
        let mut secrets: Vec<_> = fixed.into_iter().chain(self.issued.keys()).cloned().collect();
        if let Some(key) = &self.key {
            // Line by line: in JSON, the line ends between them are escaped.
            secrets.extend(key.private_pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
        }
        secrets
    }
}

/// The token of an `Authorization` header.
pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn random_text() -> String {
    let mut bytes = [0; 16];
    random(&mut bytes);
    hex(&bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
