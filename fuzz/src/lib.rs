//! The parts of the host that read what others wrote, compiled by themselves: the whole host would bring a WebAssembly engine and its
//! compiler, instrumented, for nothing that the targets reach.
#![allow(dead_code)]

/// The audit log's records.
#[path = "../../host/src/audit"]
pub mod audit {
    pub mod record;
}
#[path = "../../host/src/config/mod.rs"]
pub mod config;
#[path = "../../host/src/digest.rs"]
pub mod digest;
#[path = "../../host/src/error.rs"]
pub mod error;
#[path = "../../host/src/key_uri/mod.rs"]
pub mod key_uri;
#[path = "../../host/src/text_file.rs"]
mod text_file;
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
/// Whose a file is.
#[path = "../../host/src/permissions.rs"]
pub mod permissions;

// Where these modules look for it.
pub use error::Error;
