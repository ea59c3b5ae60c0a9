//! Google Cloud KMS.

use std::sync::LazyLock;

use crc32c::crc32c;
use ocicrypt_kms_fuzz::key_uri::{Key, KeyUri};
use ocicrypt_kms_fuzz::kms::answer::Answer;
use ocicrypt_kms_fuzz::kms::gcp::answer::Asked;
use ocicrypt_kms_fuzz::kms::gcp::refusal::Refusal;
use ocicrypt_kms_fuzz::kms::gcp::verb::Verb;
use ocicrypt_kms_protocol::json::{Object, string};

use crate::{Outcome, parse};

const PLACE: &str = "locations/l/keyRings/r/cryptoKeys/k";

static KEY: LazyLock<KeyUri> = LazyLock::new(|| parse(&format!("gcpkms://projects/p/{PLACE}")));
static VERSION: LazyLock<KeyUri> =
    LazyLock::new(|| parse(&format!("gcpkms://projects/p/{PLACE}/cryptoKeyVersions/7?algorithm=RSA-OAEP-256")));

pub fn read(asked: usize, answer: &Answer) -> Outcome {
    let (uri, verb): (&KeyUri, _) = match asked % 5 {
        0 | 1 => (&KEY, Verb::Encrypt),
        2 => (&KEY, Verb::Decrypt),
        3 => (&VERSION, Verb::GetPublicKey),
        _ => (&VERSION, Verb::AsymmetricDecrypt),
    };
    let Key::Gcp(name) = uri.key() else { unreachable!() };
    let (body, key) = (&answer.body, Asked { uri: uri.canonical(), name });
    let result = match verb {
        _ if !answer.status.is_success() => Err(Refusal { uri: uri.canonical(), name, verb }.error(answer)),
        Verb::Encrypt => key.encrypted(body, asked % 5 == 1).inspect(|bytes| {
            check_name(body, false);
            check_sum(body, "ciphertextCrc32c", bytes);
        }),
        Verb::Decrypt => key.decrypted(body).map(|bytes| bytes.to_vec()).inspect(|bytes| check_sum(body, "plaintextCrc32c", bytes)),
        Verb::GetPublicKey => key.public_key(body, |der, _| Some(der.to_vec())).inspect(|_| check_name(body, true)),
        Verb::AsymmetricDecrypt => {
            key.asymmetric_decrypted(body).map(|bytes| bytes.to_vec()).inspect(|bytes| check_sum(body, "plaintextCrc32c", bytes))
        }
    };
    Outcome { uri, result }
}

fn text(body: &[u8], name: &str) -> Option<String> {
    let members = Object::parse(body).expect("it was accepted");
    members.get(name).map(|value| string(value).map_or_else(|| value.text().to_owned(), |text| text.into_owned()))
}

/// The name is the key's or, of the version or of any, a version's; its project may be a number in place of the id.
fn check_name(body: &[u8], of_version: bool) {
    let name = text(body, "name").expect("it was accepted");
    let (project, place) = name.strip_prefix("projects/").and_then(|rest| rest.split_once('/')).expect("a project");
    assert!(project == "p" || project.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    let version = place.strip_prefix(PLACE).expect("the key");
    let number = version.strip_prefix("/cryptoKeyVersions/");
    match of_version {
        true => assert_eq!(number, Some("7"), "{name}"),
        false => assert!(version.is_empty() || number.is_some_and(|number| number.parse::<u64>().is_ok()), "{name}"),
    }
}

/// A sum that was answered is that of the bytes.
fn check_sum(body: &[u8], name: &str, bytes: &[u8]) {
    if let Some(sum) = text(body, name) {
        assert_eq!(sum, crc32c(bytes).to_string());
    }
}
