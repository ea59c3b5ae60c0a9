//! Wrong set-ups, as people have them: each is answered with a line that names the thing and the remedy. One table for each service.

/// AWS KMS.
mod aws;
/// Azure Key Vault.
mod azure;
/// Google Cloud KMS.
mod gcp;
/// Key URIs.
mod key_uri;
/// Local keys and the audit log.
mod local;
/// `ocicrypt.json`, by `doctor` and by an exchange.
mod ocicrypt_json;
/// `ocicrypt-kms serve`.
mod serve;
/// TLS, proxies and certificate authorities, for all services.
mod transport;
/// Vault and OpenBao.
mod vault;
