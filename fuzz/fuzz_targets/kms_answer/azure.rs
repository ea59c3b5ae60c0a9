//! Azure Key Vault and Managed HSM.

use std::sync::LazyLock;

use ocicrypt_kms_fuzz::Error;
use ocicrypt_kms_fuzz::key_uri::{AzureKey, Key, KeyUri};
use ocicrypt_kms_fuzz::kms::answer::Answer;
use ocicrypt_kms_fuzz::kms::azure::answer::Asked;
use ocicrypt_kms_fuzz::kms::azure::refusal::Refusal;
use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::{Object, string};
use zeroize::Zeroizing;

use crate::{Outcome, parse};

const VERSION: &str = "0123456789abcdef0123456789abcdef";

/// A key, a version of it, and one of a Managed HSM.
static KEYS: LazyLock<[KeyUri; 3]> = LazyLock::new(|| {
    let version = format!("azurekms://team.vault.azure.net/k/{VERSION}");
    ["azurekms://team.vault.azure.net/k", version.as_str(), "azurekms://team.managedhsm.azure.net/k?algorithm=A256KW"].map(parse)
});

pub fn read(asked: usize, answer: Answer) -> Outcome {
    let uri = &KEYS[asked / 2 % 3];
    let Key::Azure(name) = uri.key() else { unreachable!() };
    let operation = if asked % 2 == 0 { Operation::Wrap } else { Operation::Unwrap };
    // Whoever wants to unwrap may be asking for a version that the key URI doesn't name.
    let version = name.version.as_deref().or((operation == Operation::Unwrap).then_some(VERSION));
    let result = match answer.status.is_success() {
        true => Asked { uri: uri.canonical(), name, version }.read(&answer.body).map(|(answered, bytes)| {
            check_version(&answer.body, name, &answered, version);
            bytes.to_vec()
        }),
        false => Err(refused(uri, name, operation, version, answer)),
    };
    Outcome { uri, result }
}

fn check_version(body: &[u8], name: &AzureKey, answered: &str, asked: Option<&str>) {
    let members = Object::parse(body).expect("it was accepted");
    let kid = members.get("kid").and_then(string).expect("it was accepted");
    let expected = format!("https://{}/keys/{}/{}", name.host, name.key, asked.unwrap_or(answered));
    assert!(kid.eq_ignore_ascii_case(&expected) && answered.len() == VERSION.len(), "{kid}");
    assert_ne!(members.get("value").and_then(string).as_deref(), Some(""));
}

/// A refusal, whose challenge is the first line, where there are several.
fn refused(uri: &KeyUri, name: &AzureKey, operation: Operation, version: Option<&str>, mut answer: Answer) -> Error {
    if let Some(end) = answer.body.iter().position(|&byte| byte == b'\n') {
        answer.challenge = std::str::from_utf8(&answer.body[..end]).ok().map(str::to_owned);
        answer.body = Zeroizing::new(answer.body[end + 1..].to_vec());
    }
    let algorithm = if name.is_managed_hsm() { "A256KW" } else { "RSA-OAEP-256" };
    Refusal { uri: uri.canonical(), name, algorithm, operation, version }.of(&answer)
}
