//! Where credentials are found, that each kind works, and that nothing of them is ever shown.

use std::path::Path;

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::Fault;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use ocicrypt_kms_testing::secrets;
use serde_json::Value;
use tempfile::TempDir;

use super::program::Program;
use super::stage::Stage;
use super::{KEY, uri};

const WELL_KNOWN: &str = ".config/gcloud/application_default_credentials.json";

/// Wraps and unwraps, and says how many requests there were besides those to the KMS, both times together.
fn tokens_asked(program: &Program, arguments: &[&str]) -> usize {
    program.fake.clear_requests();
    let annotation = annotation_of(&program.exchange(arguments, &wrapping(&[&uri(KEY)])));
    let answer = program.exchange(arguments, &unwrapping(&[&uri(KEY)], &annotation));
    assert_eq!(opts_data_of(&answer), OPTS_DATA);
    assert_eq!(program.fake.kms_requests().len(), 2);
    program.fake.requests().len() - 2
}

fn changed(file: &Path, change: impl FnOnce(&mut Value)) -> String {
    let mut json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut json);
    json.to_string()
}

#[test]
fn every_kind_of_credential_file_works() {
    let program = Program::new();
    for file in program.fake.all_credential_files(program.home()) {
        let tokens = tokens_asked(&program, &["--adc", file.to_str().unwrap()]);
        let signs_itself = file.ends_with("service-account.json");
        assert_eq!(tokens == 0, signs_itself, "{}: {tokens}", file.display());
    }
}

#[test]
fn credentials_are_found_in_each_place() {
    let program = Program::with_credentials();
    tokens_asked(&program, &[]);

    let program = Program::new();
    let file = program.fake.authorized_user_file(program.home());
    program.configure(&format!("[gcp]\ncredentials = '{}'\n", file.display()));
    tokens_asked(&program, &[]);

    let program = Program::new();
    let file = program.fake.authorized_user_file(program.home());
    program.write(WELL_KNOWN, std::fs::read(file).unwrap());
    tokens_asked(&program, &[]);

    let program = Program::new();
    let program = {
        let address = program.fake.address().to_string();
        program.set("GCE_METADATA_HOST", address)
    };
    tokens_asked(&program, &[]);
    let asked = program.fake.requests().into_iter().filter(|request| request.path.starts_with("/computeMetadata/v1/")).count();
    assert!(asked > 0);
}

#[test]
fn the_nearest_place_wins() {
    let program = Program::new();
    let good = std::fs::read(program.fake.authorized_user_file(program.home())).unwrap();
    // Each place in its turn holds the good file, and those after it a broken one.
    let broken = program.write("broken.json", "{}");
    let (adc, configured) = (program.write("adc.json", &good), program.write("configured.json", &good));
    let named = program.write("named.json", &good);
    program.write(WELL_KNOWN, "{}");
    let program = program.set("GOOGLE_APPLICATION_CREDENTIALS", &broken);
    program.configure(&format!("[gcp]\ncredentials = '{}'\n", broken.display()));
    tokens_asked(&program, &["--adc", adc.to_str().unwrap()]);
    program.configure(&format!("[gcp]\ncredentials = '{}'\n", configured.display()));
    tokens_asked(&program, &[]);
    program.configure("");
    let program = program.set("GOOGLE_APPLICATION_CREDENTIALS", &named);
    tokens_asked(&program, &[]);
}

