//! Credential files as Google's tools write them, but pointing at the fake.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::identity::{AUDIENCE, CLIENT_ID, PROJECT, SERVICE_ACCOUNT, TARGET_ACCOUNT};
use super::{FakeGcp, sts};

/// Credential files for `GOOGLE_APPLICATION_CREDENTIALS` and its like, written into a directory; each returns its path.
///
/// On a machine of Google's cloud there is no file: set `GCE_METADATA_HOST` to [`FakeGcp::address`].
impl FakeGcp {
    /// A service account's key, as from `gcloud iam service-accounts keys create`.
    ///
    /// Clients either sign their own token with it, which needs no endpoint, or exchange an assertion at `token_uri`.
    /// google-cloud-auth always does the former and does not read `token_uri`.
    pub fn service_account_file(&self, dir: &Path) -> PathBuf {
        write_json(dir, "service-account.json", &self.service_account())
    }

    /// A user's refresh token, as from `gcloud auth application-default login`.
    ///
    /// `gcloud` writes no `token_uri`; it is here because it is what points at the fake, and google-cloud-auth reads it.
    /// Python's google-auth does not: it knows only Google's own address.
    pub fn authorized_user_file(&self, dir: &Path) -> PathBuf {
        write_json(dir, "authorized-user.json", &self.authorized_user())
    }

    /// A user of a workforce identity pool, as from `gcloud auth application-default login --login-config`.
    pub fn workforce_user_file(&self, dir: &Path) -> PathBuf {
        let state = self.shared.lock();
        let file = json!({
            "type": "external_account_authorized_user",
            "audience": "//iam.googleapis.com/locations/global/workforcePools/fake/providers/fake",
            "client_id": CLIENT_ID,
            "client_secret": state.identity.client_secret,
            "refresh_token": state.identity.refresh_token,
            "revoke_url": format!("{}/v1/revoke", state.endpoint),
            "token_info_url": format!("{}/v1/introspect", state.endpoint),
            "token_url": format!("{}/v1/oauthtoken", state.endpoint),
            "universe_domain": "googleapis.com",
        });
        write_json(dir, "workforce-user.json", &file)
    }

    /// Workload identity federation with a token that a program prints, as from
    /// `gcloud iam workload-identity-pools create-cred-config --executable-command`.
    pub fn external_account_executable_sourced(&self, dir: &Path, executable: &Value) -> PathBuf {
        write_json(dir, "external-account-executable.json", &self.external_account(json!({ "executable": executable })))
    }

    /// What the outside identity provider vouches with.
    pub fn subject_token(&self) -> String {
        self.shared.lock().identity.subject_token.clone()
    }

    /// Impersonation by a user, as from `gcloud auth application-default login --impersonate-service-account`.
    ///
    /// google-cloud-auth takes the whole URL from the file. Python's google-auth takes only the account's name from it, and
    /// asks Google's own address.
    pub fn impersonated_file(&self, dir: &Path) -> PathBuf {
        write_json(dir, "impersonated.json", &self.impersonated(self.authorized_user()))
    }

    /// Impersonation by another service account.
    pub fn impersonated_by_service_account_file(&self, dir: &Path) -> PathBuf {
        let file = self.impersonated(self.service_account());
        write_json(dir, "impersonated-by-service-account.json", &file)
    }

    /// Workload identity federation with a token from a file (text), as from
    /// `gcloud iam workload-identity-pools create-cred-config --credential-source-file`.
    pub fn external_account_file_sourced(&self, dir: &Path) -> PathBuf {
        let source = self.file_source(dir);
        write_json(dir, "external-account-file.json", &self.external_account(source))
    }

    /// Workload identity federation with a token from a URL (JSON, with a request header), as a CI service has it.
    pub fn external_account_url_sourced(&self, dir: &Path) -> PathBuf {
        let request_token = self.shared.lock().identity.subject_request_token.clone();
        let source = json!({
            "url": format!("{}/subject-token?format=json", self.endpoint()),
            "headers": {"Authorization": format!("Bearer {request_token}")},
            "format": {"type": "json", "subject_token_field_name": "value"},
        });
        write_json(dir, "external-account-url.json", &self.external_account(source))
    }

    /// Workload identity federation with a token from a file, which then impersonates a service account, as from
    /// `create-cred-config --service-account`.
    pub fn external_account_impersonated(&self, dir: &Path) -> PathBuf {
        let mut file = self.external_account(self.file_source(dir));
        file["service_account_impersonation_url"] = self.impersonation_url().into();
        write_json(dir, "external-account-impersonated.json", &file)
    }

    /// Writes every kind of file there is here.
    pub fn all_credential_files(&self, dir: &Path) -> Vec<PathBuf> {
        vec![
            self.service_account_file(dir),
            self.authorized_user_file(dir),
            self.impersonated_file(dir),
            self.impersonated_by_service_account_file(dir),
            self.external_account_file_sourced(dir),
            self.external_account_url_sourced(dir),
            self.external_account_impersonated(dir),
        ]
    }

    fn service_account(&self) -> Value {
        let mut state = self.shared.lock();
        let key = state.identity.service_key();
        json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": key.id,
            "private_key": key.private_pem,
            "client_email": SERVICE_ACCOUNT,
            "client_id": "123456789012345678901",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": format!("{}/token", self.endpoint()),
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/fake%40fake-project.iam.gserviceaccount.com",
            "universe_domain": "googleapis.com",
        })
    }

    fn authorized_user(&self) -> Value {
        let state = self.shared.lock();
        json!({
            "account": "",
            "client_id": CLIENT_ID,
            "client_secret": state.identity.client_secret,
            "quota_project_id": PROJECT,
            "refresh_token": state.identity.refresh_token,
            "token_uri": format!("{}/token", self.endpoint()),
            "type": "authorized_user",
            "universe_domain": "googleapis.com",
        })
    }

    fn impersonated(&self, source: Value) -> Value {
        json!({
            "delegates": [],
            "service_account_impersonation_url": self.impersonation_url(),
            "source_credentials": source,
            "type": "impersonated_service_account",
        })
    }

    fn impersonation_url(&self) -> String {
        format!("{}/v1/projects/-/serviceAccounts/{TARGET_ACCOUNT}:generateAccessToken", self.endpoint())
    }

    fn external_account(&self, source: Value) -> Value {
        json!({
            "universe_domain": "googleapis.com",
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": sts::JWT,
            "token_url": format!("{}/v1/token", self.endpoint()),
            "credential_source": source,
        })
    }

    fn file_source(&self, dir: &Path) -> Value {
        let token = self.shared.lock().identity.subject_token.clone();
        let path = write(dir, "subject-token", token.as_bytes());
        json!({"file": path, "format": {"type": "text"}})
    }
}

fn write_json(dir: &Path, name: &str, content: &Value) -> PathBuf {
    let text = serde_json::to_string_pretty(content).expect("JSON");
    write(dir, name, text.as_bytes())
}

/// Readable by its owner only, as the tools do.
fn write(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(content));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
