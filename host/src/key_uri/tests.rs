//! Tables of accepted and refused URIs, and properties that hold for all texts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

const GCP: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";
const UUID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
const ARN: &str = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const VERSION: &str = "0123456789abcdef0123456789abcdef";

/// A service that isn't built in.
fn hsm() -> OtherService {
    OtherService::new("my-hsm").unwrap()
}

/// As a configuration with a private cloud and a Vault would have it.
fn configured() -> Addresses {
    Addresses { azure_suffixes: vec!["vault.Example.cloud".into()], vault_host: Some("vault.example.com".into()), services: vec![hsm()] }
}

fn parse(text: &str) -> KeyUri {
    KeyUri::parse(text, &configured()).unwrap_or_else(|error| panic!("{text}: {error}. {}", error.hint()))
}

fn refusal(text: &str) -> KeyUriError {
    KeyUri::parse(text, &configured()).expect_err(text)
}

#[test]
fn every_accepted_spelling_becomes_the_canonical_one() {
    let mrk = "mrk-1234abcd12ab34cd56ef1234567890ab";
    let cases: &[(Service, &[&str], &str, &str)] = &[
        (
            Service::Gcp,
            &[GCP, "gcp-kms://projects/p/locations/global/keyRings/r/cryptoKeys/k"],
            GCP,
            "", // no version
        ),
        (
            Service::Gcp,
            &["gcp-kms://projects/example.com:my-proj/locations/europe-west3/keyRings/R_1/cryptoKeys/K-2/cryptoKeyVersions/17"],
            "gcpkms://projects/example.com:my-proj/locations/europe-west3/keyRings/R_1/cryptoKeys/K-2/cryptoKeyVersions/17",
            "/cryptoKeyVersions/17",
        ),
        (
            Service::Gcp,
            &["gcpkms://projects/123456789012/locations/eur4/keyRings/r/cryptoKeys/k"],
            "gcpkms://projects/123456789012/locations/eur4/keyRings/r/cryptoKeys/k",
            "",
        ),
        (
            Service::Aws,
            &[ARN, &format!("awskms:///{ARN}"), &format!("aws-kms:///{ARN}"), &format!("aws-kms://{ARN}"), &format!("awskms://{ARN}")],
            &format!("awskms:///{ARN}"),
            "",
        ),
        (Service::Aws, &[UUID, &format!("aws-kms:///{UUID}")], &format!("awskms:///{UUID}"), ""),
        (Service::Aws, &[mrk, &format!("awskms:///{mrk}")], &format!("awskms:///{mrk}"), ""),
        (Service::Aws, &["aws-kms:///alias/team/images_1"], "awskms:///alias/team/images_1", ""),
        (
            Service::Aws,
            &["arn:aws-cn:kms:cn-northwest-1:123456789012:alias/a/b"],
            "awskms:///arn:aws-cn:kms:cn-northwest-1:123456789012:alias/a/b",
            "",
        ),
        (
            Service::Azure,
            &["azurekms://My-Vault.vault.azure.net/Key-1", "https://my-vault.VAULT.azure.net/keys/key-1"],
            "azurekms://my-vault.vault.azure.net/key-1",
            "",
        ),
        (
            Service::Azure,
            &[
                &format!("azurekms://hsm.managedhsm.usgovcloudapi.net/k/{VERSION}"),
                &format!("https://HSM.managedhsm.usgovcloudapi.net/keys/K/{}", VERSION.to_ascii_uppercase()),
            ],
            &format!("azurekms://hsm.managedhsm.usgovcloudapi.net/k/{VERSION}"),
            &format!("/{VERSION}"),
        ),
        // A key may be called "keys".
        (Service::Azure, &["azurekms://abc.vault.azure.cn/keys"], "azurekms://abc.vault.azure.cn/keys", ""),
        (Service::Azure, &["azurekms://abc.vault.example.cloud/k"], "azurekms://abc.vault.example.cloud/k", ""),
        (
            Service::Vault,
            &[
                "hashivault://k",
                "hashivault://transit/k",
                "hcvault://vault.example.com/k",
                "hcvault://VAULT.example.com/transit/k",
                "hcvault://vault.example.com/transit/keys/k",
            ],
            "hashivault://transit/k",
            "",
        ),
        (
            Service::Vault,
            &["hashivault://team/a/transit/my.key_1", "hcvault://vault.example.com/team/a/transit/keys/my.key_1"],
            "hashivault://team/a/transit/my.key_1",
            "",
        ),
        (Service::Vault, &["hcvault://vault.example.com/keys/k"], "hashivault://keys/k", ""),
        (Service::Vault, &["openbao://k", "openbao://transit/k"], "openbao://transit/k", ""),
        (Service::Local, &["local://Name-1.x_y"], "local://Name-1.x_y", ""),
        (Service::HttpKms, &["http-kms://eu-1/team/Key_1.x"], "http-kms://eu-1/team/Key_1.x", ""),
        (Service::Other(hsm()), &["my-hsm://slot.1/Team_a"], "my-hsm://slot.1/Team_a", ""),
    ];
    for (service, spellings, canonical, version) in cases {
        for spelling in *spellings {
            let uri = parse(spelling);
            assert_eq!((uri.canonical(), uri.service()), (*canonical, *service), "{spelling}");
            assert_eq!(format!("{}{version}", uri.identity()), *canonical, "{spelling}");
            check_properties(spelling);
        }
    }
}

