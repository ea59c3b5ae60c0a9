//! AWS KMS keys against moto, with boto3 as the other side, and against scripted servers for what moto can't do.

mod credentials;
mod faults;
mod multi_region;
mod packets;
pub mod settings;
pub mod stage;

pub const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// The URI of a key id or an ARN.
pub fn uri(key_id: &str) -> String {
    format!("awskms:///{key_id}")
}

/// The id in an ARN.
fn id_of(arn: &str) -> &str {
    arn.rsplit_once('/').unwrap().1
}
