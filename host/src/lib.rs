//! A key provider for encrypted container images.
//!
//! skopeo, buildah, containerd, CRI-O and Confidential Containers encrypt image layers and hand each layer's key to a *key provider*, which
//! wraps it with a key in a key management service (KMS). In this one, the protocol and annotation logic runs as a sandboxed WebAssembly
//! component; the native host lends it single keys for single uses, after asking a policy, and holds all credentials.
//!
//! It can be embedded at two levels.
//!
//! # A provider
//!
//! [`KeyProvider`] is all of it: [`wrap`](KeyProvider::wrap) and [`unwrap`](KeyProvider::unwrap), or a message of the protocol in and its
//! answer out ([`exchange`](KeyProvider::exchange)). With this in `Cargo.toml`, where the path is that of a checkout (`git = …` does as well):
//!
//! ```toml
//! ocicrypt-kms = { path = "ocicrypt-kms/host", default-features = false, features = ["local"] }
//! tokio = { version = "1", features = ["rt", "time"] }
//! ```
//!
//! the whole of it is:
//!
//! ```
//! use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
//! use ocicrypt_kms::{Config, Environment, KeyProvider};
//!
//! # #[cfg(feature = "local")]
//! async fn there_and_back() -> Result<(), Box<dyn std::error::Error>> {
//!     let keystore = std::env::temp_dir().join(format!("keys-{}", std::process::id()));
//!     Keystore::new(keystore.clone()).create("team", Existing::Refuse, &Jwk::generate_symmetric()?)?;
//! #   let remove = keystore.clone();
//!     let config = Config { keystore: Some(keystore), ..Config::default() };
//!     let provider = KeyProvider::builder(config).environment(Environment::empty()).build()?;
//!
//!     let opts_data = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;
//!     let annotation = provider.wrap(opts_data, &["local://team"]).await?;
//!     assert_eq!(provider.unwrap(&annotation, &["local://team"]).await?.as_slice(), opts_data);
//! #   std::fs::remove_dir_all(remove)?;
//!     Ok(())
//! }
//! # #[cfg(feature = "local")]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(there_and_back())?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! The component comes with the crate, as a WebAssembly file; a build compiles it for the target. `OCICRYPT_KMS_COMPONENT` names another file.
//!
//! What a [`Builder`] is given takes the place of what it would make, or is added to it: services, and so the keystore
//! ([`kms::KeyService`]), the policy ([`policy::Policy`]), who gets audit records ([`audit::Sink`]), the component. The configuration
//! ([`Config`]) is a value; [`Config::load`] reads it where the program `ocicrypt-kms` does. Environment variables still come before it, the
//! process's unless others are given (`docs/configuration.md` lists them): [`Builder::environment`] with [`Environment::empty`] does without.
//!
//! # A host with its own engine
//!
//! A program that has an engine, a linker and stores already, with settings and data of its own, links the component there:
//! [`embedding::add_to_linker`], with an [`embedding::Host`] that begins each exchange. [`embedding`] is such a program in a page, and says
//! what is that program's own job then.
//!
//! # The parts
//!
//! Below these two, in the order in which one calls the next:
//!
//! - [`component`] says which component is run, [`sandbox`] runs it, one fresh instance per exchange;
//! - [`lending`] stands between a guest and a key: budget, policy, record;
//! - [`audit`] writes down what was done;
//! - [`kms`] holds the services, [`policy`] decides, [`key_uri`] reads key URIs.
//!
//! # What there is one of in a process
//!
//! Belongs to the program. The library logs by [`tracing`](https://docs.rs/tracing) and counts by [`metrics`](https://docs.rs/metrics), and installs neither a subscriber nor a recorder; no
//! panic hook, no allocator, no TLS provider for the process, no handler of signals that are sent. `server::Metrics::install` (feature
//! `server`) takes the recorder's place for who calls it. Two things come with use:
//!
//! - wasmtime catches faults of guests (`SIGSEGV`, `SIGILL`, `SIGFPE`, `SIGBUS`), and hands on those that aren't a guest's;
//! - a provider runs a thread that interrupts guests which compute too long, from its first exchange on; an audit log one that writes it.
//!
//! The program `ocicrypt-kms` does more: freed memory is zeroed, there are no core dumps. An embedder who wants that does it, too.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `cli` (default) | the program; nothing in the library |
//! | `local` (default) | keys in files on this machine |
//! | `asymmetric` (default) | RSA keys and keys on elliptic curves, in files and in Cloud KMS |
//! | `post-quantum` | experimental: ML-KEM-768 and X-Wing keys in files |
//! | `gcp` (default) | Google Cloud KMS |
//! | `vault` (default) | the transit engine of HashiCorp Vault and OpenBao |
//! | `aws` (default) | AWS KMS |
//! | `azure` (default) | Azure Key Vault and Managed HSM |
//! | `http` | what services that are reached by HTTP share; comes with them |
//! | `cedar` (default) | `policy::cedar`: policies in files |
//! | `server` (default) | `server`: gRPC and ttrpc |
//! | `opentelemetry` | the server continues its clients' traces, and the program sends them by OTLP |
//! | `hardening` (default) | the program gives up rights of its process that an exchange doesn't need; brings `cli`, nothing in the library |
//! | `compile` | run other components than the one that was compiled at build time; brings a compiler and WASI |
//! | `http-kms` | `kms::endpoint`: components for services that this program doesn't know; brings `compile` |
//!
//! Who wants a library with one service: `default-features = false, features = ["aws"]`. Without any of them, only keys of an
//! embedder's own services are there.
#![deny(unsafe_code)]

pub mod audit;
pub mod caller;
pub mod component;
pub mod config;
mod count;
#[cfg(any(feature = "cedar", feature = "server"))]
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only a server reads certificates"))]
mod der;
pub mod digest;
#[cfg(any(feature = "cedar", feature = "server"))]
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only a server reads certificates"))]
mod distinguished_name;
pub mod embedding;
pub mod error;
mod exchange;
#[cfg(any(feature = "cedar", feature = "server"))]
mod fresh;
pub mod key_uri;
pub mod kms;
pub mod lending;
mod panics;
mod permissions;
pub mod policy;
mod printable;
mod provider;
pub mod sandbox;
#[cfg(feature = "server")]
pub mod server;
pub mod shown;
mod text_file;
mod trusted_file;

pub use config::{Config, Environment};
pub use digest::Digest;
pub use embedding::{Call, PacketInfo};
pub use error::{Error, ErrorKind};
pub use exchange::DEFAULT_NAME;
pub use ocicrypt_kms_protocol as protocol;
pub use provider::{Builder, KeyProvider, LastExchange};
pub use sandbox::Instances;
