//! The parts of the host that read what others wrote, compiled by themselves: the whole host would bring a WebAssembly engine and its
//! compiler, instrumented, for nothing that the targets reach.
#![allow(dead_code)]

/// The audit log's records.
#[path = "../../host/src/audit"]
pub mod audit {
    pub mod record;
}
#[path = "../../host/src/caller.rs"]
pub mod caller;
#[path = "../../host/src/config/mod.rs"]
pub mod config;
#[path = "../../host/src/der.rs"]
mod der;
#[path = "../../host/src/digest.rs"]
pub mod digest;
#[path = "../../host/src/distinguished_name.rs"]
mod distinguished_name;
#[path = "../../host/src/error.rs"]
pub mod error;
#[path = "../../host/src/key_uri/mod.rs"]
pub mod key_uri;
#[path = "../../host/src/shown.rs"]
pub mod shown;
#[path = "../../host/src/text_file.rs"]
mod text_file;
#[path = "../../host/src/trusted_file.rs"]
mod trusted_file;
/// Services that hold keys.
#[path = "../../host/src/kms"]
pub mod kms {
    pub mod answer;
    pub mod keystore;

    /// Endpoints of the configuration.
    pub mod endpoint {
        pub mod path;
    }
    /// AWS KMS.
    pub mod aws {
        pub mod answer;
        pub mod refusal;
    }
    /// Azure Key Vault and Managed HSM.
    pub mod azure {
        pub mod answer;
        pub mod challenge;
        pub mod refusal;
    }
    /// Google Cloud KMS.
    pub mod gcp {
        pub mod answer;
        pub mod refusal;
        pub mod verb;
    }
    /// The transit engine of HashiCorp Vault and OpenBao.
    pub mod vault {
        pub mod answer;
        pub mod refusal;
    }
}

#[path = "../../host/src/printable.rs"]
mod printable;

/// The names in certificates.
#[path = "../../host/src/server"]
pub mod server {
    mod identity;

    use crate::caller::Identity;

    /// Whom a certificate names.
    pub fn identity(certificate: &[u8]) -> Option<Identity> {
        identity::identity(certificate).ok()
    }

    /// Whom a subject and alternative names name.
    pub fn named(subject: &[u8], alternative_names: &[u8]) -> Option<Identity> {
        identity::named(subject, Some(alternative_names)).ok()
    }
}

/// Whose a file is.
#[path = "../../host/src/permissions.rs"]
pub mod permissions;

// Where these modules look for it.
pub use error::Error;
