//! `encrypt` and `decrypt` of Cloud KMS v1:
//! <https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys>.

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::State;
use super::fields::Fields;
use super::identity::Service;
use super::keys::{CryptoKey, Keys, Opened};
use super::refusal::Refusal;
use super::routes::{self, Call};

const MAX_BYTES: usize = 64 * 1024;

/// A key's resource name, with the version if there is one.
pub(super) struct Name<'a> {
    pub(super) key: &'a str,
    pub(super) version: Option<&'a str>,
}

impl<'a> Name<'a> {
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (key, version) = match name.split_once("/cryptoKeyVersions/") {
            Some((key, version)) => (key, Some(version)),
            None => (name, None),
        };
        let parts: Vec<_> = key.split('/').collect();
        let shaped = matches!(parts[..], ["projects", p, "locations", l, "keyRings", r, "cryptoKeys", k]
            if [p, l, r, k].iter().all(|part| !part.is_empty()));
        shaped.then_some(Self { key, version })
    }
}

pub(super) fn encrypt(call: &Call<'_>, name: &str) -> Result<Response, Refusal> {
    let Some(name) = Name::parse(name) else { return Ok(routes::not_found()) };
    let state = call.shared.lock();
    authorize(&state, call, name.key, "cloudkms.cryptoKeyVersions.useToEncrypt")?;
    let known = &["name", "plaintext", "plaintext_crc32c", "additional_authenticated_data", "additional_authenticated_data_crc32c"];
    let fields = Fields::parse(call.body, known)?;
    let (plaintext, plaintext_verified) = bounded(&fields, "plaintext")?;
    let (aad, aad_verified) = bounded(&fields, "additional_authenticated_data")?;

    let key = existing(&state.keys, name.key)?;
    let number = match name.version {
        None => key.primary(),
        Some(text) => text.parse().unwrap_or(0),
    };
    let version_name = format!("{}/cryptoKeyVersions/{number}", name.key);
    let version = key.version(number).ok_or_else(|| Refusal::not_found(format!("CryptoKeyVersion {version_name} not found.")))?;
    if !version.enabled {
        return Err(Refusal::disabled(&version_name));
    }
    let ciphertext = version.seal(&plaintext, &aad);

    let mut answer = Answer::new(call);
    answer.text("name", version_name);
    answer.bytes("ciphertext", &ciphertext);
    answer.checksum("ciphertextCrc32c", &ciphertext);
    answer.flag("verifiedPlaintextCrc32c", plaintext_verified);
    answer.flag("verifiedAdditionalAuthenticatedDataCrc32c", aad_verified);
    Ok(answer.into_response())
}

pub(super) fn decrypt(call: &Call<'_>, name: &str) -> Result<Response, Refusal> {
    let Some(name) = Name::parse(name) else { return Ok(routes::not_found()) };
    let state = call.shared.lock();
    authorize(&state, call, name.key, "cloudkms.cryptoKeyVersions.useToDecrypt")?;
    if name.version.is_some() {
        // The ciphertext names its version; a caller that names another could only be mistaken.
        return Err(Refusal::invalid_argument("Resource name must be that of a CryptoKey, not of a CryptoKeyVersion."));
    }
    let known = &["name", "ciphertext", "ciphertext_crc32c", "additional_authenticated_data", "additional_authenticated_data_crc32c"];
    let fields = Fields::parse(call.body, known)?;
    let ciphertext = fields.bytes("ciphertext")?;
    fields.verify("ciphertext", &ciphertext)?;
    let (aad, _) = bounded(&fields, "additional_authenticated_data")?;

    let key = existing(&state.keys, name.key)?;
    let (plaintext, used_primary) = open(key, name.key, &ciphertext, &aad)?;

    let mut answer = Answer::new(call);
    answer.bytes("plaintext", &plaintext);
    answer.checksum("plaintextCrc32c", &plaintext);
    answer.flag("usedPrimary", used_primary);
    Ok(answer.into_response())
}

/// The plaintext, and whether the key's primary version made it.
fn open(key: &CryptoKey, name: &str, ciphertext: &[u8], aad: &[u8]) -> Result<(Vec<u8>, bool), Refusal> {
    let invalid = || Refusal::invalid_argument("Decryption failed: the ciphertext is invalid.");
    match key.recognise(ciphertext, aad) {
        Opened::Held(plaintext) => Ok((plaintext.to_vec(), true)),
        Opened::By(number, version) if !version.enabled => Err(Refusal::disabled(&format!("{name}/cryptoKeyVersions/{number}"))),
        Opened::By(number, version) => {
            let plaintext = version.open(ciphertext, aad).ok_or_else(invalid)?;
            Ok((plaintext, number == key.primary()))
        }
        Opened::OtherKey => Err(Refusal::invalid_argument("Decryption failed: verify that 'name' refers to the correct CryptoKey.")),
        Opened::Garbage => Err(invalid()),
    }
}

/// Who calls comes before what for: a caller without permission learns nothing about keys or arguments.
pub(super) fn authorize(state: &State, call: &Call<'_>, key: &str, permission: &str) -> Result<(), Refusal> {
    if state.auth_required {
        state.identity.check_bearer(call.headers, Service::Kms)?;
    }
    if state.keys.is_denied(key) {
        return Err(Refusal::permission_denied(permission, key));
    }
    Ok(())
}

fn existing<'a>(keys: &'a Keys, name: &str) -> Result<&'a CryptoKey, Refusal> {
    keys.get(name).ok_or_else(|| Refusal::not_found(format!("CryptoKey {name} not found.")))
}

/// A `bytes` field within the service's limit, and whether its checksum came along and was verified.
fn bounded(fields: &Fields, field: &str) -> Result<(Vec<u8>, bool), Refusal> {
    let data = fields.bytes(field)?;
    if data.len() > MAX_BYTES {
        return Err(Refusal::invalid_argument(format!(
            "The field {field} must be no larger than {MAX_BYTES} bytes, but it has {}.",
            data.len()
        )));
    }
    let verified = fields.verify(field, &data)?;
    Ok((data, verified))
}

/// An answer in proto3's JSON: what has its default value is left out, 64-bit integers are strings.
pub(super) struct Answer {
    members: Map<String, Value>,
    numeric: bool,
}

impl Answer {
    pub(super) fn new(call: &Call<'_>) -> Self {
        // Google's client libraries ask for numbers: `?$alt=json;enum-encoding=int`.
        let numeric = call.query.replace("%3B", ";").replace("%3D", "=").contains("enum-encoding=int");
        let mut answer = Self { members: Map::new(), numeric };
        answer.symbol("protectionLevel", "SOFTWARE", 1);
        answer
    }

    /// A value of an enum, by name or by number.
    pub(super) fn symbol(&mut self, name: &str, text: &str, number: i32) {
        let value = if self.numeric { json!(number) } else { json!(text) };
        self.members.insert(name.to_owned(), value);
    }

    pub(super) fn text(&mut self, name: &str, text: String) {
        self.members.insert(name.to_owned(), Value::String(text));
    }

    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.text(name, BASE64_STANDARD.encode(bytes));
        }
    }

    /// A wrapped integer (`Int64Value`): present even when it is 0.
    pub(super) fn checksum(&mut self, name: &str, data: &[u8]) {
        self.text(name, crc32c::crc32c(data).to_string());
    }

    pub(super) fn flag(&mut self, name: &str, flag: bool) {
        if flag {
            self.members.insert(name.to_owned(), Value::Bool(true));
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        Json(Value::Object(self.members)).into_response()
    }
}
