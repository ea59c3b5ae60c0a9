//! Google Cloud KMS and the endpoints that give out Google's access tokens, on one loopback port.
//!
//! ```
//! use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
//!
//! let fake = FakeGcp::start();
//! let key = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
//! fake.add_key(key);
//! fake.fault(Fault::Status(503)); // the next call fails, the one after it does not
//! println!("point the client at {}", fake.endpoint());
//! ```
//!
//! | path | what it stands for |
//! |---|---|
//! | `/v1/projects/…:encrypt`, `:decrypt`, `:asymmetricDecrypt`, `/publicKey` | `cloudkms.googleapis.com` |
//! | `/token` | `oauth2.googleapis.com`: refresh tokens, signed assertions |
//! | `/v1/token`, `/v1/oauthtoken` | `sts.googleapis.com`: workload identity federation, refresh tokens of workforce users |
//! | `/v1/projects/-/serviceAccounts/…:generateAccessToken` | `iamcredentials.googleapis.com` |
//! | `/computeMetadata/v1/…` | the metadata server of a virtual machine |
//! | `/subject-token` | somebody else's identity provider, for URL-sourced federation |

mod asymmetric;
mod credential_files;
mod faults;
mod fields;
mod identity;
mod jwt;
mod keys;
mod kms;
mod metadata;
mod refusal;
mod routes;
mod sts;
mod tokens;

pub use crate::record::Request;
pub use faults::{Fault, FaultPlan};

use std::net::SocketAddr;
use std::ops::Deref;

use crate::server::{self, Server};
use crate::traffic::Traffic;

/// A running fake of Google Cloud. It stops when it is dropped. Its faults and its record of requests are those of [`Traffic`].
pub struct FakeGcp {
    server: Server,
    shared: Shared,
    traffic: Traffic<Fault>,
}

type Shared = crate::shared::Shared<State>;

struct State {
    endpoint: String,
    auth_required: bool,
    keys: keys::Keys,
    asymmetric: asymmetric::AsymmetricKeys,
    identity: identity::Identity,
}

impl FakeGcp {
    /// Serves plain HTTP on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Serves plain HTTP on this port of 127.0.0.1; 0 takes a free one.
    pub fn start_on(port: u16) -> Self {
        Self::serve(port, None)
    }

    /// Serves HTTPS on a free port of 127.0.0.1, with this certificate chain and private key.
    pub fn start_tls(cert_pem: &str, key_pem: &str) -> Self {
        Self::serve(0, Some(server::tls_acceptor(cert_pem, key_pem)))
    }

    fn serve(port: u16, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let shared = Shared::new(State {
            endpoint: String::new(),
            auth_required: false,
            keys: keys::Keys::default(),
            asymmetric: asymmetric::AsymmetricKeys::default(),
            identity: identity::Identity::new(),
        });
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

    /// The address that is listened on, as `GCE_METADATA_HOST` wants it.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// Keys.
impl FakeGcp {
    /// Adds a symmetric key, `projects/…/locations/…/keyRings/…/cryptoKeys/…`, with version 1 as its primary.
    pub fn add_key(&self, name: &str) {
        self.shared.lock().keys.add(name);
    }

    /// Adds a version with this [algorithm] to an asymmetric key, and the key if there is none. Returns the version's number.
    ///
    /// [algorithm]: https://cloud.google.com/kms/docs/reference/rest/v1/CryptoKeyVersionAlgorithm
    pub fn add_asymmetric_version(&self, name: &str, algorithm: &str) -> usize {
        self.shared.lock().asymmetric.add(name, algorithm)
    }

    /// Disables one version of an asymmetric key.
    pub fn disable_asymmetric_version(&self, name: &str, version: usize) {
        self.shared.lock().asymmetric.disable(name, version);
    }

    /// Adds a version and makes it the primary; older ones still decrypt. Returns its number.
    pub fn rotate(&self, name: &str) -> usize {
        self.shared.lock().keys.existing(name).rotate()
    }

    /// Disables the primary version.
    pub fn disable(&self, name: &str) {
        self.shared.lock().keys.existing(name).disable_primary();
    }

    /// Disables one version.
    pub fn disable_version(&self, name: &str, version: usize) {
        self.shared.lock().keys.existing(name).disable(version);
    }

    /// Takes the permission to use this key from every caller. The key need not exist: callers can't tell.
    pub fn deny(&self, name: &str) {
        self.shared.lock().keys.deny(name);
    }

    /// Makes the key decrypt exactly this ciphertext, sent without additional data, to this plaintext.
    ///
    /// For annotations that the real service made, whose key nobody can have. Adds the key if need be.
    pub fn hold(&self, name: &str, ciphertext: &[u8], plaintext: &[u8]) {
        self.shared.lock().keys.hold(name, ciphertext, plaintext);
    }
}

/// Faults and records.
impl Deref for FakeGcp {
    type Target = Traffic<Fault>;

    fn deref(&self) -> &Traffic<Fault> {
        &self.traffic
    }
}

/// Who may call.
impl FakeGcp {
    /// Whether the KMS asks for a bearer token that the fake gave out or can verify. It starts without.
    pub fn require_auth(&self, required: bool) {
        self.shared.lock().auth_required = required;
    }

    /// An access token that the KMS accepts, as if from the command `gcloud auth print-access-token`.
    pub fn issue_token(&self) -> String {
        self.shared.lock().identity.issue(&[identity::CLOUD_PLATFORM])
    }

    /// Revokes every token given out so far.
    pub fn revoke_tokens(&self) {
        self.shared.lock().identity.revoke_all();
    }

    /// Every secret that a client of this fake can hold, for tests that search logs and error messages for them.
    pub fn secrets(&self) -> Vec<String> {
        self.shared.lock().identity.secrets()
    }
}