#[test]
fn a_service_that_is_not_built_in_has_a_name_that_is_no_others() {
    for name in [
        "",
        "a",
        "1hsm",
        "-hsm",
        "My-hsm",
        "my_hsm",
        "local",
        "gcpkms",
        "gcp-kms",
        "hcvault",
        "http-kms",
        "https",
        "http",
        "a-name-that-is-longer-than-it-may-be",
    ] {
        assert!(OtherService::new(name).is_err(), "{name}");
    }
    for uri in ["my-hsm://", "my-hsm://a//b", "my-hsm://../a", "my-hsm://a:1/b", "my-hsm://a/b,c", "my-hsm://a@b", "other-hsm://a"] {
        refusal(uri);
    }
    assert!(KeyUri::parse("my-hsm://a", &Addresses::default()).is_err(), "it was not added");
}

#[test]
fn a_query_is_sorted_and_percent_encoded_in_one_way() {
    let cases = [
        ("?context_b=2&context_a=1&algorithm=A256KW", "?algorithm=A256KW&context_a=1&context_b=2"),
        ("?context_a=%7e%2F%3a%2d&context_A=x", "?context_A=x&context_a=~/:-"),
        ("?context_a=YQ==?&context_b=%e2%82%ac%20%26", "?context_a=YQ%3D%3D%3F&context_b=%E2%82%AC%20%26"),
        ("?context_aws%3aecr%2Farn=%2b%25%23@", "?context_aws:ecr/arn=%2B%25%23%40"),
        ("?algorithm=ECDH-ES%2bA256KW", "?algorithm=ECDH-ES%2BA256KW"),
        ("?%61lgorithm=RSA%2DOAEP-256", "?algorithm=RSA-OAEP-256"),
        // Decoded once only.
        ("?context_a=%2541", "?context_a=%2541"),
    ];
    for (query, canonical) in cases {
        let text = format!("local://k{query}");
        let uri = parse(&text);
        assert_eq!(uri.canonical(), format!("local://k{canonical}"));
        assert_eq!((uri.without_query(), uri.identity()), ("local://k", "local://k"));
        check_properties(&text);
    }
    let uri = parse(&format!("{GCP}?context_b=%e2%82%ac%20%26&context_a=1"));
    assert_eq!(uri.context(), &BTreeMap::from([("a".into(), "1".into()), ("b".into(), "€ &".into())]));
    assert_eq!(uri.algorithm(), None);
}

#[test]
fn the_parts_of_each_service_can_be_read() {
    let Key::Gcp(key) = parse(&format!("{GCP}/cryptoKeyVersions/3")).key().clone() else { panic!() };
    assert_eq!(key.key_name(), "projects/p/locations/global/keyRings/r/cryptoKeys/k");
    assert_eq!(key.resource_name(), "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3");

    let Key::Aws(key) = parse("arn:aws-eusc:kms:eusc-de-east-1:123456789012:alias/x").key().clone() else { panic!() };
    assert!(key.is_alias());
    let arn = key.arn.unwrap();
    assert_eq!((arn.partition, arn.dns_suffix, arn.region.as_str()), ("aws-eusc", "amazonaws.eu", "eusc-de-east-1"));
    assert_eq!((arn.account.as_str(), arn.resource.as_str()), ("123456789012", "alias/x"));
    let Key::Aws(key) = parse(UUID).key().clone() else { panic!() };
    assert_eq!((key.is_alias(), key.key_id.as_str(), key.arn), (false, UUID, None));

    let Key::Azure(key) = parse(&format!("https://v-1.managedhsm.azure.net/keys/K/{VERSION}")).key().clone() else { panic!() };
    assert!(key.is_managed_hsm());
    assert_eq!((key.host.as_str(), key.key.as_str(), key.version.as_deref()), ("v-1.managedhsm.azure.net", "k", Some(VERSION)));

    let Key::Vault(key) = parse("openbao://team/transit/k").key().clone() else { panic!() };
    assert_eq!((key.flavour, key.mount.as_str(), key.key.as_str()), (VaultFlavour::OpenBao, "team/transit", "k"));

    let Key::Local(key) = parse("local://k").key().clone() else { panic!() };
    assert_eq!(key.name, "k");

    let Key::HttpKms(key) = parse("http-kms://eu/a/b").key().clone() else { panic!() };
    assert_eq!((key.endpoint.as_str(), key.key.as_str()), ("eu", "a/b"));
}

