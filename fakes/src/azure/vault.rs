//! `wrapKey`, `unwrapKey` and `getKey` of the data plane: <https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups>.

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::Shared;
use super::keys::{Key, Version};
use super::refusal::Refusal;

/// A request to `/keys/…`.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    pub(super) headers: &'a HeaderMap,
    pub(super) query: &'a str,
    pub(super) body: &'a [u8],
}

impl Call<'_> {
    /// `NAME/wrapkey`, `NAME/VERSION/wrapkey` and the same for `unwrapkey`. Without version, libraries send nothing or an empty one.
    pub(super) fn post(&self, path: &str) -> Result<Response, Refusal> {
        let parts: Vec<_> = path.split('/').collect();
        let (name, version, verb) = match parts[..] {
            [name, verb] => (name, "", verb),
            [name, version, verb] => (name, version, verb),
            _ => return Err(Refusal::bad_parameter("no such operation")),
        };
        // Operations are found whatever the case of their names.
        match verb.to_ascii_lowercase().as_str() {
            "wrapkey" => self.with(name, version, "wrapKey", wrap),
            "unwrapkey" => self.with(name, version, "unwrapKey", unwrap),
            _ => Err(Refusal::bad_parameter("no such operation")),
        }
    }

    /// `NAME`, `NAME/` and `NAME/VERSION`.
    pub(super) fn get(&self, path: &str) -> Result<Response, Refusal> {
        let (name, version) = path.split_once('/').unwrap_or((path, ""));
        self.with(name, version, "get", |_, key, version| Ok(Json(key.bundle(version)).into_response()))
    }

    /// Who calls comes before what for: a caller without permission learns nothing about keys or arguments.
    fn with(&self, name: &str, version: &str, operation: &str, run: Operation) -> Result<Response, Refusal> {
        let host = self.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
        let state = self.shared.lock();
        let key = state.keys.get(host, name);
        let domain = key.map_or("vault.azure.net", |key| key.host.split_once('.').map_or("", |(_, domain)| domain));
        state.entra.check_bearer(self.headers, domain)?;
        if !self.query.contains("api-version=") {
            return Err(Refusal::bad_parameter("api-version must be specified"));
        }
        let key = key.ok_or_else(|| Refusal::not_found(name))?;
        let denial = key.denial.or((operation == "get" && key.hidden).then_some(super::Denial::Policy));
        if let Some(denial) = denial {
            return Err(Refusal::denied(denial, operation, key));
        }
        let version = key.version(version).ok_or_else(|| Refusal::not_found(&format!("{name}/{version}")))?;
        if !version.enabled {
            return Err(Refusal::disabled(operation));
        }
        if version.expired && operation == "wrapKey" {
            return Err(Refusal::expired(operation));
        }
        run(self, key, version)
    }

    /// The bytes to work on, for an algorithm that the key can do.
    fn value(&self, version: &Version) -> Result<Vec<u8>, Refusal> {
        let request: Value = serde_json::from_slice(self.body).map_err(|_| Refusal::bad_parameter("the request is not JSON"))?;
        let algorithm = request["alg"].as_str().unwrap_or_default();
        if !version.does(algorithm) {
            return Err(Refusal::bad_parameter(&format!("Key and encryption algorithm {algorithm} are not compatible.")));
        }
        let value = BASE64_URL_SAFE_NO_PAD.decode(request["value"].as_str().unwrap_or_default());
        value.map_err(|_| Refusal::bad_parameter("Property value has invalid value"))
    }
}

type Operation = fn(&Call<'_>, &Key, &Version) -> Result<Response, Refusal>;

fn wrap(call: &Call<'_>, key: &Key, version: &Version) -> Result<Response, Refusal> {
    let wrapped = version.wrap(&call.value(version)?);
    answer(key, version, wrapped)
}

fn unwrap(call: &Call<'_>, key: &Key, version: &Version) -> Result<Response, Refusal> {
    let unwrapped = version.unwrap(&call.value(version)?);
    answer(key, version, unwrapped)
}

fn answer(key: &Key, version: &Version, value: Option<Vec<u8>>) -> Result<Response, Refusal> {
    let value = value.ok_or_else(|| Refusal::bad_parameter("The parameter is incorrect.\r\n"))?;
    Ok(Json(json!({"kid": key.identifier(version), "value": BASE64_URL_SAFE_NO_PAD.encode(value)})).into_response())
}
