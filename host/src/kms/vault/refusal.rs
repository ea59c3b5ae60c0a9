//! What the server says when it says no, with the remedy.

use http::StatusCode;
use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::{Object, Value, string};

use crate::Error;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::{VaultFlavour, VaultKey};
use crate::kms::answer::Answer;

/// In place of the type of the key to create: with the permission to, the engine would create a key that is missing, which is then most
/// often a misspelled one. It looks at the type in that case alone, and refuses one that it doesn't know.
pub const NO_TYPE: &str = "none-the-key-must-exist";
/// How an answer with the status 500 begins that is about what was sent: it would be the same each time.
const LASTING: &str = "failed to RSA";

/// One operation that was refused.
pub struct Refusal<'a> {
    /// The key's URI.
    pub key: &'a str,
    pub name: &'a VaultKey,
    pub operation: Operation,
    /// The version in the ciphertext that was to be decrypted.
    pub version: Option<u32>,
}

/// The command line program of a product, for hints.
pub fn program(flavour: VaultFlavour) -> &'static str {
    match flavour {
        VaultFlavour::HashiVault => "vault",
        VaultFlavour::OpenBao => "bao",
    }
}

/// The status, and its name in place of the code that Vault's errors don't have.
pub fn status(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.status.canonical_reason().unwrap_or("error").to_owned())
}

/// The server can't serve now.
pub fn busy(key: &str, answer: &Answer, message: &str) -> Error {
    let sealed = if message.contains("sealed") { " (`vault operator unseal` or `bao operator unseal` opens it)" } else { "" };
    Error::Busy { key: key.to_owned(), status: answer.status.as_u16(), message: format!("{message}{sealed}") }
}

/// A request without a token was refused: nobody added one, or one that may not do this.
pub fn no_token_sent(key: &str, path: &str, server: &str, answer: &Answer) -> Error {
    let (status, code) = status(answer);
    let hint = format!(
        "no token was sent, since there is none here: let the Agent or Proxy at {server} add one (auto-auth, and use_auto_auth_token = true in \
         api_proxy) whose policy has path \"{path}\" {{ capabilities = [\"update\"] }}; if a server listens there, set VAULT_TOKEN or BAO_TOKEN"
    );
    Error::Kms { key: key.to_owned(), status, code, message: errors(&answer.body), hint }
}

