//! Azure Key Vault, Managed HSM and the endpoints that give out Microsoft Entra's access tokens, on one loopback port.
//!
//! ```
//! use ocicrypt_kms_fakes::azure::{FakeAzure, Fault};
//!
//! let fake = FakeAzure::start();
//! fake.add_key("https://team.vault.azure.net/keys/k");
//! fake.fault(Fault::Status(503)); // the next call fails, the one after it does not
//! println!("point the client at {}", fake.endpoint());
//! ```
//!
//! | path | what it stands for |
//! |---|---|
//! | `/keys/NAME[/VERSION]`, and `/wrapkey`, `/unwrapkey` below it | all vaults and HSMs |
//! | `/TENANT/oauth2/v2.0/token` | `login.microsoftonline.com`: client secrets, signed-in workloads |
//! | `/TENANT/v2.0/.well-known/openid-configuration` | the same, for Microsoft's library MSAL |
//! | `/msi/token` | the managed identity endpoint of App Service |
//!
//! A client that comes by a vault's own name (its `Host` header) sees the keys of that vault, as the real service has it. One that
//! comes by the fake's address sees all keys, so their names should differ.

mod assertion;
mod certificate;
mod entra;
mod faults;
mod keys;
mod refusal;
mod routes;
mod vault;

pub use crate::record::Request;
pub use certificate::Certificate;
pub use entra::TENANT;
pub use faults::{Fault, FaultPlan};
pub use keys::Denial;

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use crate::server::{self, Server};
use crate::traffic::Traffic;

/// A running fake of Azure. It stops when it is dropped. Its faults and its record of requests are those of [`Traffic`].
pub struct FakeAzure {
    server: Server,
    shared: Shared,
    traffic: Traffic<Fault>,
}

type Shared = crate::shared::Shared<State>;

struct State {
    endpoint: String,
    keys: keys::Keys,
    entra: entra::Entra,
}

impl FakeAzure {
    /// Serves plain HTTP on a free port of 127.0.0.1. Microsoft's libraries ask for tokens only in HTTPS.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Serves plain HTTP on this port of 127.0.0.1; 0 takes a free one.
    pub fn start_on(port: u16) -> Self {
        Self::serve(port, None)
    }

    /// Serves HTTPS on this port of 127.0.0.1, 0 for a free one, under Azure's names and its own.
    pub fn start_tls(port: u16, certificate: &Certificate) -> Self {
        Self::serve(port, Some(server::tls_acceptor(&certificate.chain_pem, &certificate.key_pem)))
    }

    fn serve(port: u16, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let shared = Shared::new(State { endpoint: String::new(), keys: keys::Keys::default(), entra: entra::Entra::new() });
        let traffic = Traffic::new();
        let server = Server::start(port, tls, routes::router(shared.clone(), traffic.clone()));
        let fake = Self { server, shared, traffic };
        fake.shared.lock().endpoint = fake.endpoint();
        fake
    }

    /// The base of all URLs, such as `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// Keys, named by their identifiers without version: `https://HOST/keys/NAME`.
impl FakeAzure {
    /// Adds an RSA key of 2048 bits with one version. Returns the version.
    pub fn add_key(&self, identifier: &str) -> String {
        self.shared.lock().keys.add(identifier, keys::Version::rsa())
    }

    /// Adds an AES key of 256 bits with one version, as only an HSM can have it. Returns the version.
    pub fn add_symmetric_key(&self, identifier: &str) -> String {
        self.shared.lock().keys.add(identifier, keys::Version::aes())
    }

    /// Adds a version, which is then the current one. Returns it.
    pub fn rotate(&self, identifier: &str) -> String {
        self.shared.lock().keys.existing(identifier).rotate()
    }

    /// Disables the current version.
    pub fn disable(&self, identifier: &str) {
        self.shared.lock().keys.existing(identifier).current_mut().enabled = false;
    }

    /// Lets the current version expire: it still unwraps, but no longer wraps.
    pub fn expire(&self, identifier: &str) {
        self.shared.lock().keys.existing(identifier).current_mut().expired = true;
    }

    /// Takes the permission to use this key from every caller, in this way.
    pub fn deny(&self, identifier: &str, denial: Denial) {
        self.shared.lock().keys.existing(identifier).denial = Some(denial);
    }

    /// Takes the permission to see this key's public half from every caller, so that libraries can't wrap by themselves.
    pub fn hide(&self, identifier: &str) {
        self.shared.lock().keys.existing(identifier).hidden = true;
    }
}

/// Faults and records.
impl Deref for FakeAzure {
    type Target = Traffic<Fault>;

    fn deref(&self) -> &Traffic<Fault> {
        &self.traffic
    }
}

/// Who may call. There is always a token asked for.
impl FakeAzure {
    /// The environment variables of an application with a client secret, whose tokens this fake gives out.
    pub fn client_secret(&self) -> [(&'static str, String); 4] {
        let state = self.shared.lock();
        [
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_CLIENT_ID", entra::CLIENT_ID.to_owned()),
            ("AZURE_CLIENT_SECRET", state.entra.client_secret.clone()),
            ("AZURE_AUTHORITY_HOST", state.endpoint.clone()),
        ]
    }

    /// What a workload proves itself with, for the file that `AZURE_FEDERATED_TOKEN_FILE` names.
    pub fn federated_token(&self) -> String {
        self.shared.lock().entra.federated_token.clone()
    }

    /// Lets the application prove itself by a certificate, given with its public key (PKCS #1), both in DER. What it signs is checked as Entra
    /// does.
    pub fn trust_certificate(&self, certificate: &[u8], public_key: &[u8]) {
        self.shared.lock().entra.trusted = Some(assertion::Trusted::new(certificate, public_key));
    }

    /// The environment variables of an App Service that has a managed identity.
    pub fn managed_identity(&self) -> [(&'static str, String); 2] {
        let state = self.shared.lock();
        [("IDENTITY_ENDPOINT", format!("{}/msi/token", state.endpoint)), ("IDENTITY_HEADER", state.entra.identity_header.clone())]
    }

    /// An access token for this resource, such as `https://vault.azure.net`, as `az account get-access-token` gives it.
    pub fn issue_token(&self, resource: &str) -> String {
        self.shared.lock().entra.issue(resource)
    }

    /// How long the tokens live that are given out from now on. At first it is an hour.
    pub fn token_lifetime(&self, lifetime: Duration) {
        self.shared.lock().entra.lifetime = lifetime;
    }

    /// Revokes every token given out so far.
    pub fn revoke_tokens(&self) {
        self.shared.lock().entra.revoke_all();
    }

    /// Every secret that a client of this fake can hold, for tests that search logs and error messages for them.
    pub fn secrets(&self) -> Vec<String> {
        self.shared.lock().entra.secrets()
    }
}