#[test]
fn every_region_belongs_to_its_partition_only() {
    let regions = [
        ("aws", "us-east-1"),
        ("aws", "ap-southeast-5"),
        ("aws", "mx-central-1"),
        ("aws-cn", "cn-north-1"),
        ("aws-us-gov", "us-gov-west-1"),
        ("aws-eusc", "eusc-de-east-1"),
        ("aws-iso", "us-iso-east-1"),
        ("aws-iso-b", "us-isob-east-1"),
        ("aws-iso-e", "eu-isoe-west-1"),
        ("aws-iso-f", "us-isof-south-1"),
    ];
    for (home, region) in regions {
        for (partition, _) in regions {
            let uri = KeyUri::parse(&format!("arn:{partition}:kms:{region}:123456789012:key/{UUID}"), &Addresses::default());
            assert_eq!(uri.is_ok(), partition == home, "{partition} {region}");
        }
    }
}

#[test]
fn each_service_has_its_algorithms_and_refuses_the_others() {
    let cases: &[(&str, &[&str])] = &[
        (GCP, &[]),
        (&format!("{GCP}/cryptoKeyVersions/1"), &["RSA-OAEP-256"]),
        (UUID, &["RSA-OAEP-256"]),
        ("azurekms://abc.vault.azure.net/k", &["RSA-OAEP-256"]),
        ("azurekms://abc.managedhsm.azure.net/k", &["RSA-OAEP-256", "A256KW"]),
        ("hashivault://k", &["RSA-OAEP-256"]),
        ("local://k", &["RSA-OAEP-256", "A256KW", "ECDH-ES+A256KW", "HPKE-9-KE", "HPKE-12-KE"]),
        ("http-kms://eu/k", &[]),
    ];
    for (key, possible) in cases {
        for algorithm in Algorithm::ALL {
            let text = format!("{key}?algorithm={}", algorithm.as_str().replace('+', "%2B"));
            let uri = KeyUri::parse(&text, &Addresses::default());
            assert_eq!(uri.is_ok(), possible.contains(&algorithm.as_str()), "{text}");
            assert!(uri.is_err() || uri.unwrap().algorithm() == Some(*algorithm));
        }
    }
}

/// A text, then a piece of the error and of the hint.
type Refused<'a> = (&'a str, &'a str, &'a str);

fn assert_refused(cases: &[Refused]) {
    for (text, error, hint) in cases {
        let found = refusal(text);
        assert!(found.to_string().contains(error), "{text:?}: {found}");
        assert!(found.hint().contains(hint), "{text:?}: {}", found.hint());
        check_properties(text);
    }
}

