//! Wrong set-ups, as people have them: each is answered with a line that names the thing and the remedy. One table for each service.

/// AWS KMS.
mod aws;
/// Azure Key Vault.
mod azure;
/// Google Cloud KMS.
mod gcp;
/// Key URIs.
mod key_uri;
/// The network: proxies, certificates, addresses.
mod transport;
/// Vault and OpenBao.
mod vault;
