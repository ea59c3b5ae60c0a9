//! What the user sees when Azure says no: one line that names the key and the remedy, an exit code, and nothing else.

use std::time::{Duration, Instant};

use ocicrypt_kms_fakes::azure::{Denial, FakeAzure, Fault, TENANT};
use ocicrypt_kms_testing::messages::{annotation_of, unwrapping, wrapping};

use super::packets::header;
use super::program::Program;
use super::{AES, KEY, aes_uri, uri};

type Change = fn(&FakeAzure);

#[test]
fn each_refusal_is_one_line_with_key_and_remedy() {
    let role = "az role assignment create --assignee CALLER --role 'Key Vault Crypto Service Encryption User' \
                --scope $(az keyvault show --name team --query id -o tsv)/keys/k";
    let policy = "az keyvault set-policy --name team --object-id CALLER --key-permissions";
    // What is changed at the service; what the line says when wrapping and when unwrapping.
    let table: &[(Change, String, String)] = &[
        (|fake| fake.deny(KEY, Denial::Rbac), format!("403 Forbidden (ForbiddenByRbac)|{role}"), format!("403|{role}")),
        (|fake| fake.deny(KEY, Denial::Policy), format!("403 Forbidden|{policy} wrapKey"), format!("403 Forbidden|{policy} unwrapKey")),
        (
            |fake| fake.deny(KEY, Denial::Firewall),
            "az keyvault network-rule add --name team --ip-address ADDRESS".into(),
            "203.0.113.7|az keyvault network-rule add --name team".into(),
        ),
        (
            |fake| fake.disable(KEY),
            format!("403 Forbidden (KeyDisabled)|az keyvault key set-attributes --id {KEY} --enabled true"),
            format!("403 Forbidden (KeyDisabled)|az keyvault key set-attributes --id {KEY}/|--enabled true"),
        ),
        (
            |fake| fake.fault(Fault::Status(404)),
            "404 KeyNotFound|az keyvault key list-versions --vault-name team --name k".into(),
            "404 KeyNotFound|az keyvault key recover".into(),
        ),
        (|fake| fake.fault(Fault::Status(409)), "409 Conflict|wait until that has ended".into(), "409 Conflict".into()),
    ];
    for (change, wrapped, unwrapped) in table {
        let program = Program::with_credentials();
        let annotation = annotation_of(&program.exchange(&wrapping(&[&uri(KEY)])));
        for (message, says) in [(wrapping(&[&uri(KEY)]), wrapped), (unwrapping(&[&uri(KEY)], &annotation), unwrapped)] {
            change(&program.fake);
            let (code, line) = program.refused(&message);
            assert_eq!(code, 5, "{line}");
            assert!(line.starts_with(&format!("{}: the KMS answered ", uri(KEY))), "{line}");
            assert!(says.split('|').all(|part| line.contains(part)), "{says}: {line}");
        }
    }
}

#[test]
fn an_expired_key_wraps_no_more_and_still_unwraps() {
    let program = Program::with_credentials();
    let annotation = annotation_of(&program.exchange(&wrapping(&[&uri(KEY)])));
    program.fake.expire(KEY);
    let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
    assert!(code == 5 && line.contains("expired key") && line.contains("rotate the key"), "{code} {line}");
    program.exchange(&unwrapping(&[&uri(KEY)], &annotation));
}

#[test]
fn a_managed_hsm_has_remedies_of_its_own() {
    let program = Program::with_credentials();
    program.fake.deny(AES, Denial::Rbac);
    let (code, line) = program.refused(&wrapping(&[&aes_uri()]));
    let remedy = "az keyvault role assignment create --hsm-name pool --assignee CALLER \
                  --role 'Managed HSM Crypto Service Encryption User' --scope /keys/aes";
    assert!(code == 5 && line.contains(remedy), "{code} {line}");
}

#[test]
fn a_token_that_is_not_accepted_is_told_with_the_tenant_of_the_vault() {
    let program = Program::with_credentials();
    let challenge = format!("Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"https://vault.azure.net\"");
    program.fake.fault(Fault::Challenge(challenge));
    let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
    assert!(code == 5 && line.contains("401 Unauthorized") && line.contains(&format!("az login --tenant {TENANT}")), "{code} {line}");
}

#[test]
fn a_key_or_version_that_is_not_there_is_named() {
    let program = Program::with_credentials();
    let missing = uri(KEY) + "-missing";
    let version = format!("{}/{}", uri(KEY), "0".repeat(32));
    for uri in [missing, version] {
        let (code, line) = program.refused(&wrapping(&[&uri]));
        assert!(code == 5 && line.starts_with(&format!("{uri}: the KMS answered 404 KeyNotFound: ")), "{code} {line}");
    }
}

#[test]
fn an_unreachable_vault_is_told_within_the_deadline() {
    let program = Program::with_credentials();
    // Nothing listens there: a port of 1024 or above could be anybody's.
    program.write("config.toml", "deadline-seconds = 2\n[azure]\nendpoint = 'http://127.0.0.1:1'\n");
    let start = Instant::now();
    let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(code == 6 && line.starts_with(&format!("{}: 127.0.0.1:1 can't be reached: ", uri(KEY))), "{code} {line}");
}

#[test]
fn a_configuration_that_would_send_tokens_anywhere_is_an_error() {
    let program = Program::with_credentials();
    for (settings, says) in [
        ("endpoint = 'http://vaults.example'", "azure.endpoint: `http://vaults.example` is plain http"),
        ("suffixes = ['net']", "azure.suffixes: `net` is no domain"),
        ("sufixes = []", "unknown field `sufixes`"),
    ] {
        program.write("config.toml", format!("[azure]\n{settings}\n"));
        let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
        assert!(code == 2 && line.contains(says), "{code} {line}");
    }
    assert_eq!(program.fake.requests().len(), 0);
}

#[test]
fn the_packet_says_which_version_to_enable() {
    let program = Program::with_credentials();
    let annotation = annotation_of(&program.exchange(&wrapping(&[&uri(KEY)])));
    program.fake.disable(KEY);
    program.fake.rotate(KEY);
    let (_, line) = program.refused(&unwrapping(&[&uri(KEY)], &annotation));
    let kid = header(&annotation)["kid"].as_str().unwrap().to_owned();
    assert!(line.contains(&format!("az keyvault key set-attributes --id {kid} --enabled true")), "{line}");
}
