//! Where credentials are found, that each kind works, and that nothing of them is ever shown.

use std::time::Duration;

use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::azure::{Fault, TENANT};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};

use super::program::Program;
use super::stage::Stage;
use super::{KEY, aes_uri, uri};

/// Wraps and unwraps, and gives the paths of the requests besides those to a vault, both times together.
fn tokens_asked(program: &Program, uri: &str) -> Vec<String> {
    program.fake.clear_requests();
    let annotation = annotation_of(&program.exchange(&wrapping(&[uri])));
    assert_eq!(opts_data_of(&program.exchange(&unwrapping(&[uri], &annotation))), OPTS_DATA);
    assert_eq!(program.fake.kms_requests().len(), 2);
    program.fake.requests().into_iter().filter(|request| !request.is_kms()).map(|request| request.path).collect()
}

/// A program with a workload identity.
fn workload() -> Program {
    let program = Program::with_credentials();
    let file = program.write("federated", program.fake.federated_token());
    program.set("AZURE_CLIENT_SECRET", "").set("AZURE_FEDERATED_TOKEN_FILE", file)
}

#[test]
fn a_client_secret_works_for_each_audience() {
    let program = Program::with_credentials();
    for (uri, scope) in [(uri(KEY), "https://vault.azure.net/.default"), (aes_uri(), "https://managedhsm.azure.net/.default")] {
        let paths = tokens_asked(&program, &uri);
        assert!(paths.len() == 2 && paths.iter().all(|path| *path == format!("/{TENANT}/oauth2/v2.0/token")), "{paths:?}");
        assert_eq!(program.fake.requests()[0].body["scope"], scope);
    }
}

#[test]
fn a_workload_identity_works() {
    let program = workload();
    assert_eq!(tokens_asked(&program, &uri(KEY)).len(), 2);
    assert!(program.fake.requests()[0].body["client_assertion"].is_string());
}

#[test]
fn a_managed_identity_works() {
    let program = Program::new();
    let variables = program.fake.managed_identity();
    let program = program.set_all(variables);
    assert_eq!(tokens_asked(&program, &uri(KEY)), ["/msi/token"; 2]);
    assert!(program.fake.requests()[0].query.contains("resource=https%3A%2F%2Fvault.azure.net"));
    let unknown = program.set("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000000");
    let (code, line) = unknown.refused(&wrapping(&[&uri(KEY)]));
    assert!(code == 5 && line.contains("a managed identity was asked: it answered 400: "), "{code} {line}");
    assert!(line.contains("AZURE_CLIENT_ID"), "{line}");
}

#[test]
fn the_first_of_the_chain_wins_unless_another_is_named() {
    let program = Program::with_credentials();
    let variables = program.fake.managed_identity();
    let program = program.set_all(variables);
    assert!(tokens_asked(&program, &uri(KEY))[0].ends_with("/oauth2/v2.0/token"));
    // The client id is then that of a user-assigned identity.
    let program = program.set("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential");
    assert_eq!(tokens_asked(&program, &uri(KEY)), ["/msi/token"; 2]);
}

#[test]
fn refused_credentials_are_told_in_one_line_without_them() {
    let secret = Program::with_credentials().set("AZURE_CLIENT_SECRET", "not-this-one");
    let tenant = Program::with_credentials().set("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000000");
    let assertion = workload();
    assertion.write("federated", "not-this-one");
    for (program, says) in [
        (secret, "a client secret (AZURE_CLIENT_SECRET) was asked: it answered 401: AADSTS7000215: |az ad app credential reset"),
        (tenant, "AADSTS90002: |check AZURE_TENANT_ID"),
        (
            assertion,
            "a workload identity (AZURE_FEDERATED_TOKEN_FILE) was asked: it answered 401: AADSTS700213: |federated-credential list",
        ),
    ] {
        let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
        assert!(code == 5 && line.starts_with(&format!("{}: no Azure access token was given: ", uri(KEY))), "{code} {line}");
        assert!(says.split('|').all(|part| line.contains(part)), "{says}: {line}");
        assert!(!line.contains("not-this-one") && !program.log().contains("not-this-one"), "{line}");
        assert_eq!(program.fake.kms_requests().len(), 0);
    }
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("AZURE_TENANT_ID", "")], "AZURE_TENANT_ID: it is not set"),
        (&[("AZURE_CLIENT_ID", "")], "AZURE_CLIENT_ID: it is not set"),
        (&[("AZURE_AUTHORITY_HOST", "http://127.0.0.1:1")], "AZURE_AUTHORITY_HOST: it is not an https address"),
        (&[("AZURE_CLIENT_SECRET", ""), ("AZURE_CLIENT_CERTIFICATE_PATH", "/c")], "the client certificate in /c: No such file"),
        (
            &[("AZURE_CLIENT_SECRET", ""), ("AZURE_FEDERATED_TOKEN_FILE", "/nonexistent")],
            "AZURE_FEDERATED_TOKEN_FILE: the token in /nonexistent",
        ),
        (&[("AZURE_TOKEN_CREDENTIALS", "none")], "AZURE_TOKEN_CREDENTIALS: it is none of prod, dev, "),
    ];
    for (variables, says) in table {
        let program = variables.iter().fold(Program::with_credentials(), |program, (name, value)| program.set(name, value));
        let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
        assert!(code == 2 && line.starts_with(says), "{code} {line}");
        assert_eq!(program.fake.requests().len(), 0);
    }
}

