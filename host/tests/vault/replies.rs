//! What a server of Vault answers.

use ocicrypt_kms_testing::scripted::Reply;
use serde_json::json;

/// As Vault tells an error.
pub fn error(status: u16, text: &str) -> Reply {
    Reply::new(status, json!({ "errors": [text] }).to_string())
}

/// As transit answers.
pub fn data(name: &str, value: &str) -> Reply {
    Reply::new(200, json!({ "data": { name: value }, "warnings": null }).to_string())
}
