//! AWS KMS keys against moto, with boto3 as the other side, and against scripted servers for what moto can't do.

mod credentials;
mod faults;
mod packets;
mod stage;

/// The URI of a key id or an ARN.
fn uri(key_id: &str) -> String {
    format!("awskms:///{key_id}")
}

/// The id in an ARN.
fn id_of(arn: &str) -> &str {
    arn.rsplit_once('/').unwrap().1
}
