//! JSON Web Keys (RFC 7517), as far as they wrap keys: `oct` and `RSA` (RFC 7518 section 6), `EC` on P-256, `OKP` on X25519 (RFC 8037)
//! and `AKP` (RFC 9964 section 3) for HPKE with ML-KEM-768.
//!
//! Here they are read and written, not judged: whether a point lies on its curve or a modulus is long enough is found out by the library
//! that uses them. Members that a kind of key doesn't have are skipped (RFC 7517 section 4).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ocicrypt_kms_protocol::json::{Object, Value, string};
use zeroize::Zeroizing;

use crate::Error;
use crate::key_uri::Algorithm;

/// Bytes of a symmetric key: A256KW (RFC 7518 section 4.4).
const KEY_LENGTH: usize = 32;
/// Bytes of a coordinate and of a private key of either curve.
const FIELD_LENGTH: usize = 32;
/// What tells an uncompressed point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;
/// Room for the largest key, a private one of RSA with 8192 bits, so that no copy is left behind by a buffer that grew.
const ROOM: usize = 12 << 10;
/// Key operations (RFC 7517 section 4.3) that belong to encryption.
const OPERATIONS: [&str; 6] = ["encrypt", "decrypt", "wrapKey", "unwrapKey", "deriveKey", "deriveBits"];

/// One key of a set.
pub struct Jwk {
    /// Which version it is (`kid`).
    pub kid: Option<String>,
    /// What it consists of.
    pub key: Material,
}

/// The key itself, by its type.
pub enum Material {
    /// `oct`: both sides have the same bytes.
    Symmetric(Zeroizing<[u8; KEY_LENGTH]>),
    /// `RSA`.
    Rsa(RsaKey),
    /// `EC` or `OKP`.
    Curve(CurveKey),
    /// `AKP`.
    Hpke(HpkeKey),
}

/// An RSA key (RFC 7518 section 6.3); numbers are big-endian.
pub struct RsaKey {
    /// The modulus.
    pub n: Vec<u8>,
    /// The public exponent.
    pub e: Vec<u8>,
    /// What only the owner has.
    pub private: Option<RsaPrivate>,
}

/// The private members of an RSA key.
pub struct RsaPrivate {
    /// The private exponent.
    pub d: Zeroizing<Vec<u8>>,
    /// The first prime.
    pub p: Zeroizing<Vec<u8>>,
    /// The second prime.
    pub q: Zeroizing<Vec<u8>>,
    /// `d` modulo `p - 1`.
    pub dp: Zeroizing<Vec<u8>>,
    /// `d` modulo `q - 1`.
    pub dq: Zeroizing<Vec<u8>>,
    /// The inverse of `q` modulo `p`.
    pub qi: Zeroizing<Vec<u8>>,
}

/// A key on an elliptic curve.
pub struct CurveKey {
    /// Which curve.
    pub curve: Curve,
    /// P-256: the point, uncompressed (SEC 1 section 2.3.3), 65 bytes; X25519: the u-coordinate (RFC 7748), 32 bytes.
    pub public: Vec<u8>,
    /// The scalar (P-256, big-endian) or the private key (X25519).
    pub private: Option<Zeroizing<[u8; FIELD_LENGTH]>>,
}

/// A key for HPKE (draft-ietf-jose-hpke-pq-pqt-00 section 4).
pub struct HpkeKey {
    /// `HPKE-9-KE` or `HPKE-12-KE`.
    pub algorithm: Algorithm,
    /// The public key of the KEM, serialised.
    pub public: Vec<u8>,
    /// The private one: the seed.
    pub private: Option<Zeroizing<Vec<u8>>>,
}

/// The curves whose keys agree on keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// P-256 (RFC 7518 section 6.2.1.1).
    P256,
    /// X25519 (RFC 8037 section 2).
    X25519,
}

impl Curve {
    /// The value of `crv`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::X25519 => "X25519",
        }
    }

    fn kty(self) -> &'static str {
        match self {
            Self::P256 => "EC",
            Self::X25519 => "OKP",
        }
    }
}

