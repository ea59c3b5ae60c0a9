//! The methods of Cloud KMS's API that are called, and no others.

/// A method of a key or a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// [`cryptoKeys.encrypt`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt).
    Encrypt,
    /// [`cryptoKeys.decrypt`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/decrypt).
    Decrypt,
    /// [`cryptoKeyVersions.getPublicKey`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/getPublicKey).
    GetPublicKey,
    /// [`cryptoKeyVersions.asymmetricDecrypt`](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys.cryptoKeyVersions/asymmetricDecrypt).
    AsymmetricDecrypt,
}

impl Verb {
    /// What follows the resource's name in the path.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Encrypt => ":encrypt",
            Self::Decrypt => ":decrypt",
            Self::GetPublicKey => "/publicKey",
            Self::AsymmetricDecrypt => ":asymmetricDecrypt",
        }
    }

    /// The narrowest predefined role that allows it, and what that permits.
    pub fn role(self) -> (&'static str, &'static str) {
        match self {
            Self::Encrypt => ("roles/cloudkms.cryptoKeyEncrypter", "encrypt"),
            Self::Decrypt => ("roles/cloudkms.cryptoKeyDecrypter", "decrypt"),
            Self::GetPublicKey => ("roles/cloudkms.publicKeyViewer", "read the public key"),
            Self::AsymmetricDecrypt => ("roles/cloudkms.cryptoKeyDecrypter", "decrypt"),
        }
    }

    /// Whether it is given a ciphertext that came with an image.
    pub fn unwraps(self) -> bool {
        matches!(self, Self::Decrypt | Self::AsymmetricDecrypt)
    }
}
