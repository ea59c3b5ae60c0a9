//! AWS KMS.

use std::sync::LazyLock;

use ocicrypt_kms_fuzz::key_uri::{Key, KeyUri};
use ocicrypt_kms_fuzz::kms::answer::Answer;
use ocicrypt_kms_fuzz::kms::aws::answer::{Answered, Asked};
use ocicrypt_kms_fuzz::kms::aws::refusal::Refusal;
use ocicrypt_kms_protocol::Operation;

use crate::{Outcome, parse};

const REGION: &str = "eu-west-1";
const ACCOUNT: &str = "arn:aws:kms:eu-west-1:111122223333:";
const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
const RSA: &str = "RSAES_OAEP_SHA_256";

/// A key by its ARN, its id, an alias, and an alias of the account.
static KEYS: LazyLock<[KeyUri; 4]> = LazyLock::new(|| {
    [format!("{ACCOUNT}key/{ID}"), ID.to_owned(), "alias/team".to_owned(), format!("{ACCOUNT}alias/team")]
        .map(|key_id| parse(&format!("awskms:///{key_id}")))
});

pub fn read(asked: usize, answer: &Answer) -> Outcome {
    let uri = &KEYS[asked / 4 % 4];
    let Key::Aws(name) = uri.key() else { unreachable!() };
    let operation = if asked % 2 == 0 { Operation::Wrap } else { Operation::Unwrap };
    let algorithm = (asked / 2 % 2 == 1).then_some(RSA);
    let result = if answer.status.is_success() {
        let asked = Asked { uri: uri.canonical(), name, region: REGION, operation, algorithm };
        asked.read(&answer.body).map(|answered| {
            check_key(&answered, &name.key_id);
            answered.bytes.to_vec()
        })
    } else {
        Err(Refusal::read(answer).explain(answer, operation, uri.canonical(), &name.key_id, REGION))
    };
    Outcome { uri, result }
}

fn check_key(answered: &Answered, asked: &str) {
    let id = &answered.key.key_id;
    assert!(answered.key.arn.as_ref().is_none_or(|arn| arn.region == REGION) && !answered.key.is_alias(), "{id}");
    match asked {
        "alias/team" => {}
        ID => assert!(id == ID || (id.starts_with("arn:") && id.ends_with(&format!(":key/{ID}"))), "{id}"),
        _ if asked.contains(":alias/") => assert!(id.starts_with(&format!("{ACCOUNT}key/")), "{id}"),
        _ => assert_eq!(id, asked),
    }
}