impl Jwk {
    /// A new symmetric key with a random `kid`.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn generate_symmetric() -> Result<Self, Error> {
        Ok(Self { kid: Some(BASE64URL.encode(random::<9>()?.as_slice())), key: Material::Symmetric(random()?) })
    }

    /// Reads a key. Errors name what is wrong and never quote the text.
    ///
    /// # Errors
    /// A sentence, if it can't wrap keys in any way that is known here.
    pub fn parse(jwk: Value<'_>) -> Result<Self, String> {
        let object = jwk.into_object().map_err(|error| format!("a key in it is {error}"))?;
        let members = Members(&object);
        // First: a key for something else may look otherwise, too.
        members.check_purpose(members.algorithm()?)?;
        let key = match members.text("kty").as_deref() {
            Some("oct") => Material::Symmetric(members.symmetric()?),
            Some("RSA") => Material::Rsa(members.rsa()?),
            Some("EC") => Material::Curve(members.p256()?),
            Some("OKP") => Material::Curve(members.x25519()?),
            _ => Material::Hpke(members.hpke()?),
        };
        Ok(Self { kid: members.text("kid"), key })
    }

    /// How it wraps: for each type of key there is one way here, unless the type has it in its `alg`.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match &self.key {
            Material::Symmetric(_) => Algorithm::A256Kw,
            Material::Rsa(_) => Algorithm::RsaOaep256,
            Material::Curve(_) => Algorithm::EcdhEsA256Kw,
            Material::Hpke(key) => key.algorithm,
        }
    }

    /// The curve, if it is on one.
    #[must_use]
    pub fn curve(&self) -> Option<Curve> {
        match &self.key {
            Material::Curve(key) => Some(key.curve),
            Material::Symmetric(_) | Material::Rsa(_) | Material::Hpke(_) => None,
        }
    }

    /// Whether it unwraps, so that nobody else may have it.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        match &self.key {
            Material::Symmetric(_) => true,
            Material::Rsa(key) => key.private.is_some(),
            Material::Curve(key) => key.private.is_some(),
            Material::Hpke(key) => key.private.is_some(),
        }
    }

    /// The key as JSON text.
    #[must_use]
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut json = Writer::new(self.key.kty());
        if let Some(kid) = &self.kid {
            json.member("kid", &serde_json::Value::from(kid.as_str()).to_string());
        }
        json.text("alg", self.algorithm().as_str());
        match &self.key {
            Material::Symmetric(key) => json.bytes("k", &**key),
            Material::Rsa(key) => {
                public_members(&self.key).iter().for_each(|(name, value)| json.text(name, value));
                let RsaPrivate { d, p, q, dp, dq, qi } = match &key.private {
                    Some(private) => private,
                    None => return json.end(),
                };
                [("d", d), ("p", p), ("q", q), ("dp", dp), ("dq", dq), ("qi", qi)].iter().for_each(|(name, value)| json.bytes(name, value));
            }
            Material::Curve(key) => {
                public_members(&self.key).iter().for_each(|(name, value)| json.text(name, value));
                key.private.iter().for_each(|private| json.bytes("d", &**private));
            }
            Material::Hpke(key) => {
                public_members(&self.key).iter().for_each(|(name, value)| json.text(name, value));
                key.private.iter().for_each(|private| json.bytes("priv", private));
            }
        }
        json.end()
    }

    /// The public half as JSON text, if it has one. `kid` is its version.
    #[must_use]
    pub fn write_public(&self, kid: &str) -> Option<String> {
        let members = public_members(&self.key);
        if members.is_empty() {
            return None;
        }
        let mut json = Writer::new(self.key.kty());
        json.member("kid", &serde_json::Value::from(kid).to_string());
        json.text("alg", self.algorithm().as_str());
        members.iter().for_each(|(name, value)| json.text(name, value));
        String::from_utf8(json.end().to_vec()).ok()
    }

    /// The version that a key is, as `kid` in headers says it: its own `kid`, else its thumbprint (RFC 7638), which a symmetric key doesn't
    /// have.
    #[must_use]
    pub fn version(&self) -> Option<Cow<'_, str>> {
        #[cfg(feature = "asymmetric")]
        let thumbprint = || crate::kms::public_key::thumbprint(self);
        // Without a hash there are none.
        #[cfg(not(feature = "asymmetric"))]
        let thumbprint = || None;
        self.kid.as_deref().map(Cow::Borrowed).or_else(|| thumbprint().map(Cow::Owned))
    }

    /// What RFC 7638 section 3 has hashed: the required public members in the order of their names. `None` for a symmetric key, of which a
    /// hash would tell too much (section 7).
    #[must_use]
    pub fn thumbprint_input(&self) -> Option<String> {
        let mut members = public_members(&self.key);
        if members.is_empty() {
            return None;
        }
        members.push(("kty", self.key.kty().to_owned()));
        if let Material::Hpke(key) = &self.key {
            // RFC 9964 section 6.
            members.push(("alg", key.algorithm.as_str().to_owned()));
        }
        members.sort_unstable();
        let members: Vec<_> = members.iter().map(|(name, value)| format!(r#""{name}":"{value}""#)).collect();
        Some(format!("{{{}}}", members.join(",")))
    }
}

impl Material {
    fn kty(&self) -> &'static str {
        match self {
            Self::Symmetric(_) => "oct",
            Self::Rsa(_) => "RSA",
            Self::Curve(key) => key.curve.kty(),
            Self::Hpke(_) => "AKP",
        }
    }
}

