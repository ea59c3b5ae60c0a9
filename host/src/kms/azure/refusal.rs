//! What the service says when it says no, and what to do about it.
//!
//! The codes: <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>. The outer code is coarse; `innererror` tells why.

use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::{Object, string};

use super::challenge::Challenge;
use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::AzureKey;
use crate::kms::answer::Answer;

/// A call that was refused.
pub struct Refusal<'a> {
    pub uri: &'a str,
    pub name: &'a AzureKey,
    pub algorithm: &'static str,
    pub operation: Operation,
    /// The version that was called.
    pub version: Option<&'a str>,
}

impl Refusal<'_> {
    /// The answer as an error with its remedy.
    pub fn of(&self, answer: &Answer) -> Error {
        let status = answer.status.as_u16();
        let challenge = Challenge::parse(answer.challenge.as_deref().unwrap_or_default());
        if let (401, Some(stranger)) = (status, challenge.stranger(&self.name.host)) {
            return self.impostor(stranger);
        }
        let whole = Object::parse(&answer.body).unwrap_or_default();
        let error = whole.object("error").unwrap_or_default();
        let inner = error.object("innererror").or_else(|_| error.object("innerError")).unwrap_or_default();
        let text = |object: &Object<'_>, name| object.get(name).and_then(string).unwrap_or_default().into_owned();
        let (code, inner) = (printable(&text(error, "code"), 64), printable(&text(inner, "code"), 64));
        let message = printable(&text(error, "message"), MAX_OUTSIDE_TEXT);
        let key = self.uri.to_owned();
        if answer.is_busy() {
            return Error::Busy { key, status, message: format!("{code}: {message}") };
        }
        let hint = match status {
            400 => self.bad_parameter(),
            401 => unauthorized(challenge.tenant()),
            403 => self.forbidden(&inner, &message),
            404 => self.not_found(),
            409 => "the key is being deleted or recovered; wait until that has ended, then try again".to_owned(),
            _ => "see the service's message".to_owned(),
        };
        let code = if inner.is_empty() { code } else { format!("{code} ({inner})") };
        Error::Kms { key, status, code, message, hint }
    }

    /// Somebody who wants a token for another service than that of the key. A token is never asked for in that name.
    fn impostor(&self, stranger: &str) -> Error {
        let host = &self.name.host;
        Error::Kms {
            key: self.uri.to_owned(),
            status: 401,
            code: "Unauthorized".to_owned(),
            message: format!("it wants a token for `{}`, which is not the domain of {host}", printable(stranger, 256)),
            hint: "what answers is not Azure Key Vault; check `[azure] endpoint`, the name service and the proxy".to_owned(),
        }
    }

    fn bad_parameter(&self) -> String {
        let algorithm = self.algorithm;
        let kind = if algorithm == "A256KW" { "a 256-bit AES key (oct-HSM)" } else { "an RSA key" };
        match self.operation {
            Operation::Wrap => format!("{algorithm} needs {kind}; name another key, or another `algorithm` in the key URI"),
            Operation::Unwrap => format!("the packet was changed, or this version of the key did not make it ({algorithm} needs {kind})"),
        }
    }

    fn forbidden(&self, inner: &str, message: &str) -> String {
        let identifier = self.identifier();
        let set = format!("az keyvault key set-attributes --id {identifier}");
        let says = |word: &str| message.to_ascii_lowercase().contains(word);
        match inner {
            "KeyDisabled" => format!("enable the key's version: {set} --enabled true"),
            "KeyOperationForbidden" => format!("let the key be used for it: {set} --ops wrapKey unwrapKey"),
            "ForbiddenByFirewall" | "ForbiddenByConnection" => self.firewall(),
            _ if says("disabled key") => format!("enable the key's version: {set} --enabled true"),
            _ if says("expired") || says("not yet valid") || says("validity") => {
                format!("rotate the key, or give it another time of validity: {set} --expires YYYY-MM-DDTHH:MM:SSZ")
            }
            _ if says("client address") || says("public network access") => self.firewall(),
            _ => self.permission(inner),
        }
    }

    fn permission(&self, inner: &str) -> String {
        let (vault, key) = (self.name.vault(), &self.name.key);
        if self.name.is_managed_hsm() {
            return format!(
                "grant the caller the use of the key: az keyvault role assignment create --hsm-name {vault} --assignee CALLER \
                 --role 'Managed HSM Crypto Service Encryption User' --scope /keys/{key}"
            );
        }
        let permission = match self.operation {
            Operation::Wrap => "wrapKey",
            Operation::Unwrap => "unwrapKey",
        };
        let role = format!(
            "az role assignment create --assignee CALLER --role 'Key Vault Crypto Service Encryption User' \
             --scope $(az keyvault show --name {vault} --query id -o tsv)/keys/{key}"
        );
        let policy = format!("az keyvault set-policy --name {vault} --object-id CALLER --key-permissions {permission}");
        match inner {
            "ForbiddenByRbac" => format!("grant the caller the use of the key: {role}"),
            "AccessDenied" | "ForbiddenByPolicy" => format!("grant the caller the permission: {policy}"),
            _ => format!("grant the caller the use of the key: {role}; in a vault with access policies: {policy}"),
        }
    }

    fn firewall(&self) -> String {
        let vault = self.name.vault();
        match self.name.is_managed_hsm() {
            true => format!(
                "the HSM's firewall keeps this address out; add it, or use a private endpoint: az keyvault update-hsm --hsm-name {vault}"
            ),
            false => format!(
                "the vault's firewall keeps this address out; add it, or use a private endpoint: \
                 az keyvault network-rule add --name {vault} --ip-address ADDRESS"
            ),
        }
    }

    fn not_found(&self) -> String {
        let AzureKey { key, .. } = self.name;
        let option = if self.name.is_managed_hsm() { "--hsm-name" } else { "--vault-name" };
        let vault = self.name.vault();
        format!(
            "check vault, key and version in the URI (az keyvault key list-versions {option} {vault} --name {key}), or whether it was deleted (az keyvault key recover)"
        )
    }

    fn identifier(&self) -> String {
        let version = self.version.map(|version| format!("/{version}")).unwrap_or_default();
        format!("https://{}/keys/{}{version}", self.name.host, self.name.key)
    }
}

fn unauthorized(tenant: Option<&str>) -> String {
    match tenant {
        Some(tenant) => format!(
            "the token was not accepted; the vault takes those of the tenant {tenant}: set AZURE_TENANT_ID to it, or az login --tenant {tenant}"
        ),
        None => "the token was not accepted; check AZURE_TENANT_ID, or log in again: az login".to_owned(),
    }
}