impl Refusal<'_> {
    /// The error of an answer that isn't a success.
    pub fn error(&self, answer: &Answer) -> Error {
        let message = errors(&answer.body);
        let (status, code) = status(answer);
        if is_busy(answer) {
            return busy(self.key, answer, if message.is_empty() { &code } else { &message });
        }
        if Object::parse(&answer.body).is_err() {
            return not_of_vault(self.key, answer);
        }
        let hint = self.hint(status, &message);
        Error::Kms { key: self.key.to_owned(), status, code, message, hint }
    }

    fn hint(&self, status: u16, message: &str) -> String {
        let VaultKey { flavour, mount, key } = self.name;
        let program = program(*flavour);
        let says = |text: &str| message.contains(text);
        match status {
            // Whoever may not see what is mounted is told as little of a path that fits nothing as of anything else.
            403 => self.meant().map_or_else(|| self.permission(), |meant| format!("{meant}; else {}", self.permission())),
            404 | 405 => self.meant().unwrap_or_else(|| {
                format!("check that a transit engine is mounted at {mount}/ (`{program} secrets list`), and the namespace if there are any")
            }),
            _ if says("key derivation") => "the key was created with derived=true, which is not supported; name another key".into(),
            _ if says("non-AEAD") => "a key of this type can't bind an encryption context; leave context_… out of the URI".into(),
            _ if says("too long for RSA") => "add ?algorithm=RSA-OAEP-256 to the key's URI".into(),
            _ if says("not supported for key type") => "name a key that encrypts, such as one of the type aes256-gcm96".into(),
            _ if says("key not found") || says(NO_TYPE) => self.missing(),
            _ if says("soft-deleted") => format!("restore the key: {program} write -f {mount}/keys/{key}/soft-delete-restore"),
            _ if says("too old") => self.too_old(),
            _ if self.operation == Operation::Unwrap => {
                "the packet was not made by this key, or with another encryption context (context_… in the key URI)".into()
            }
            _ => "see the service's message".into(),
        }
    }

    /// What to write where a path of the API, `v1/transit/keys/k`, is what the URI names.
    fn meant(&self) -> Option<String> {
        let VaultKey { flavour, mount, key } = self.name;
        let path = mount.strip_prefix("v1/").unwrap_or(mount);
        let path = ["/keys", "/encrypt", "/decrypt"].iter().find_map(|verb| path.strip_suffix(verb)).unwrap_or(path);
        let scheme = flavour.scheme();
        (path != mount).then(|| {
            format!("if {mount}/ is a path of the API and the transit engine is mounted at {path}/, write {scheme}://{path}/{key}")
        })
    }

    /// There is no such key. One that is made now is no remedy for what another one of its name wrapped.
    fn missing(&self) -> String {
        let VaultKey { flavour, mount, key } = self.name;
        let program = program(*flavour);
        match self.operation {
            Operation::Wrap => format!("check the key's name, or create it: {program} write -f {mount}/keys/{key}"),
            Operation::Unwrap => format!(
                "check the key's name; if the key was deleted, a new one can't unwrap what it wrapped: restore it from a backup \
                 ({program} write {mount}/restore/{key} backup=@FILE), or the server from a snapshot"
            ),
        }
    }

    /// Whoever may not see what is there is told the same for a mount that is missing, and without `create` also for a key that is.
    fn permission(&self) -> String {
        let VaultKey { flavour, mount, key } = self.name;
        let (verb, missing) = match self.operation {
            Operation::Wrap => ("encrypt", format!(" (a key that is missing: {} write -f {mount}/keys/{key})", program(*flavour))),
            Operation::Unwrap => ("decrypt", String::new()),
        };
        format!(
            "check that the mount {mount}/ and the key {key} exist{missing}, that the token has not expired or been used up (`{} token lookup` shows \
             `num_uses` and `ttl`), and that it has a policy with path \"{mount}/{verb}/{key}\" {{ capabilities = [\"update\"] }}",
            program(*flavour)
        )
    }

    fn too_old(&self) -> String {
        let VaultKey { flavour, mount, key } = self.name;
        let version = self.version.map_or_else(|| "VERSION".to_owned(), |version| version.to_string());
        format!(
            "the packet's version of the key is below the key's min_decryption_version; encrypt the image anew, or allow the version again: \
             {} write {mount}/keys/{key}/config min_decryption_version={version}",
            program(*flavour)
        )
    }
}

/// Somebody else answered: another server, or one that stands in between.
pub fn not_of_vault(key: &str, answer: &Answer) -> Error {
    let (status, code) = status(answer);
    Error::Kms {
        key: key.to_owned(),
        status,
        code,
        message: "the answer is not one of Vault or OpenBao".into(),
        hint: "check the address (VAULT_ADDR, BAO_ADDR or `address` below `[vault]`), and what stands between its server and this machine"
            .into(),
    }
}

/// Whether the server says that it can't serve now. 412: a standby that hasn't caught up yet.
pub fn is_busy(answer: &Answer) -> bool {
    let lasting = answer.status == StatusCode::INTERNAL_SERVER_ERROR && errors(&answer.body).contains(LASTING);
    answer.status == StatusCode::PRECONDITION_FAILED || (answer.is_busy() && !lasting)
}

/// The texts of `{"errors":[…]}`, as one line.
pub fn errors(body: &[u8]) -> String {
    let object = Object::parse(body).unwrap_or_default();
    let list = object.get("errors").and_then(Value::elements).into_iter().flatten();
    let texts: Vec<_> =
        list.filter_map(|value| Some(string(&value)?.into_owned())).map(|text| flat(&text)).filter(|text| !text.is_empty()).collect();
    printable(&texts.join("; "), MAX_OUTSIDE_TEXT)
}

/// Go's lists of errors (`1 error occurred:` and an item on each line) as their items.
fn flat(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("* ")).filter(|line| !line.is_empty());
    lines.filter(|line| !line.ends_with("occurred:")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_without_the_frame_that_go_puts_around_them() {
        let list = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n","again\u001b[2J", 7, ""]}"#;
        assert_eq!(errors(list.as_bytes()), "permission denied; again [2J");
        for other in ["", "<html>", "[]", r#"{"errors":null}"#, r#"{"errors":{}}"#, r#"{"errors":[]}"#] {
            assert_eq!(errors(other.as_bytes()), "", "{other}");
        }
    }
}