/// Names and values, besides `kty`; none for a symmetric key.
fn public_members(key: &Material) -> Vec<(&'static str, String)> {
    match key {
        Material::Symmetric(_) => Vec::new(),
        Material::Rsa(key) => vec![("n", BASE64URL.encode(&key.n)), ("e", BASE64URL.encode(&key.e))],
        Material::Curve(key) => curve_members(key.curve, &key.public),
        Material::Hpke(key) => vec![("pub", BASE64URL.encode(&key.public))],
    }
}

/// The public members of a key on a curve, besides `kty`.
fn curve_members(curve: Curve, public: &[u8]) -> Vec<(&'static str, String)> {
    let mut members = vec![("crv", curve.as_str().to_owned())];
    match curve {
        Curve::P256 => {
            let (x, y) = public[1..].split_at(FIELD_LENGTH);
            members.extend([("x", BASE64URL.encode(x)), ("y", BASE64URL.encode(y))]);
        }
        Curve::X25519 => members.push(("x", BASE64URL.encode(public))),
    }
    members
}

/// A public key on a curve as the JSON of an `epk` (RFC 7518 section 4.6.1.1); it has the form of [`CurveKey::public`].
#[must_use]
pub fn write_ephemeral(curve: Curve, public: &[u8]) -> String {
    let mut json = Writer::new(curve.kty());
    curve_members(curve, public).iter().for_each(|(name, value)| json.text(name, value));
    String::from_utf8_lossy(&json.end()).into_owned()
}

/// Reads an `epk`, which has to be on this curve: a public key in the form of [`CurveKey::public`]. `None` if it is anything else.
#[must_use]
pub fn parse_ephemeral(curve: Curve, json: &str) -> Option<Vec<u8>> {
    let object = Object::parse(json.as_bytes()).ok()?;
    let members = Members(&object);
    let key = match (curve, members.text("kty").as_deref()) {
        (Curve::P256, Some("EC")) => members.p256(),
        (Curve::X25519, Some("OKP")) => members.x25519(),
        _ => return None,
    };
    key.ok().filter(|key| key.private.is_none()).map(|key| key.public)
}

/// The members of a key that is being read.
struct Members<'a>(&'a Object<'a>);