#[test]
fn texts_that_break_a_general_rule_are_refused() {
    assert_refused(&[
        ("", "empty", "gcpkms://projects/PROJECT"),
        ("k", "no scheme", "gcpkms://"),
        ("alias/k", "no scheme: `alias/k`", "awskms:///"),
        ("gcpkms:projects/p", "no scheme", "gcpkms://"),
        ("mrk-1234", "no scheme", "key id"),
        ("://k", "`` is not the scheme", "gcpkms://"),
        ("GCPKMS://projects/p", "`GCPKMS` is not the scheme", "lower case"),
        ("http://abc.vault.azure.net/keys/k", "`http` is not the scheme", "azurekms://"),
        ("file:///etc/passwd", "`file` is not the scheme", "local://"),
        (" local://k", "character ` ` at byte 0", "%20"),
        ("local://k\n", "character `\\n` at byte 9", "printable ASCII"),
        ("hashivault://k\r\nX-Vault-Token: x", "character `\\r`", "printable ASCII"),
        ("local://k\0", "character `\\u{0}`", "printable ASCII"),
        ("local://k\u{7f}", "character `\\u{7f}`", "printable ASCII"),
        ("local://kéy", "character `\\u{e9}`", "percent-encoded"),
        ("local://k?context_a=é", "character `\\u{e9}`", "percent-encoded"),
        ("azurekms://\u{432}ault.vault.azure.net/k", "character `\\u{432}`", "ASCII"),
        ("local://k#x", "fragment", "%23"),
        ("local://k?context_a=1#x", "fragment", "%23"),
        ("azurekms://evil.com#.vault.azure.net/k", "fragment", "leave"),
        ("azurekms://a@b.vault.azure.net/k", "user information", "credentials"),
        ("azurekms://evil.com:x@abc.vault.azure.net/k", "user information", "credentials"),
        ("azurekms://abc.vault.azure.net:443/k", "port: `abc.vault.azure.net:443`", "configuration"),
        ("azurekms://abc.vault.azure.net:/k", "port", "configuration"),
        ("hashivault://127.0.0.1:8200/k", "port", "configuration"),
        ("hcvault://vault.example.com:8200/transit/k", "port", "configuration"),
        ("http-kms://eu:8200/k", "port: `eu:8200`", "configuration"),
        ("http-kms://user@eu/k", "user information", "credentials"),
        ("http-kms://eu/a%2fb", "percent-encoding in its path", "as they are"),
        ("http-kms:///k", "empty path segment", "double slash"),
        ("http-kms://eu/a/../b", "`..` path segment", "whole path"),
        ("http-kms://eu/.", "`.` or", "whole path"),
        ("hashivault://transit%2fk", "percent-encoding in its path", "query values"),
        ("hashivault://transit/%2e%2e/k", "percent-encoding in its path", "as they are"),
        ("gcpkms://projects/p%00", "percent-encoding in its path", "as they are"),
        ("local://", "empty path segment", "leave no name empty"),
        ("gcpkms:///projects/p", "empty path segment", "double slash"),
        ("hashivault://transit//k", "empty path segment", "double slash"),
        ("hashivault://transit/k/", "empty path segment", "none at the end"),
        ("awskms:////alias/k", "empty path segment", "double slash"),
        ("gcpkms://projects/p/../../x", "`..` path segment", "whole path"),
        ("hashivault://transit/k/../../sys/unseal", "`..` path segment", "whole path"),
        ("awskms:///alias/../k", "`..` path segment", "whole path"),
        ("arn:aws:kms:us-east-1:123456789012:alias/./k", "`..` path segment", "whole path"),
        ("local://..", "`..` path segment", "whole path"),
        ("local://.", "`.` or", "whole path"),
    ]);
}

