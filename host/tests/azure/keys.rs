//! A key as the host lends it, without messages and packets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicrypt_kms::Environment;
use ocicrypt_kms::key_uri::{Addresses, KeyUri};
use ocicrypt_kms::kms::azure::Azure;
use ocicrypt_kms::kms::http::Http;
use ocicrypt_kms::kms::{Header, KeyService, KeyWrap, OpenKey};
use ocicrypt_kms::protocol::Operation;
use ocicrypt_kms_testing::azure_cli;

use super::stage::Stage;
use super::{AES, KEY, OTHER, uri};

const CEK: [u8; 32] = [7; 32];

fn open(stage: &Stage, folder: &tempfile::TempDir, uri: &str) -> Box<dyn KeyWrap> {
    for service in ["vault", "managedhsm"] {
        let token = stage.fake.issue_token(&format!("https://{service}.azure.net"));
        let json = format!(r#"{{"accessToken":"{token}","expires_on":4000000000,"tokenType":"Bearer"}}"#);
        std::fs::write(folder.path().join(service).with_extension("json"), json).unwrap();
    }
    let azure = Azure::new(Arc::new(Http::default()), &Environment::of(azure_cli::variables(folder.path())), Some(&stage.fake.endpoint()));
    let uri = KeyUri::parse(uri, &Addresses::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    match stage.runtime.block_on(azure.open(&uri, Operation::Wrap, deadline)).unwrap() {
        OpenKey::KeyWrap(key) => key,
        OpenKey::Cipher(_) => unreachable!(),
    }
}

#[test]
fn opening_a_key_asks_nobody_for_anything() {
    let (stage, folder) = (Stage::new(), tempfile::tempdir().unwrap());
    drop(open(&stage, &folder, &uri(KEY)));
    assert!(stage.fake.requests().is_empty() && !folder.path().join("asked").exists());
}

#[test]
fn a_wrapped_key_whose_kid_names_no_version_is_unwrapped_by_the_current_version() {
    let (stage, folder) = (Stage::new(), tempfile::tempdir().unwrap());
    let key = open(&stage, &folder, &uri(KEY));
    let wrapped = stage.runtime.block_on(key.wrap(&CEK)).unwrap();
    let unwrap = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::default() };
        stage.runtime.block_on(key.unwrap(&wrapped.encrypted_key, &header))
    };
    for kid in [None, Some(KEY)] {
        assert_eq!(unwrap(kid).unwrap().as_slice(), CEK);
    }
    assert_eq!(stage.paths(), ["/keys/k/wrapkey", "/keys/k/unwrapkey", "/keys/k/unwrapkey"]);
    stage.fake.rotate(KEY);
    assert!(unwrap(None).unwrap_err().line().contains("this version of the key did not make it"));
}

#[test]
fn a_kid_that_is_not_of_the_key_is_refused_without_a_call() {
    let (stage, folder) = (Stage::new(), tempfile::tempdir().unwrap());
    let old = stage.fake.rotate(KEY);
    let other = stage.fake.rotate(OTHER);
    let version = stage.fake.rotate(KEY);
    let versioned = format!("{}/{version}", uri(KEY));
    let cases = [
        (uri(KEY), format!("{OTHER}/{other}")),
        (uri(KEY), format!("{KEY}2/{version}")),
        (uri(KEY), format!("https://team.vault.azure.net.example/keys/k/{version}")),
        (uri(KEY), format!("https://team.managedhsm.azure.net/keys/k/{version}")),
        (uri(KEY), format!("{KEY}/../{version}")),
        (uri(KEY), format!("{KEY}/{version}/../../other")),
        (uri(KEY), format!("{KEY}/{}", &version[1..])),
        (uri(KEY), format!("{KEY}/")),
        (uri(KEY), OTHER.to_owned()),
        (uri(KEY), version.clone()),
        (uri(KEY), String::new()),
        (uri(AES), format!("{KEY}/{version}")),
        (versioned, format!("{KEY}/{old}")),
    ];
    for (uri, kid) in cases {
        let key = open(&stage, &folder, &uri);
        let error = stage.runtime.block_on(key.unwrap(&[0; 256], &Header { kid: Some(kid.clone()), ..Header::default() })).unwrap_err();
        assert!(error.line().starts_with(&format!("{uri}: the JWE's `kid` is not one of this key: ")), "{}", error.line());
    }
    assert!(stage.fake.requests().is_empty() && !folder.path().join("asked").exists(), "not even for a token");
}