#[test]
fn an_authority_whose_certificate_is_not_trusted_gets_no_secret() {
    let program = Program::with_credentials().set("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
    program.configure("deadline-seconds = 3");
    let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
    assert!(code == 6 && line.contains("no Azure access token was given"), "{code} {line}");
    assert_eq!(program.fake.requests().len(), 0);
}

#[test]
fn an_azure_cli_that_is_not_there_or_not_logged_in_is_told_with_the_remedy() {
    let program = Program::new().set("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential").set("PATH", "/nonexistent");
    let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
    assert!(code == 5 && line.contains("az not found on PATH") && line.contains("log in (az login)"), "{code} {line}");
    let stage = Stage::with(|config| config.azure.suffixes = vec!["unknown.example.cloud".to_owned()]);
    let line = stage.exchange(&wrapping(&["azurekms://team.unknown.example.cloud/k"])).unwrap_err().line();
    assert!(line.contains("Please run 'az login' to setup account"), "{line}");
}

#[test]
fn a_token_service_that_is_slow_or_gone_is_told_within_the_deadline() {
    for fault in [Fault::Slow(Duration::from_secs(60)), Fault::HangUp, Fault::Status(503)] {
        let program = Program::with_credentials();
        program.configure("deadline-seconds = 1");
        program.fake.fault(fault.clone().until_cleared().on_tokens());
        let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
        assert!(code == 6 && line.contains("no Azure access token was given"), "{fault:?}: {code} {line}");
        assert_eq!(program.fake.kms_requests().len(), 0, "{fault:?}");
    }
}

#[test]
fn a_token_service_that_fails_once_is_asked_again_and_one_that_answers_oddly_is_not_quoted() {
    for fault in [Fault::Status(503), Fault::HangUp] {
        let program = Program::with_credentials();
        program.fake.fault(fault.on_tokens());
        program.exchange(&wrapping(&[&uri(KEY)]));
    }
    for (fault, says) in [
        (Fault::TruncatedJson, "its answer can't be read"),
        (Fault::Oversized(8), "answered more than 524288 bytes"),
        (Fault::Redirect("https://127.0.0.1:1/token".to_owned()), "which is never followed"),
    ] {
        let program = Program::with_credentials();
        program.fake.fault(fault.on_tokens());
        let (_, line) = program.refused(&wrapping(&[&uri(KEY)]));
        assert!(line.contains(says), "{says}: {line}");
    }
}

#[test]
fn a_token_is_renewed_before_it_ends_and_asked_for_once_at_a_time() {
    let stage = Stage::new();
    let both = || {
        let message = wrapping(&[&uri(KEY)]);
        stage.runtime.block_on(async { tokio::join!(stage.provider.exchange(&message), stage.provider.exchange(&message)) })
    };
    let (one, other) = both();
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(stage.asked().len(), 1, "two exchanges at once share one token");
    // One that ends in less than five minutes is not kept.
    let stage = Stage::new();
    stage.log_in(Duration::from_secs(290));
    stage.wrap(&[&uri(KEY)]);
    stage.log_in(Duration::from_secs(3600));
    stage.wrap(&[&uri(KEY)]);
    stage.wrap(&[&uri(KEY)]);
    assert_eq!(stage.asked().len(), 2);
}

#[test]
fn a_token_that_was_revoked_is_not_used_a_second_time() {
    let stage = Stage::new();
    stage.wrap(&[&uri(KEY)]);
    stage.fake.revoke_tokens();
    stage.log_in(Duration::from_secs(3600));
    let line = stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err().line();
    assert!(line.contains("401 Unauthorized"), "{line}");
    stage.wrap(&[&uri(KEY)]);
}

#[test]
fn credentials_are_not_looked_at_for_keys_of_other_services() {
    let program = Program::new().set("AZURE_TOKEN_CREDENTIALS", "nonsense");
    let (_, line) = program.refused(&wrapping(&["local://absent"]));
    assert!(line.starts_with("local://absent: ") && !line.contains("AZURE"), "{line}");
}

#[test]
fn an_absurd_lifetime_of_a_token_is_told_in_one_line() {
    for (lifetime, says) in [
        ("9223372036854775807", "the token service's answer is absurd"),
        ("-9223372036854775808", "the token service's answer is absurd"),
        ("9223372036854775808", "its answer can't be read"),
        ("1e400", "its answer can't be read"),
        ("\"3600\"", "its answer can't be read"),
    ] {
        let program = Program::with_credentials();
        program.fake.fault(Fault::Member("expires_in", lifetime).until_cleared().on_tokens());
        let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
        assert!(code == 6 && line.contains(says), "{lifetime}: {code} {line}");
        assert_eq!(program.fake.kms_requests().len(), 0);
    }
    for time in ["\"9223372036854775807\"", "\"-9223372036854775808\"", "\"\"", "3600"] {
        let program = Program::new();
        let variables = program.fake.managed_identity();
        program.fake.fault(Fault::Member("expires_on", time).until_cleared().on_tokens());
        let (code, line) = program.set_all(variables).refused(&wrapping(&[&uri(KEY)]));
        assert!(code == 6 && line.contains("no Azure access token was given"), "{time}: {code} {line}");
    }
}

#[test]
fn a_token_service_whose_wait_has_no_end_is_told_within_the_deadline() {
    for wait in ["9223372036854775807", "18446744073709551615"] {
        let program = Program::with_credentials();
        program.configure("deadline-seconds = 2");
        program.fake.fault(Fault::RetryAfter(wait).until_cleared().on_tokens());
        let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
        assert!(code == 6 && line.contains("no Azure access token was given"), "{wait}: {code} {line}");
    }
}
