//! Keys of Azure Key Vault and Managed HSM: a fake that Microsoft's own libraries work against.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocicrypt_kms_fakes::azure::{Denial, FakeAzure};

use super::fresh_name;
use crate::fixture::{Fixture, Settings, Upstream};

/// What a Managed HSM's AES key has to say.
const QUERY: &str = "?algorithm=A256KW";
/// How long the tokens of a run live.
const LIFETIME: Duration = Duration::from_secs(3600);

pub struct Azure {
    fake: FakeAzure,
    host: &'static str,
    query: &'static str,
}

impl Azure {
    pub fn vault() -> Self {
        Self { fake: FakeAzure::start(), host: "team.vault.azure.net", query: "" }
    }

    pub fn hsm() -> Self {
        Self { fake: FakeAzure::start(), host: "pool.managedhsm.azure.net", query: QUERY }
    }

    /// The key's identifier, as the fake knows it.
    fn identifier(&self, uri: &str) -> String {
        let name = uri.trim_end_matches(self.query).rsplit('/').next().unwrap();
        format!("https://{}/keys/{name}", self.host)
    }

    /// What the command `az` of the tests answers.
    fn log_in(&self, folder: &Path) {
        for service in ["vault", "managedhsm"] {
            let token = self.fake.issue_token(&format!("https://{service}.azure.net"));
            let expires = (SystemTime::now() + LIFETIME).duration_since(UNIX_EPOCH).unwrap().as_secs();
            let answer = serde_json::json!({"accessToken": token, "expires_on": expires, "tokenType": "Bearer"});
            std::fs::write(folder.join(service).with_extension("json"), answer.to_string()).unwrap();
        }
    }
}

impl Fixture for Azure {
    fn name(&self) -> &'static str {
        if self.query.is_empty() { "azure" } else { "azure-hsm" }
    }

    fn create_key(&self) -> String {
        let uri = self.missing_key();
        match self.query {
            "" => self.fake.add_key(&self.identifier(&uri)),
            _ => self.fake.add_symmetric_key(&self.identifier(&uri)),
        };
        uri
    }

    fn missing_key(&self) -> String {
        format!("azurekms://{}/{}{}", self.host, fresh_name(), self.query)
    }

    fn upstream(&self) -> Option<Upstream> {
        Some(Upstream { url: self.fake.endpoint(), root: None })
    }

    fn settings(&self, address: &str, folder: &Path) -> Settings {
        self.log_in(folder);
        let path = format!("{}:/usr/bin:/bin", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/azure/bin"));
        let folder = folder.to_str().unwrap().to_owned();
        let environment = [("PATH", path), ("AZ_FOLDER", folder), ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential".to_owned())];
        Settings { config: format!("[azure]\nendpoint = \"{address}\""), environment: environment.into() }
    }

    fn can_disable(&self) -> bool {
        true
    }

    fn disable(&self, uri: &str) {
        self.fake.disable(&self.identifier(uri));
    }

    fn can_deny(&self) -> bool {
        true
    }

    fn deny(&self, uri: &str) {
        self.fake.deny(&self.identifier(uri), Denial::Rbac);
    }

    fn elsewhere(&self) -> &'static [&'static str] {
        &[
            "azurekms://evil.example/k",
            "azurekms://team.vault.azure.net.evil.example/k",
            "azurekms://team.vault.azure.net:8443/k",
            "azurekms://evil.team.vault.azure.net/k",
            "azurekms://team.vault.azure.net/../secrets/k",
            "azurekms://user@team.vault.azure.net/k",
        ]
    }
}
