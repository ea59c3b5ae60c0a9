//! A stand-in for the Azure CLI: of all credentials, the one that needs neither TLS nor variables of the test's own process.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The folder that holds the program `az`.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/azure_cli/bin");

/// The variables that lead to `az` and to no other credential. It reads tokens in `folder`, and writes down there, in `asked`, what it was asked.
pub fn variables(folder: &Path) -> [(&'static str, String); 3] {
    let folder = folder.to_str().expect("a path in UTF-8").to_owned();
    [("PATH", format!("{FOLDER}:/usr/bin:/bin")), ("AZ_FOLDER", folder), ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential".to_owned())]
}

/// Gives `az` a token for a service, `vault` or `managedhsm`, which it says to live so long.
pub fn log_in(folder: &Path, service: &str, token: &str, lifetime: Duration) {
    let expires = (SystemTime::now() + lifetime).duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    let answer = serde_json::json!({"accessToken": token, "expires_on": expires, "tokenType": "Bearer"});
    std::fs::write(folder.join(service).with_extension("json"), answer.to_string()).expect("a file");
}
