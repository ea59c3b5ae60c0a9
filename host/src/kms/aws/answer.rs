//! What an answer of AWS KMS must show before what it holds is used.

use ocicrypt_kms_protocol::json::{Object, string};
use ocicrypt_kms_protocol::{Operation, bytes};
use zeroize::Zeroizing;

use crate::Error;
use crate::error::printable;
use crate::key_uri::{Addresses, AwsKey, Key, KeyUri};

/// The only algorithm of symmetric keys.
const SYMMETRIC: &str = "SYMMETRIC_DEFAULT";

/// What an answer has to be of.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The key's URI.
    pub uri: &'a str,
    pub name: &'a AwsKey,
    /// The region that was asked.
    pub region: &'a str,
    pub operation: Operation,
    /// The algorithm, if the request says one, by AWS KMS's name.
    pub algorithm: Option<&'a str>,
}

/// What matters in an answer that was checked.
pub struct Answered {
    /// The ciphertext or the plaintext.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The key that AWS KMS used, as it reports it.
    pub key: AwsKey,
}

impl Asked<'_> {
    /// Takes an answer apart and checks that it is one to the request.
    pub fn read(&self, body: &[u8]) -> Result<Answered, Error> {
        let members = Object::parse(body).map_err(|error| self.damaged(&format!("it is {error}")))?;
        let text = |name| members.get(name).and_then(string);
        let key_id = text("KeyId").unwrap_or_default();
        let key = parse(&key_id).filter(|key| is_of(self.name, key) && key.arn.as_ref().is_none_or(|arn| arn.region == self.region));
        let key = key.ok_or_else(|| self.damaged(&format!("it is of another key, `{}`", printable(&key_id, 256))))?;
        match (self.algorithm, text("EncryptionAlgorithm").as_deref()) {
            (None, None | Some(SYMMETRIC)) => {}
            (Some(asked), Some(answered)) if asked == answered => {}
            (_, other) => {
                let other = printable(other.unwrap_or_default(), 64);
                return Err(self.damaged(&format!("it is by another algorithm, `{other}`")));
            }
        }
        let name = match self.operation {
            Operation::Wrap => "CiphertextBlob",
            Operation::Unwrap => "Plaintext",
        };
        let bytes = members.get(name).and_then(bytes::read).ok_or_else(|| self.damaged(&format!("it holds no `{name}`")))?;
        Ok(Answered { bytes, key })
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Damaged { key: self.uri.to_owned(), reason: format!("AWS KMS's answer can't be trusted: {reason}") }
    }
}

/// A key as AWS KMS reports it: an ARN, of some emulators a key id.
pub fn parse(key_id: &str) -> Option<AwsKey> {
    match KeyUri::parse(key_id, &Addresses::default()).ok()?.key() {
        Key::Aws(key) if !key.is_alias() && key.key_id == key_id => Some(key.clone()),
        _ => None,
    }
}

/// Whether `answered`, which is no alias, can be what was asked for. An id is compared with the ARN's. Which key an alias stands for is
/// AWS KMS's to say, but it is one of the alias's own account and region.
pub fn is_of(asked: &AwsKey, answered: &AwsKey) -> bool {
    match (&asked.arn, &answered.arn) {
        (Some(alias), Some(arn)) if asked.is_alias() => {
            (alias.partition, &alias.region, &alias.account) == (arn.partition, &arn.region, &arn.account)
        }
        (None, _) if asked.is_alias() => true,
        (None, Some(arn)) => arn.resource.strip_prefix("key/") == Some(&asked.key_id),
        _ => asked == answered,
    }
}

/// Whether what was made with the key `kid` may be one for the key `named`, or for what that alias stands for: the same key, or a related multi-Region
/// key, which has the same material in another region.
pub fn may_be_for(named: &AwsKey, kid: &AwsKey) -> bool {
    let of_account = || match (&named.arn, &kid.arn) {
        (Some(alias), Some(kid)) => named.is_alias() && (alias.partition, &alias.account) == (kid.partition, &kid.account),
        _ => false,
    };
    is_of(named, kid) || named.is_related_to(kid) || (kid.is_multi_region() && of_account())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    const OTHER_ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ac";

    fn arn(region: &str, account: &str, resource: &str) -> String {
        format!("arn:aws:kms:{region}:{account}:{resource}")
    }

    fn key(key_id: &str) -> AwsKey {
        match KeyUri::parse(&format!("awskms:///{key_id}"), &Addresses::default()).unwrap().key() {
            Key::Aws(key) => key.clone(),
            _ => unreachable!(),
        }
    }

    #[test]
    fn an_answer_is_of_the_key_that_was_asked_for() {
        let answered = arn("eu-west-1", "111122223333", &format!("key/{ID}"));
        let same = |asked: &str| is_of(&key(asked), &key(&answered));
        assert!(same(&answered) && same(ID) && same("alias/team"));
        assert!(same(&arn("eu-west-1", "111122223333", "alias/team")));
        assert!(!same(OTHER_ID));
        assert!(!same(&arn("eu-west-1", "111122223333", &format!("key/{OTHER_ID}"))));
        for (region, account) in [("eu-west-2", "111122223333"), ("eu-west-1", "111122224444")] {
            assert!(!same(&arn(region, account, &format!("key/{ID}"))));
            assert!(!same(&arn(region, account, "alias/team")));
        }
    }

    #[test]
    fn a_related_multi_region_key_has_the_same_packets() {
        let id = "mrk-1234abcd12ab34cd56ef1234567890ab";
        let made_with = |region: &str, account: &str, id: &str| key(&arn(region, account, &format!("key/{id}")));
        let primary = made_with("us-east-1", "111122223333", id);
        let named = |named: &str, kid: &AwsKey| may_be_for(&key(named), kid);
        for replica in
            [&arn("eu-west-1", "111122223333", &format!("key/{id}")), id, "alias/a", &arn("eu-west-1", "111122223333", "alias/a")]
        {
            assert!(named(replica, &primary), "{replica}");
        }
        for replica in [&arn("eu-west-1", "111122223333", &format!("key/{id}")), &arn("eu-west-1", "111122223333", "alias/a")] {
            assert!(!named(replica, &made_with("us-east-1", "444455556666", id)), "{replica}: of another account");
            assert!(!named(replica, &made_with("us-east-1", "111122223333", ID)), "{replica}: a key of one region");
        }
        let china = arn("cn-north-1", "111122223333", &format!("key/{id}")).replace("arn:aws:", "arn:aws-cn:");
        assert!(!named(&china, &primary), "another partition");
        assert!(!named(&arn("eu-west-1", "111122223333", &format!("key/{ID}")), &made_with("us-east-1", "111122223333", ID)));
        assert!(!is_of(&key(&arn("eu-west-1", "111122223333", &format!("key/{id}"))), &primary), "an answer is of the very key");
    }

    #[test]
    fn what_is_no_key_is_no_answer() {
        assert!(parse(ID).is_some() && parse(&arn("eu-west-1", "111122223333", &format!("key/{ID}"))).is_some());
        for other in ["", "alias/team", "local://team", &format!("awskms:///{ID}"), &arn("eu-west-1", "111122223333", "alias/team")] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