impl Members<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(string).map(|text| text.into_owned())
    }

    /// A member that is bytes in base64url; `None` if it isn't there.
    fn bytes(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let text = string(value).map(|text| Zeroizing::new(text.into_owned()));
        let decoded = text.and_then(|text| BASE64URL.decode(text.as_bytes()).ok());
        decoded.map(|bytes| Some(Zeroizing::new(bytes))).ok_or_else(|| format!("a key in it has a `{name}` that is not base64url"))
    }

    /// One that has to be there.
    fn required(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        self.bytes(name)?.ok_or_else(|| format!("a key in it has no `{name}`"))
    }

    fn field(&self, name: &str) -> Result<Zeroizing<[u8; FIELD_LENGTH]>, String> {
        fixed(&self.required(name)?).ok_or_else(|| format!("a key in it has a `{name}` that is not of {FIELD_LENGTH} bytes"))
    }

    /// How the key wraps: follows from its type, or for `AKP` from its `alg`.
    fn algorithm(&self) -> Result<Algorithm, String> {
        match (self.text("kty").as_deref(), self.text("alg").as_deref()) {
            (Some("oct"), _) => Ok(Algorithm::A256Kw),
            (Some("RSA"), _) => Ok(Algorithm::RsaOaep256),
            (Some("EC" | "OKP"), _) => Ok(Algorithm::EcdhEsA256Kw),
            (Some("AKP"), Some("HPKE-9-KE")) => Ok(Algorithm::Hpke9Ke),
            (Some("AKP"), Some("HPKE-12-KE")) => Ok(Algorithm::Hpke12Ke),
            (Some("AKP"), _) => Err("a key in it is for another algorithm than HPKE-9-KE and HPKE-12-KE (`kty` AKP)".into()),
            _ => Err("a key in it is of no type that wraps keys (`kty` is none of oct, RSA, EC, OKP, AKP)".into()),
        }
    }

    fn symmetric(&self) -> Result<Zeroizing<[u8; KEY_LENGTH]>, String> {
        let key = self.bytes("k").ok().flatten();
        key.and_then(|key| fixed(&key)).ok_or_else(|| format!("a key in it is not of {KEY_LENGTH} bytes in base64url (`k`)"))
    }

    fn rsa(&self) -> Result<RsaKey, String> {
        let (n, e) = (self.required("n")?.to_vec(), self.required("e")?.to_vec());
        if self.0.get("oth").is_some() {
            return Err("a key in it has more than two primes (`oth`)".into());
        }
        let private = match self.bytes("d")? {
            None => None,
            Some(d) => {
                let member = |name| self.required(name);
                let [p, q, dp, dq, qi] = [member("p")?, member("q")?, member("dp")?, member("dq")?, member("qi")?];
                Some(RsaPrivate { d, p, q, dp, dq, qi })
            }
        };
        Ok(RsaKey { n, e, private })
    }

    fn p256(&self) -> Result<CurveKey, String> {
        self.check_curve(Curve::P256)?;
        let (x, y) = (self.field("x")?, self.field("y")?);
        let public = [&[UNCOMPRESSED][..], &*x, &*y].concat();
        Ok(CurveKey { curve: Curve::P256, public, private: self.private_field()? })
    }

    fn x25519(&self) -> Result<CurveKey, String> {
        self.check_curve(Curve::X25519)?;
        Ok(CurveKey { curve: Curve::X25519, public: self.field("x")?.to_vec(), private: self.private_field()? })
    }

    fn hpke(&self) -> Result<HpkeKey, String> {
        Ok(HpkeKey { algorithm: self.algorithm()?, public: self.required("pub")?.to_vec(), private: self.bytes("priv")? })
    }

    fn private_field(&self) -> Result<Option<Zeroizing<[u8; FIELD_LENGTH]>>, String> {
        self.0.get("d").map(|_| self.field("d")).transpose()
    }

    fn check_curve(&self, curve: Curve) -> Result<(), String> {
        match self.text("crv").as_deref() == Some(curve.as_str()) {
            true => Ok(()),
            false => Err("a key in it is on another curve than P-256 (`kty` EC) and X25519 (`kty` OKP)".into()),
        }
    }

    /// `alg`, `use` and `key_ops` must not say that the key is for something else.
    fn check_purpose(&self, algorithm: Algorithm) -> Result<(), String> {
        if self.0.get("alg").is_some() && self.text("alg").as_deref() != Some(algorithm.as_str()) {
            return Err(format!("a key in it is for another algorithm than {algorithm}"));
        }
        if self.0.get("use").is_some() && self.text("use").as_deref() != Some("enc") {
            return Err("a key in it is not for encryption (`use` is not `enc`)".into());
        }
        let Some(operations) = self.0.get("key_ops") else { return Ok(()) };
        let operations: Vec<String> = serde_json::from_str(operations.text()).map_err(|_| "a key in it has `key_ops` that are no texts")?;
        // A public key that others agree on keys with has none: its owner does the deriving.
        match operations.iter().all(|operation| OPERATIONS.contains(&operation.as_str())) {
            true => Ok(()),
            false => Err("a key in it is not for encryption alone (`key_ops`)".into()),
        }
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<Zeroizing<[u8; N]>> {
    Some(Zeroizing::new(bytes.try_into().ok()?))
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| Error::Internal { reason: format!("the system gives no random numbers: {error}") })?;
    Ok(bytes)
}

/// Writes a JSON object.
struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    fn new(kty: &str) -> Self {
        let mut json = Self(Zeroizing::new(Vec::with_capacity(ROOM)));
        json.0.extend_from_slice(br#"{"kty":""#);
        json.0.extend_from_slice(kty.as_bytes());
        json.0.push(b'"');
        json
    }

    /// A member whose value is JSON already.
    fn member(&mut self, name: &str, json: &str) {
        [",\"", name, "\":", json].iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
    }

    /// A text that needs no escapes.
    fn text(&mut self, name: &str, text: &str) {
        [",\"", name, "\":\"", text, "\""].iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.text(name, &Zeroizing::new(BASE64URL.encode(bytes)));
    }

    fn end(mut self) -> Zeroizing<Vec<u8>> {
        self.0.push(b'}');
        self.0
    }
}

#[cfg(test)]
mod tests;