#[test]
fn a_provider_in_a_program_reads_the_environment_that_it_was_given() {
    use ocicrypt_kms::{Config, Environment, KeyProvider};
    let stage = Program::new();
    let file = stage.fake.authorized_user_file(stage.home());
    let good = std::fs::read(&file).unwrap();
    stage.write(WELL_KNOWN, good);
    let endpoint = stage.fake.endpoint();
    let name = ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", endpoint.as_str());
    let environments = [
        Environment::of([name, ("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())]),
        Environment::of([name, ("HOME", stage.home().to_str().unwrap())]),
    ];
    for environment in environments {
        let provider = KeyProvider::builder(Config::default()).environment(environment).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(provider.exchange(&wrapping(&[&uri(KEY)]))).unwrap();
    }
}

#[test]
fn refused_credentials_are_told_in_one_line_without_them() {
    let program = Program::new();
    let file = program.fake.authorized_user_file(program.home());
    for (member, secret) in [("refresh_token", "1//not-this-one"), ("client_secret", "GOCSPX-not-this-one")] {
        let wrong = program.write("wrong.json", changed(&file, |json| json[member] = secret.into()));
        let (code, line) = program.refused(&["--adc", wrong.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
        assert!(code == 5 && line.starts_with(&uri(KEY)) && line.contains("no Google access token was given: "), "{code} {line}");
        assert!(line.contains("invalid_") && line.matches("future").count() == 0, "the service's reason, once: {line}");
        assert!(line.contains("--adc") && line.contains("gcloud auth application-default login"), "{line}");
        assert!(!line.contains("not-this-one") && !program.log().contains("not-this-one"), "{line}");
    }
    assert_eq!(program.fake.kms_requests().len(), 0);
}

#[test]
fn a_service_account_that_the_service_does_not_know_is_refused() {
    let (program, stranger) = (Program::new(), Program::new());
    program.fake.service_account_file(program.home());
    let file = stranger.fake.service_account_file(stranger.home());
    let (code, line) = program.refused(&["--adc", file.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
    assert!(code == 5 && line.starts_with(&format!("{}: the KMS answered 401 UNAUTHENTICATED", uri(KEY))), "{code} {line}");
    secrets::assert_none_in(&(line + &program.log()), &stranger.fake, "the line or the log");
}

#[test]
fn an_unusable_credential_file_is_named_with_the_reason_and_not_quoted() {
    let program = Program::new();
    let user = program.fake.authorized_user_file(program.home());
    let account = program.fake.service_account_file(program.home());
    let table = [
        ("absent", None, "No such file"),
        ("text", Some("SECRET".to_owned()), "it is not JSON"),
        ("list", Some("[\"SECRET\"]".to_owned()), "its `type` is not that of a credential"),
        ("untyped", Some("{\"refresh_token\":\"SECRET\"}".to_owned()), "its `type` is not that of a credential"),
        ("long", Some(format!("{{\"SECRET\":\"{}\"}}", "x".repeat(70_000))), "longer than 65536 bytes"),
        ("lacking", Some(changed(&user, |json| drop(json.as_object_mut().unwrap().remove("client_id")))), "client_id"),
        ("mistyped", Some(changed(&user, |json| json["quota_project_id"] = vec!["SECRET"].into())), ""),
        ("mistyped-too", Some(changed(&account, |json| json["private_key"] = vec!["SECRET"].into())), ""),
        ("misplaced", Some(r#"{"type":"impersonated_service_account","source_credentials":"SECRET"}"#.to_owned()), ""),
        ("misspelled", Some("{\"type\":\"service_acount\",\"private_key\":\"SECRET\"}".to_owned()), "`service_acount`"),
    ];
    for (name, content, reason) in table {
        let path = program.home().join(name);
        if let Some(content) = content {
            program.write(name, content);
        }
        let (code, line) = program.refused(&["--adc", path.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
        assert!(code == 2 && line.starts_with(&format!("the credentials in {}: ", path.display())), "{name}: {code} {line}");
        assert!(line.contains(reason), "{name}: {line}");
        assert!(!line.contains("SECRET") && !program.log().contains("SECRET"), "{name}: {line}");
    }
    // A key that is no key is found only when it is used.
    let path = program.write("keyless", changed(&account, |json| json["private_key"] = "SECRET".into()));
    let (code, line) = program.refused(&["--adc", path.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
    assert!(code == 5 && line.starts_with(&uri(KEY)) && line.contains("private key"), "{code} {line}");
    assert!(!line.contains("SECRET") && !program.log().contains("SECRET"), "{line}");
    assert_eq!(program.fake.requests().len(), 0);
}

#[test]
fn without_any_credentials_the_line_says_how_to_get_some() {
    // Nothing listens there, as nothing does where there is no metadata server.
    let program = Program::new().set("GCE_METADATA_HOST", "127.0.0.1:1");
    program.configure("deadline-seconds = 5");
    let (code, line) = program.refused(&[], &wrapping(&[&uri(KEY)]));
    assert!(line.starts_with(&uri(KEY)) && line.contains("gcloud auth application-default login"), "{code} {line}");
    assert!(line.contains("--adc") && line.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{line}");
}

#[test]
fn credentials_are_not_looked_at_for_keys_of_other_services() {
    let program = Program::new().set("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/credentials.json");
    let broken = program.write("broken.json", "{}");
    program.exchange(&["keygen", "team"], b"");
    let arguments = ["--adc", broken.to_str().unwrap()];
    let annotation = annotation_of(&program.exchange(&arguments, &wrapping(&["local://team"])));
    assert_eq!(opts_data_of(&program.exchange(&arguments, &unwrapping(&[], &annotation))), OPTS_DATA);
    assert_eq!(program.fake.requests().len(), 0);
}

#[test]
fn a_provider_that_runs_on_finds_credentials_that_were_mended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials.json");
    let stage = Stage::with(|config| config.gcp.credentials = Some(file.clone()));
    let good = stage.fake.authorized_user_file(folder.path());
    for wrong in ["{}".to_owned(), changed(&good, |json| json["refresh_token"] = "1//expired".into())] {
        std::fs::write(&file, wrong).unwrap();
        stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err();
    }
    std::fs::copy(&good, &file).unwrap();
    stage.wrap(&[&uri(KEY)]);
}

/// A provider with this credential file of the fake, or, without, with the metadata server.
fn stage_with(file: Option<&str>) -> (TempDir, Stage) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::with(|config| config.gcp.credentials = file.map(|file| folder.path().join(file)));
    stage.fake.all_credential_files(folder.path());
    (folder, stage)
}

/// A token that could not be got is told, and the next exchange gets one.
fn costs_one_exchange(file: Option<&str>, member: &'static str, json: &'static str) -> String {
    let (_folder, stage) = stage_with(file);
    stage.fake.fault(Fault::Member(member, json).until_cleared().on_tokens());
    let error = stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err();
    let line = error.line();
    assert!(error.kind() != ErrorKind::Internal && line.starts_with(&uri(KEY)), "{file:?} {json}: {line}");
    assert_eq!(stage.fake.kms_requests().len(), 0);
    stage.fake.clear_faults();
    stage.wrap(&[&uri(KEY)]);
    line
}

#[test]
fn an_absurd_lifetime_of_a_token_costs_one_exchange_and_is_told() {
    let by_expiry = ["authorized-user.json", "external-account-file.json", "external-account-url.json", "impersonated.json"];
    for file in by_expiry.map(Some).into_iter().chain([None]) {
        for lifetime in ["18446744073709551615", "9223372036854775807"] {
            let line = costs_one_exchange(file, "expires_in", lifetime);
            assert!(line.contains("the token service's answer is absurd"), "{file:?} {lifetime}: {line}");
        }
    }
    for file in ["impersonated.json", "impersonated-by-service-account.json", "external-account-impersonated.json"] {
        let line = costs_one_exchange(Some(file), "expireTime", "\"0000-01-01T00:00:00Z\"");
        assert!(line.contains("the token service's answer is absurd"), "{file}: {line}");
    }
}

#[test]
fn a_lifetime_that_is_no_number_costs_one_exchange() {
    for file in [Some("authorized-user.json"), Some("external-account-file.json"), None] {
        for lifetime in ["18446744073709551616", "-1", "0.5", "1e400", "\"3600\"", "[]"] {
            costs_one_exchange(file, "expires_in", lifetime);
        }
    }
    for time in ["\"10000-01-01T00:00:00Z\"", "\"2026-02-30T00:00:00Z\"", "\"\"", "3600"] {
        costs_one_exchange(Some("impersonated.json"), "expireTime", time);
    }
}

#[test]
fn a_token_that_lasts_longer_than_anybody_is_used() {
    for (member, lifetime) in [("expires_in", "4611686018427387903"), ("expireTime", "\"9999-12-31T23:59:59Z\"")] {
        let (_folder, stage) = stage_with(Some("impersonated-by-service-account.json"));
        stage.fake.fault(Fault::Member(member, lifetime).until_cleared().on_tokens());
        stage.wrap(&[&uri(KEY)]);
    }
}

#[test]
fn exec_mode_tells_an_absurd_lifetime_in_its_one_line() {
    let program = Program::with_credentials();
    program.fake.fault(Fault::Member("expires_in", "18446744073709551615").until_cleared().on_tokens());
    let (code, line) = program.refused(&[], &wrapping(&[&uri(KEY)]));
    assert!(code == 6 && line.contains("the token service's answer is absurd"), "{code} {line}");
}

#[test]
fn credentials_that_were_given_up_leave_no_task_behind() {
    // The source's token is good for an hour: the task that would renew it sleeps for as long.
    for file in ["impersonated.json", "impersonated-by-service-account.json"] {
        let (_folder, stage) = stage_with(Some(file));
        stage.fake.fault(Fault::Member("expireTime", "\"never\"").until_cleared().on_tokens());
        let tasks = || {
            stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err();
            stage.runtime.metrics().num_alive_tasks()
        };
        let first = tasks();
        for _ in 0..8 {
            tasks();
        }
        let last = tasks();
        assert!(last <= first + 2, "{file}: {first} tasks, then {last}");
    }
}