#[test]
fn paths_that_break_a_services_rule_are_refused() {
    let long = |prefix: &str, length: usize| format!("{prefix}{}", "x".repeat(length));
    assert_refused(&[
        ("gcpkms://projects/p", "does not name a key of Google Cloud KMS", "/cryptoKeys/KEY"),
        (&format!("{GCP}/versions/1"), "does not name a key", "/cryptoKeyVersions/VERSION"),
        (&format!("{GCP}/cryptoKeyVersions"), "does not name a key", "/cryptoKeyVersions/VERSION"),
        ("gcpkms://cryptoKeyVersions/1", "does not name a key", "/cryptoKeys/KEY"),
        ("gcpkms://projects/P_1/locations/l/keyRings/r/cryptoKeys/k", "`P_1` is not a valid project", "id of lower-case"),
        ("gcpkms://projects/:p/locations/l/keyRings/r/cryptoKeys/k", "not a valid project", "DOMAIN:"),
        ("gcpkms://projects/a:b:c/locations/l/keyRings/r/cryptoKeys/k", "not a valid project", "DOMAIN:"),
        ("gcpkms://projects/p/locations/l.x/keyRings/r/cryptoKeys/k", "not a valid location", "1 to 63"),
        ("gcpkms://projects/p/locations/l/keyRings/r:x/cryptoKeys/k", "not a valid key ring", "1 to 63"),
        (&long(GCP, 63), "not a valid key of Google", "1 to 63"),
        (&format!("{GCP}:encrypt"), "not a valid key of Google", "underscores"),
        (&format!("{GCP}/cryptoKeyVersions/1:decrypt"), "not a valid key version", "number"),
        (&format!("{GCP}/cryptoKeyVersions/01"), "not a valid key version", "leading zeros"),
        ("awskms://169.254.169.254/latest/meta-data", "names a host: `169.254.169.254`", "three slashes"),
        (&format!("awskms://kms.evil.com/{ARN}"), "names a host", "AWS_ENDPOINT_URL_KMS"),
        ("awskms://alias/k", "names a host: `alias`", "awskms:///alias/NAME"),
        ("awskms:///key/1234", "does not name a key of AWS KMS", "awskms:///ID"),
        ("awskms:///alias", "`alias` is not a valid alias", "alias/ and a name"),
        ("awskms:///k", "not a valid key id", "UUID"),
        (&format!("awskms:///{}", UUID.to_ascii_uppercase()), "not a valid key id", "lower-case UUID"),
        ("awskms:///alias/a.b", "not a valid alias", "underscores"),
        (&long("awskms:///alias/", 251), "not a valid alias", "256"),
        ("arn:aws:kms:us-east-1:123456789012", "does not name a key of AWS KMS", "arn:aws:kms:REGION"),
        ("arn:aws:s3:us-east-1:123456789012:key/x", "does not name a key of AWS KMS", "arn:aws:kms:REGION"),
        ("arn:aws:kms:us-east-1:123456789012:secret/x", "does not name a key of AWS KMS", "key/ID"),
        ("arn:aws:kms:us-east-1:123456789012:key/x", "not a valid key id", "UUID"),
        ("arn:aws:kms:us-east-1:12345:alias/k", "not a valid account", "12 digits"),
        ("arn:evil:kms:us-east-1:123456789012:alias/k", "`evil` is not a partition", "arn:aws:kms:REGION"),
        ("arn:aws:kms:cn-north-1:123456789012:alias/k", "not a region of the AWS partition aws", "partition"),
        ("arn:aws:kms:us-east-1.evil.com:123456789012:alias/k", "not a region", "partition"),
        ("arn:aws:kms:us-x.evil.com-1:123456789012:alias/k", "not a region", "partition"),
        ("arn:aws:kms::123456789012:alias/k", "not a region", "partition"),
        ("azurekms://abc.vault.azure.net", "does not name a key of Azure", "azurekms://NAME"),
        (&format!("azurekms://abc.vault.azure.net/k/{VERSION}/x"), "does not name a key", "[/VERSION]"),
        ("https://abc.vault.azure.net/secrets/k", "does not name a key of Azure", "azurekms://NAME"),
        ("azurekms://evil.com/k", "not the host of a Key Vault", "azurekms://NAME.vault"),
        ("azurekms://vault.azure.net.evil.com/k", "not the host of a Key Vault", "azurekms://NAME.vault"),
        ("azurekms://abc.vault.azure.net.evil.com/k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://evilvault.azure.net/k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://a.b.vault.azure.net/k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://abc.vault.azure.net./k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://evil.com\\.vault.azure.net/k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://vault.azure.net/k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://localhost/k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://[::1]/k", "not the host", "NAME.vault.azure.net"),
        ("azurekms://ab.vault.azure.net/k", "`ab` is not a valid vault name", "3 to 24"),
        ("azurekms://a--b.vault.azure.net/k", "not a valid vault name", "single hyphens"),
        ("azurekms://-abc.vault.azure.net/k", "not a valid vault name", "at an end"),
        ("azurekms://a_b.vault.azure.net/k", "not a valid vault name", "letters"),
        ("azurekms://.vault.azure.net/k", "not a valid vault name", "3 to 24"),
        ("azurekms://abc.vault.azure.net/a_b", "not a valid key of Azure", "1 to 127"),
        (&long("azurekms://abc.vault.azure.net/", 128), "not a valid key of Azure", "1 to 127"),
        ("azurekms://abc.vault.azure.net/k/v1", "not a valid key version", "32 hexadecimal"),
        ("hashivault://transit/-k", "not a valid key of Vault", "hashivault://MOUNT/KEY"),
        ("hashivault://transit/k.", "not a valid key of Vault", "inside it"),
        ("openbao://a&b/k", "not a valid segment of a mount path", "letters"),
        ("openbao://a\\..\\sys/k", "not a valid segment of a mount path", "letters"),
        ("hashivault://sys/raw/k", "`sys` is a reserved path", "hashivault://transit/KEY"),
        ("openbao://auth/token/k", "reserved path", "mounted"),
        ("hcvault://evil.com/transit/k", "`evil.com` is not the configured Vault", "without a host"),
        ("hcvault://vault.example.com", "does not name a key of Vault", "hashivault://MOUNT/KEY"),
        ("hcvault://vault.example.com/sys/keys/k", "reserved path", "mounted"),
        ("local://a/b", "does not name a key of the local keystore", "local://NAME"),
        ("local://.hidden", "not a valid key name", "letter or digit"),
        ("local://a\\b", "not a valid key name", "letter or digit"),
        (&long("local://", 65), "not a valid key name", "63"),
        ("http-kms://eu", "`eu` does not name a key of an endpoint", "http-kms://ENDPOINT/KEY"),
        ("http-kms://eu/a/b/c/d/e/f/g/h/i", "does not name a key of an endpoint", "http-kms://ENDPOINT/KEY"),
        ("http-kms://kms.example/k", "`kms.example` is not a valid endpoint", "lower-case letters"),
        ("http-kms://EU/k", "`EU` is not a valid endpoint", "hyphens"),
        (&long("http-kms://eu/", 129), "not a valid key of an endpoint", "128"),
        ("http-kms://eu/a:b", "`a:b` is not a valid key", "letters, digits"),
        ("http-kms://eu/a\\b", "not a valid key", "letters, digits"),
        ("http-kms://eu/{key}", "not a valid key", "letters, digits"),
        ("http-kms://eu/*", "not a valid key", "letters, digits"),
        ("http-kms://eu/a;b", "not a valid key", "letters, digits"),
    ]);
}

