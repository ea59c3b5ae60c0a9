//! `ocicrypt-kms keygen NAME`: creates a key in the local keystore.

use clap::ValueEnum;
use ocicrypt_kms::key_uri::{Addresses, Algorithm, Key, KeyUri, LocalKey};
use ocicrypt_kms::kms::keystore::{Curve, Existing, Jwk, Keystore, default_folder};
use ocicrypt_kms::protocol::Operation;
use ocicrypt_kms::{Environment, Error};

use super::{Options, print};

#[derive(Debug, clap::Args)]
pub(super) struct Keygen {
    /// Name of the key: its URI is local://NAME
    name: String,
    /// How it wraps: A256KW is symmetric, the others have a public half [default: A256KW, or as the key to rotate]
    #[arg(long)]
    algorithm: Option<AlgorithmName>,
    /// Curve of an ECDH-ES+A256KW key [default: P-256, or as the key to rotate]
    #[arg(long)]
    curve: Option<CurveName>,
    /// Add a version to a key that exists; older versions still unwrap
    #[arg(long)]
    rotate: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlgorithmName {
    #[value(name = "A256KW")]
    A256Kw,
    #[value(name = "RSA-OAEP-256")]
    RsaOaep256,
    #[value(name = "ECDH-ES+A256KW")]
    EcdhEsA256Kw,
    /// Experimental
    #[cfg(feature = "post-quantum")]
    #[value(name = "HPKE-9-KE")]
    Hpke9Ke,
    /// Experimental
    #[cfg(feature = "post-quantum")]
    #[value(name = "HPKE-12-KE")]
    Hpke12Ke,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CurveName {
    #[value(name = "P-256")]
    P256,
    #[value(name = "X25519")]
    X25519,
}

impl From<AlgorithmName> for Algorithm {
    fn from(name: AlgorithmName) -> Self {
        match name {
            AlgorithmName::A256Kw => Self::A256Kw,
            AlgorithmName::RsaOaep256 => Self::RsaOaep256,
            AlgorithmName::EcdhEsA256Kw => Self::EcdhEsA256Kw,
            #[cfg(feature = "post-quantum")]
            AlgorithmName::Hpke9Ke => Self::Hpke9Ke,
            #[cfg(feature = "post-quantum")]
            AlgorithmName::Hpke12Ke => Self::Hpke12Ke,
        }
    }
}

impl From<CurveName> for Curve {
    fn from(name: CurveName) -> Self {
        match name {
            CurveName::P256 => Self::P256,
            CurveName::X25519 => Self::X25519,
        }
    }
}

impl Keygen {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let key = LocalName::parse(&self.name)?;
        // What isn't said stays as it is.
        let current = self.rotate.then(|| keystore(options)?.load_to_rotate(&key.name)).transpose()?;
        let current = current.as_ref().and_then(|versions| versions.first());
        let algorithm = self.algorithm.map(Algorithm::from).or(current.map(Jwk::algorithm)).unwrap_or(Algorithm::A256Kw);
        if self.curve.is_some() && algorithm != Algorithm::EcdhEsA256Kw {
            let reason = format!("{}: a key that wraps by {algorithm} has no curve", key.uri);
            return Err(Error::InvalidInput { reason, hint: "leave out --curve, or add --algorithm ECDH-ES+A256KW".into() });
        }
        let curve = self.curve.map(Curve::from).or(current.and_then(Jwk::curve)).unwrap_or(Curve::P256);
        let existing = if self.rotate { Existing::Rotate } else { Existing::Refuse };
        let jwk = generate(algorithm, curve)?;
        let path = keystore(options)?.create(&key.name, existing, &jwk)?;
        print(format!("{}  version {}  {}\n", key.uri, jwk.kid.unwrap_or_default(), path.display()).as_bytes())
    }
}

/// The name of a local key, checked.
pub(super) struct LocalName {
    pub(super) uri: KeyUri,
    name: String,
}

impl LocalName {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        // Whoever gives the whole URI means the same.
        let text = text.strip_prefix("local://").unwrap_or(text);
        let uri = KeyUri::parse(&format!("local://{text}"), &Addresses::default())?;
        let Key::Local(LocalKey { name, .. }) = uri.key() else { unreachable!("the scheme is local") };
        if name != text {
            let reason = format!("{uri}: a key's name has no query");
            return Err(Error::InvalidInput { reason, hint: "leave out what follows the `?`".into() });
        }
        Ok(Self { name: name.clone(), uri })
    }

    /// What the keystore has of it.
    pub(super) fn versions(&self, options: &Options) -> Result<Vec<Jwk>, Error> {
        keystore(options)?.load(&self.name, Operation::Wrap)
    }
}

fn keystore(options: &Options) -> Result<Keystore, Error> {
    Ok(Keystore::new(default_folder(&Environment::process(), options.config()?.keystore.as_deref())?))
}

#[cfg(feature = "asymmetric")]
use ocicrypt_kms::kms::public_key::generate;

#[cfg(not(feature = "asymmetric"))]
fn generate(algorithm: Algorithm, _: Curve) -> Result<Jwk, Error> {
    match algorithm {
        Algorithm::A256Kw => Jwk::generate_symmetric(),
        _ => Err(Error::InvalidInput {
            reason: format!("this build makes no keys that wrap by {algorithm}"),
            hint: "build it with the feature `asymmetric`".into(),
        }),
    }
}
