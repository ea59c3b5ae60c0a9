use ocicrypt_kms::key_uri::{Addresses, KeyUri};
use ocicrypt_kms_testing::home::Home;
use ocicrypt_kms_testing::messages::wrapping;

/// A text in the place of a key URI, and what is said of it, parts between bars.
const ROWS: &[(&str, &str)] = &[
    ("provider:kmscrypt:local://team", "start with one of gcpkms://"),
    ("jwe:key.pem", "start with one of gcpkms://"),
    (
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/versions/1",
        "gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY[/cryptoKeyVersions/VERSION]",
    ),
    ("gcpkms://projects/p/locations/l/keyrings/r/cryptokeys/k", "keyRings/RING/cryptoKeys/KEY"),
    ("https://vault:8200/v1/transit/keys/k", "is the address of a key in an API|write hashivault://transit/k|VAULT_ADDR"),
    ("https://vault.example/v1/team/transit/encrypt/k", "write hashivault://team/transit/k"),
    ("http://127.0.0.1:8200/v1/transit/keys/k/rotate", "write hashivault://transit/k,"),
    ("https://vault.example:8200/ui/vault/secrets/transit/show/k", "not a key identifier of Azure|hashivault://MOUNT/KEY|VAULT_ADDR"),
    ("https://vault.example/transit/k", "not a key identifier of Azure|hashivault://MOUNT/KEY"),
    (
        "https://cloudkms.googleapis.com/v1/projects/p/locations/global/keyRings/r/cryptoKeys/k:encrypt",
        "write gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k",
    ),
    ("https://team.vault.azure.net:443/keys/k", "has a port|leave it out"),
    ("https://team.vault.azure.net/secrets/k", "does not name a key of Azure Key Vault|azurekms://NAME.vault.azure.net/KEY"),
    ("vault://transit/k", "start with one of|hashivault://"),
    ("local://my key", "the character ` `|printable ASCII without spaces"),
    ("awskms:///alias/a?region=eu-central-1", "`region` is not a query name|context_NAME=VALUE and algorithm=NAME"),
    ("local://team?algorithm=AES", "`AES` is not an algorithm|RSA-OAEP-256"),
];

#[test]
fn each_is_answered_with_what_to_write() {
    for (text, says) in ROWS {
        let error = KeyUri::parse(text, &Addresses::default()).expect_err(text);
        let line = format!("{error}; {}", error.hint());
        for part in says.split('|') {
            assert!(line.contains(part), "{text}: {line} lacks {part}");
        }
    }
}

#[test]
fn the_program_says_it_too() {
    let home = Home::empty();
    let (code, line) = home.refused(&[], &wrapping(&["https://vault:8200/v1/transit/keys/k"]));
    assert!(code == 2 && line.contains("write hashivault://transit/k"), "{code} {line}");
}