#[test]
fn queries_that_break_a_rule_are_refused() {
    let many: Vec<String> = (0..=MAX_CONTEXT_ENTRIES).map(|n| format!("context_{n}=x")).collect();
    let long_name = format!("context_{}=x", "n".repeat(129));
    let growing = format!("context_a={}", "^".repeat(1000));
    let cases: &[Refused] = &[
        ("", "query entry ``", "NAME=VALUE"),
        ("algorithm", "query entry `algorithm`", "NAME=VALUE"),
        ("context_a=1&", "query entry ``", "NAME=VALUE"),
        ("=x", "`` is not a query name", "context_NAME"),
        ("region=us-east-1", "`region` is not a query name", "regions"),
        ("Algorithm=A256KW", "`Algorithm` is not a query name", "algorithm=NAME"),
        ("algorithm=A256KW&algorithm=A256KW", "`algorithm` occurs twice", "once"),
        ("context_a=1&context_a=1", "`context_a` occurs twice", "once"),
        ("context_a=1&context_%61=2", "`context_a` occurs twice", "once"),
        ("context_a=1+2", "has a `+`", "%2B"),
        ("algorithm=ECDH-ES+A256KW", "has a `+`", "%2B"),
        ("context_a=%", "without two hexadecimal digits", "%25"),
        ("context_a=%4", "without two hexadecimal digits", "%25"),
        ("context_a=%%34", "without two hexadecimal digits", "%25"),
        ("context_a=%g0", "without two hexadecimal digits", "%25"),
        ("context_a=%ff", "not UTF-8", "UTF-8"),
        ("context_a=%c0%af", "not UTF-8", "UTF-8"),
        ("context_a=%ed%a0%80", "not UTF-8", "UTF-8"),
        ("context_a=%00", "control character", "percent-encoded"),
        ("context_a=x%0d%0aX-Injected:%201", "`x\\r\\nX-Injected: 1` has a control character", "leave"),
        ("context_a=%7f", "control character", "leave"),
        ("context_a=%c2%85", "control character", "leave"),
        ("context_a=", "`context_a` has no value", "leave the entry out"),
        ("algorithm=", "`algorithm` has no value", "leave the entry out"),
        ("context_=x", "`` is not a valid context name", "1 to 128"),
        ("context_a%20b=x", "`a b` is not a valid context name", "letters"),
        ("context_%c3%a9=x", "not a valid context name", "letters"),
        (&long_name, "not a valid context name", "1 to 128"),
        (&many.join("&"), "more than 16 context entries", "at most 16"),
        (&growing, "takes 3020 bytes, more than 2048", "shorter"),
        ("algorithm=none", "`none` is not an algorithm", "RSA-OAEP-256, A256KW, ECDH-ES+A256KW"),
        ("algorithm=rsa-oaep-256", "not an algorithm", "RSA-OAEP-256"),
    ];
    for (query, error, hint) in cases {
        assert_refused(&[(&format!("local://k?{query}"), error, hint)]);
    }
    assert_refused(&[
        (&format!("{GCP}?algorithm=RSA-OAEP-256"), "this key of Google Cloud KMS can not have", "cryptoKeyVersions/VERSION"),
        ("http-kms://eu/k?algorithm=A256KW", "this key of an endpoint can not have", "only the component"),
        (&format!("{UUID}?algorithm=A256KW"), "this key of AWS KMS can not have", "RSA-OAEP-256"),
        (&format!("local://{}", "k".repeat(MAX_LENGTH)), "takes 2056 bytes", "shorter"),
    ]);
}

#[test]
fn addresses_beyond_the_built_in_ones_need_the_configuration() {
    for text in ["azurekms://abc.vault.example.cloud/k", "hcvault://vault.example.com/transit/k"] {
        assert!(KeyUri::parse(text, &configured()).is_ok());
        assert!(KeyUri::parse(text, &Addresses::default()).is_err());
    }
    let careless = Addresses { azure_suffixes: vec![String::new()], vault_host: Some(String::new()), ..Addresses::default() };
    assert!(KeyUri::parse("azurekms://abc./k", &careless).is_err());
    assert!(KeyUri::parse("hcvault:///transit/k", &careless).is_err());
}

