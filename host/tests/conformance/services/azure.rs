//! Keys of Azure Key Vault and Managed HSM: a fake that Microsoft's own libraries work against.

use std::path::Path;
use std::time::Duration;

use ocicrypt_kms_fakes::azure::{Denial, FakeAzure};
use ocicrypt_kms_testing::azure_cli;

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

    /// Gives the stand-in for the Azure CLI tokens.
    fn log_in(&self, folder: &Path) {
        for service in ["vault", "managedhsm"] {
            let token = self.fake.issue_token(&format!("https://{service}.azure.net"));
            azure_cli::log_in(folder, service, &token, LIFETIME);
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
        Settings { config: format!("[azure]\nendpoint = \"{address}\""), environment: azure_cli::variables(folder).into() }
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
