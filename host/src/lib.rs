//! A key provider for encrypted container images.
//!
//! skopeo, buildah, containerd, CRI-O and Confidential Containers encrypt image layers and hand each layer's key to a *key provider*, which
//! wraps it with a key in a key management service (KMS). In this one, the protocol and annotation logic runs as a sandboxed WebAssembly
//! component; the native host lends it single keys for single uses, after asking a policy, and holds all credentials.
//!
//! [`KeyProvider`] is the whole of it behind one method, [`KeyProvider::exchange`]. Below it, in the order in which one calls
//! the next:
//!
//! - [`component`] says which component that is, [`sandbox`] runs it, one fresh instance per exchange;
//! - [`lending`] stands between a guest and a key: budget, policy, record;
//! - [`audit`] writes down what was done;
//! - [`kms`] holds the services, [`policy`] decides, [`key_uri`] reads key URIs.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `local` (default) | keys in files on this machine |
//! | `asymmetric` (default) | RSA keys and keys on elliptic curves, in files and in Cloud KMS |
//! | `post-quantum` | experimental: ML-KEM-768 and X-Wing keys in files |
//! | `gcp` (default) | Google Cloud KMS |
//! | `vault` (default) | the transit engine of HashiCorp Vault and OpenBao |
//! | `aws` (default) | AWS KMS |
//! | `azure` (default) | Azure Key Vault and Managed HSM |
//! | `cedar` (default) | [`policy::cedar`]: policies in files |
//! | `server` (default) | [`server`]: gRPC and ttrpc |
//! | `hardening` (default) | the program gives up rights of its process that an exchange doesn't need |
//! | `compile` | run other components than the one that was compiled at build time |
//! | `http-kms` | [`kms::endpoint`]: components for services that this program doesn't know |
#![deny(unsafe_code)]

pub mod audit;
pub mod caller;
pub mod component;
pub mod config;
mod count;
pub mod digest;
pub mod error;
mod exchange;
#[cfg(any(feature = "cedar", feature = "server"))]
mod fresh;
pub mod key_uri;
pub mod kms;
pub mod lending;
mod permissions;
pub mod policy;
mod provider;
pub mod sandbox;
#[cfg(feature = "server")]
pub mod server;
mod text_file;

pub use config::{Config, Environment};
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use exchange::DEFAULT_NAME;
pub use ocicrypt_kms_protocol as protocol;
pub use provider::{Builder, Call, KeyProvider};
pub use sandbox::{Instances, PacketInfo};