#[test]
fn a_parameter_covers_packets_of_its_key_that_have_all_of_its_query() {
    let covers = |parameter: &str, packet: &str| parse(parameter).covers(&parse(packet));
    assert!(covers("local://k", "local://k?context_a=1&algorithm=A256KW"));
    assert!(covers("local://k?context_a=1", "local://k?context_b=2&context_a=%31"));
    assert!(covers("hashivault://k", "hcvault://vault.example.com/transit/keys/k"));
    assert!(covers(ARN, &format!("aws-kms://{ARN}")));
    assert!(!covers("local://k?context_a=1", "local://k"));
    assert!(!covers("local://k?context_a=1", "local://k?context_a=2"));
    assert!(!covers("local://k?algorithm=A256KW", "local://k?algorithm=RSA-OAEP-256"));
    assert!(!covers("local://k?algorithm=A256KW", "local://k"));
    assert!(!covers("local://k", "local://k2"));
    assert!(!covers(GCP, &format!("{GCP}/cryptoKeyVersions/1")));
    assert!(!covers("hashivault://k", "openbao://k"));
    assert!(!covers(UUID, ARN));
}

#[test]
fn errors_show_no_password_and_stay_short() {
    let error = refusal("azurekms://user:hunter2@abc.vault.azure.net/%k");
    assert!(!format!("{error} {error:?} {}", error.hint()).contains("hunter2"));
    assert!(refusal(&format!("local://{}", "\\".repeat(1000))).to_string().len() < 200);
}

/// What holds for every text. The fuzz target `key_uri` asserts the same.
fn check_properties(text: &str) {
    let addresses = configured();
    let uri = match KeyUri::parse(text, &addresses) {
        Ok(uri) => uri,
        Err(error) => {
            for line in [error.to_string(), error.hint()] {
                assert!(line.len() < 500 && line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
            }
            return;
        }
    };
    assert!(uri.canonical().len() <= MAX_LENGTH && uri.canonical().bytes().all(|byte| byte.is_ascii_graphic()), "{uri}");
    assert_eq!(KeyUri::parse(uri.canonical(), &addresses).as_ref(), Ok(&uri));
    assert!(uri.canonical().starts_with(uri.without_query()) && uri.without_query().starts_with(uri.identity()), "{uri}");
    assert!(uri.covers(&uri));

    let plain = KeyUri::parse(uri.without_query(), &addresses).expect("it parses without its query");
    assert_eq!((plain.canonical(), plain.identity(), plain.key()), (uri.without_query(), uri.identity(), uri.key()));
    assert!(plain.covers(&uri));

    let identity = KeyUri::parse(uri.identity(), &addresses).expect("an identity is a key URI");
    assert_eq!((identity.canonical(), identity.identity(), identity.service()), (uri.identity(), uri.identity(), uri.service()));
}

/// A key in one of its spellings, its identity and its version.
fn any_key() -> impl Strategy<Value = (String, String, String)> {
    let region = select(vec![("aws", "eu-central-1"), ("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-east-1")]);
    let alias = "alias/[A-Za-z0-9_-]{1,20}(/[A-Za-z0-9_-]{1,20}){0,2}";
    let id = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32}";
    prop_oneof![
        (
            select(vec!["gcpkms", "gcp-kms"]),
            "([a-z]{1,9}\\.[a-z]{2,3}:)?[a-z0-9-]{1,30}",
            "[a-z0-9-]{1,20}",
            "[A-Za-z0-9_-]{1,63}",
            "[A-Za-z0-9_-]{1,63}",
            "(/cryptoKeyVersions/[1-9][0-9]{0,5})?"
        )
            .prop_map(|(scheme, project, location, ring, key, version)| {
                let name = format!("projects/{project}/locations/{location}/keyRings/{ring}/cryptoKeys/{key}");
                (format!("{scheme}://{name}{version}"), format!("gcpkms://{name}"), version)
            }),
        (select(vec!["", "awskms:///", "aws-kms:///", "aws-kms://"]), region, "[0-9]{12}", prop_oneof![alias, id]).prop_map(
            |(start, (partition, region), account, key)| {
                let kind = if key.starts_with("alias/") { "" } else { "key/" };
                let arn = format!("arn:{partition}:kms:{region}:{account}:{kind}{key}");
                (format!("{start}{arn}"), format!("awskms:///{arn}"), String::new())
            }
        ),
        (select(vec!["awskms:///", "aws-kms:///"]), prop_oneof![alias, id]).prop_map(|(start, key)| (
            format!("{start}{key}"),
            format!("awskms:///{key}"),
            String::new()
        )),
        (
            select(vec![("azurekms", ""), ("https", "/keys")]),
            "[A-Za-z0-9]{3,20}(-[A-Za-z0-9]{1,3})?",
            select(vec!["vault.azure.net", "managedhsm.azure.cn", "VAULT.example.cloud"]),
            "[A-Za-z0-9-]{1,127}",
            "(/[0-9a-fA-F]{32})?"
        )
            .prop_map(|((scheme, keys), name, suffix, key, version)| {
                let text = format!("{scheme}://{name}.{suffix}{keys}/{key}{version}");
                let identity = format!("azurekms://{name}.{suffix}/{key}").to_lowercase();
                (text, identity, version.to_lowercase())
            }),
        (
            select(vec![("hashivault", ""), ("openbao", ""), ("hcvault", "vault.example.com/")]),
            "(team/)?x[A-Za-z0-9_]([A-Za-z0-9_.-]{0,10}[A-Za-z0-9_])?",
            "[A-Za-z0-9_]([A-Za-z0-9_.-]{0,10}[A-Za-z0-9_])?"
        )
            .prop_map(|((scheme, host), mount, key)| {
                let flavour = if scheme == "openbao" { "openbao" } else { "hashivault" };
                (format!("{scheme}://{host}{mount}/{key}"), format!("{flavour}://{mount}/{key}"), String::new())
            }),
        "http-kms://[a-z0-9-]{1,63}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,9}){1,8}".prop_map(|text| (text.clone(), text, String::new())),
        "local://[A-Za-z0-9][A-Za-z0-9._-]{0,63}".prop_map(|text| (text.clone(), text, String::new())),
    ]
}

