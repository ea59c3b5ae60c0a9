//! The transit engine of HashiCorp Vault and OpenBao.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ocicrypt_kms_fuzz::Error;
use ocicrypt_kms_fuzz::key_uri::{Key, KeyUri};
use ocicrypt_kms_fuzz::kms::answer::Answer;
use ocicrypt_kms_fuzz::kms::vault::answer::{Asked, auth};
use ocicrypt_kms_fuzz::kms::vault::refusal::Refusal;
use ocicrypt_kms_protocol::Operation;
use ocicrypt_kms_protocol::json::Object;

use crate::{Outcome, parse};

/// What was encrypted.
const PLAINTEXT: [u8; 32] = [7; 32];

static KEYS: LazyLock<[KeyUri; 2]> = LazyLock::new(|| ["hashivault://transit/k", "openbao://team/transit/k"].map(parse));

pub fn read(asked: usize, answer: &Answer) -> Outcome {
    let uri = &KEYS[asked / 5 % 2];
    let Key::Vault(name) = uri.key() else { unreachable!() };
    let (operation, version) = if asked % 5 < 3 { (Operation::Wrap, None) } else { (Operation::Unwrap, Some(3)) };
    let result = match asked % 5 {
        _ if !answer.status.is_success() => Err(Refusal { key: uri.canonical(), name, operation, version }.error(answer)),
        0 => Ok(login(&answer.body)),
        1 | 2 => encrypted(Asked { uri: uri.canonical(), bound: asked % 5 == 2 }, &answer.body),
        bound => Asked { uri: uri.canonical(), bound: bound == 4 }.decrypted(&answer.body).map(|bytes| bytes.to_vec()),
    };
    Outcome { uri, result }
}

/// With associated data the key is one that authenticates, without it one of RSA.
fn encrypted(asked: Asked<'_>, body: &[u8]) -> Result<Vec<u8>, Error> {
    let (text, ciphertext) = asked.encrypted(body)?;
    assert_eq!(ciphertext.to_text(), text);
    assert!(ciphertext.version > 0);
    let length = ciphertext.bytes.len();
    match asked.bound {
        true => ciphertext.check_aead(asked.uri, &PLAINTEXT).inspect(|()| assert!(length > PLAINTEXT.len()))?,
        false => ciphertext.check_rsa(asked.uri).inspect(|()| assert!(length >= 256))?,
    }
    Ok(text.into_bytes())
}

fn login(body: &[u8]) -> Vec<u8> {
    let auth = auth(body);
    assert!(auth.lease.is_none_or(|lease| lease >= Duration::from_secs(1) && Instant::now().checked_add(lease * 9 / 10).is_some()));
    if auth.reusable && auth.lease.is_none() {
        let outer = Object::parse(body).unwrap_or_default();
        let says = outer.object("auth").unwrap_or_default().get("lease_duration").map(|value| value.text().parse::<u32>());
        assert!(says.is_none_or(|lease| lease == Ok(0)), "only what says so lasts for ever");
    }
    auth.token.map(|token| token.to_vec()).unwrap_or_default()
}