fn any_context() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[A-Za-z0-9_.:/-]{1,12}", "\\PC{1,12}", 0..6)
}

/// Percent-encodes every byte, which is a spelling that must be read but never written.
fn encode_all(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn no_text_breaks_a_property(text in "\\PC*|(?s:.{0,60})") {
        check_properties(&text);
    }

    #[test]
    fn no_text_behind_a_known_scheme_breaks_a_property(
        scheme in select(vec![
            "gcpkms://", "awskms:///", "arn:", "azurekms://", "https://", "hashivault://", "openbao://",
            "hcvault://vault.example.com/", "http-kms://", "http-kms://eu/", "local://", "local://k?", "local://k?context_a=",
        ]),
        rest in "[ -~]{0,60}|[a-c./:%?&=_2-]{0,30}",
    ) {
        check_properties(&format!("{scheme}{rest}"));
    }

    #[test]
    fn valid_uris_are_read_back_as_they_were_meant((text, identity, version) in any_key(), context in any_context()) {
        let entries: Vec<String> =
            context.iter().rev().map(|(name, value)| format!("{}={}", encode_all(&format!("context_{name}")), encode_all(value))).collect();
        let query = if entries.is_empty() { String::new() } else { format!("?{}", entries.join("&")) };
        let text = format!("{text}{query}");
        let uri = KeyUri::parse(&text, &configured());
        prop_assert!(uri.is_ok(), "{}: {:?}", text, uri);
        let uri = uri.unwrap();
        prop_assert_eq!(uri.identity(), &identity);
        prop_assert_eq!(uri.without_query(), format!("{identity}{version}"));
        prop_assert_eq!(uri.context(), &context);
        check_properties(&text);
    }

    #[test]
    fn damaged_uris_break_no_property(
        (text, ..) in any_key(),
        context in any_context(),
        at in any::<Index>(),
        damage in "(?s:.)|[/?#%&=+:@.]{1,2}",
    ) {
        let mut text = context.iter().fold(text, |text, (name, value)| {
            format!("{text}{}context_{name}={}", if text.contains('?') { '&' } else { '?' }, encode_all(value))
        });
        let at = at.index(text.len());
        text.replace_range(at..at + 1, &damage);
        check_properties(&text);
    }

    #[test]
    fn covering_means_the_same_key_and_a_part_of_the_query(context in any_context(), keep in any::<u8>()) {
        let uri = |context: &BTreeMap<String, String>| {
            let entries: Vec<String> = context.iter().map(|(name, value)| format!("context_{name}={}", encode_all(value))).collect();
            parse(format!("{GCP}?{}", entries.join("&")).trim_end_matches('?'))
        };
        let part = context.clone().into_iter().enumerate().filter(|(n, _)| keep >> n & 1 == 1).map(|(_, entry)| entry).collect();
        prop_assert!(uri(&part).covers(&uri(&context)));
        prop_assert_eq!(uri(&context).covers(&uri(&part)), part == context);
    }
}
