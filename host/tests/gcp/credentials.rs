//! Where credentials are found, that each kind works, and that nothing of them is ever shown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms_fakes::Planned as _;
use ocicrypt_kms_fakes::gcp::{FakeGcp, Fault};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use ocicrypt_kms_testing::secrets;
use serde_json::{Value, json};
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
    let files = program.fake.all_credential_files(program.home());
    for file in files.into_iter().chain([program.fake.workforce_user_file(program.home())]) {
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
        (
            "keyless",
            Some(changed(&account, |json| json["private_key"] = "SECRET".into())),
            "its `private_key` is not an RSA private key in PEM",
        ),
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

/// Has the stage's token refused, so that the next exchange asks for another one.
fn give_up_token(stage: &Stage) {
    stage.fake.revoke_tokens();
    // One that wasn't kept is asked for anew at once, and kept.
    if stage.exchange(&wrapping(&[&uri(KEY)])).is_ok() {
        stage.fake.revoke_tokens();
        stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err();
    }
}

#[test]
fn a_token_is_used_however_long_its_service_says_that_it_lasts() {
    let lifetimes = [
        ("expires_in", "18446744073709551615"),
        ("expires_in", "18446744073709551616"),
        ("expires_in", "4611686018427387903"),
        ("expires_in", "-1"),
        ("expires_in", "0.5"),
        ("expires_in", "1e400"),
        ("expires_in", "\"3600\""),
        ("expires_in", "[]"),
        ("expireTime", "\"0000-01-01T00:00:00Z\""),
        ("expireTime", "\"9999-12-31T23:59:59Z\""),
        ("expireTime", "\"10000-01-01T00:00:00Z\""),
        ("expireTime", "\"2026-02-30T00:00:00Z\""),
        ("expireTime", "3600"),
    ];
    let files = ["authorized-user.json", "external-account-file.json", "impersonated.json", "external-account-impersonated.json"];
    for file in files.map(Some).into_iter().chain([None]) {
        let (_folder, stage) = stage_with(file);
        for (member, lifetime) in lifetimes {
            stage.fake.fault(Fault::Member(member, lifetime).until_cleared().on_tokens());
            stage.wrap(&[&uri(KEY)]);
            stage.fake.clear_faults();
            give_up_token(&stage);
        }
    }
}

#[test]
fn an_answer_without_a_token_costs_one_exchange_and_is_told() {
    for file in ["authorized-user.json", "external-account-file.json", "external-account-url.json", "impersonated.json"]
        .map(Some)
        .into_iter()
        .chain([None])
    {
        let (_folder, stage) = stage_with(file);
        for (name, json) in [("access_token", "7"), ("access_token", "\"a\\nb\""), ("access_token", "\"\""), ("accessToken", "null")] {
            let impersonates = file == Some("impersonated.json");
            if impersonates != (name == "accessToken") {
                continue;
            }
            stage.fake.fault(Fault::Member(name, json).until_cleared().on_tokens());
            let error = stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err();
            let line = error.line();
            assert!(
                error.kind() != ErrorKind::Internal && line.starts_with(&uri(KEY)) && line.contains("holds none"),
                "{file:?} {json}: {line}"
            );
            stage.fake.clear_faults();
            stage.wrap(&[&uri(KEY)]);
            give_up_token(&stage);
        }
    }
}

#[test]
fn an_answer_of_a_token_service_is_read_up_to_its_limit() {
    for file in [Some("authorized-user.json"), Some("external-account-url.json"), Some("impersonated.json"), None] {
        let (_folder, stage) = stage_with(file);
        stage.fake.fault(Fault::Oversized(64).until_cleared().on_tokens());
        let line = stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err().line();
        assert!(line.starts_with(&uri(KEY)) && line.contains("answered more than 524288 bytes"), "{file:?}: {line}");
    }
}

#[test]
fn a_token_serves_all_exchanges_until_it_is_refused() {
    let (_folder, stage) = stage_with(Some("authorized-user.json"));
    let tokens = || stage.fake.requests().iter().filter(|request| !request.is_kms()).count();
    for _ in 0..3 {
        stage.wrap(&[&uri(KEY)]);
    }
    assert_eq!(tokens(), 1);
    stage.fake.revoke_tokens();
    assert!(stage.exchange(&wrapping(&[&uri(KEY)])).unwrap_err().line().contains("401"));
    stage.wrap(&[&uri(KEY)]);
    assert_eq!(tokens(), 2);
}

#[test]
fn no_token_goes_in_plain_http_through_a_proxy() {
    let proxy = FakeGcp::start();
    let mut program = Program::new();
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        program = program.set(name, proxy.endpoint());
    }
    let address = program.fake.address().to_string();
    let program = program.set("GCE_METADATA_HOST", address);
    let files = program.fake.all_credential_files(program.home());
    let files = files.into_iter().chain([program.fake.workforce_user_file(program.home())]);
    for file in files {
        program.exchange(&["--adc", file.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
    }
    program.exchange(&[], &wrapping(&[&uri(KEY)]));
    assert_eq!(proxy.requests().len(), 0);
}

#[test]
fn the_quota_project_is_sent_with_each_call() {
    let program = Program::new();
    let user = program.fake.authorized_user_file(program.home());
    let account = program.fake.service_account_file(program.home());
    let sent = |program: &Program, file: &Path| {
        program.fake.clear_requests();
        program.exchange(&["--adc", file.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
        program.fake.kms_requests()[0].header("x-goog-user-project").map(str::to_owned)
    };
    assert_eq!(sent(&program, &user).as_deref(), Some("fake-project"));
    assert_eq!(sent(&program, &account), None);
    let program = program.set("GOOGLE_CLOUD_QUOTA_PROJECT", "another-project");
    assert_eq!(sent(&program, &user).as_deref(), Some("another-project"));
    assert_eq!(sent(&program, &account).as_deref(), Some("another-project"));
}

#[test]
fn gcloud_may_keep_its_files_elsewhere() {
    let program = Program::new();
    let file = program.fake.authorized_user_file(program.home());
    program.write("elsewhere/application_default_credentials.json", std::fs::read(file).unwrap());
    program.write(WELL_KNOWN, "{}");
    let folder = program.home().join("elsewhere");
    tokens_asked(&program.set("CLOUDSDK_CONFIG", folder), &[]);
}

#[test]
fn a_key_of_another_universe_is_asked_for_there_and_nowhere_else() {
    let proxy = Scripted::always(Reply::new(502, ""));
    let program = Program::new().set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "").set("HTTPS_PROXY", proxy.address());
    let account = program.fake.service_account_file(program.home());
    let file = program.write("other.json", changed(&account, |json| json["universe_domain"] = "apis.example".into()));
    program.configure("deadline-seconds = 2");
    let arguments = ["--adc", file.to_str().unwrap()];
    let (code, line) = program.refused(&arguments, &wrapping(&[&uri(KEY)]));
    assert!(code == 2 && line.contains("they are of the universe `apis.example`"), "{code} {line}");
    assert!(line.contains("set GOOGLE_CLOUD_UNIVERSE_DOMAIN=apis.example") && proxy.requests().is_empty(), "{line}");
    let program = program.set("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "apis.example");
    program.refused(&arguments, &wrapping(&[&uri(KEY)]));
    assert!(proxy.requests().iter().all(|request| request.line() == "CONNECT cloudkms.apis.example:443"), "{:?}", proxy.requests());
    assert!(!proxy.requests().is_empty());
    let (code, line) = program.refused(&["--adc", account.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
    assert!(code == 2 && line.contains("unset GOOGLE_CLOUD_UNIVERSE_DOMAIN"), "{code} {line}");
}

#[test]
fn the_metadata_server_says_which_universe_it_is_of() {
    let server = Scripted::start(|request, _| match request.path.as_str() {
        "/computeMetadata/v1/universe/universe-domain" => Reply::new(200, "apis.example\n"),
        _ => Reply::new(404, ""),
    });
    let host = server.address().strip_prefix("http://").unwrap().to_owned();
    let program = Program::new().set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "").set("GCE_METADATA_HOST", host);
    let (code, line) = program.refused(&[], &wrapping(&[&uri(KEY)]));
    assert!(code == 2 && line.contains("the metadata server: they are of the universe `apis.example`"), "{code} {line}");
}

#[test]
fn a_program_that_prints_tokens_is_told_what_for() {
    let program = Program::new().set("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1");
    let answer = format!(
        r#"{{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:jwt","id_token":"{}"}}"#,
        program.fake.subject_token()
    );
    program.write("answer.json", answer);
    let script = program.write("my tools/get", "#!/bin/sh\nenv | grep ^GOOGLE_EXTERNAL > env.txt\n[ \"$1\" = 'a b' ] && cat answer.json\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = format!("\"{}\" 'a b'", script.display());
    let file = program.fake.external_account_executable_sourced(program.home(), &json!({"command": command, "timeout_millis": 30_000}));
    let file = changed(&file, |json| {
        json["service_account_impersonation_url"] = format!(
            "{}/v1/projects/-/serviceAccounts/target@fake-project.iam.gserviceaccount.com:generateAccessToken",
            program.fake.endpoint()
        )
        .into();
    });
    let file = program.write("executable.json", file);
    program.exchange(&["--adc", file.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
    let told = std::fs::read_to_string(program.home().join("env.txt")).unwrap();
    for variable in [
        "AUDIENCE=//iam.googleapis.com/projects/",
        "TOKEN_TYPE=urn:ietf:params:oauth:token-type:jwt\n",
        "INTERACTIVE=0\n",
        "IMPERSONATED_EMAIL=target@fake-project.iam.gserviceaccount.com\n",
    ] {
        assert!(told.contains(&format!("GOOGLE_EXTERNAL_ACCOUNT_{variable}")), "{variable}: {told}");
    }
}

#[test]
fn what_a_program_kept_is_used_as_long_as_it_is_good() {
    let program = Program::new().set("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1");
    let kept = |expires: i64| {
        format!(r#"{{"version":1,"success":true,"id_token":"{}","expiration_time":{expires}}}"#, program.fake.subject_token())
    };
    let output = program.write("kept.json", kept(99_999_999_999));
    let executable = json!({"command": "/bin/false", "output_file": output});
    let file = program.fake.external_account_executable_sourced(program.home(), &executable);
    let arguments = ["--adc", file.to_str().unwrap()];
    program.exchange(&arguments, &wrapping(&[&uri(KEY)]));
    program.write("kept.json", kept(1));
    let (code, line) = program.refused(&arguments, &wrapping(&[&uri(KEY)]));
    assert!(code == 5 && line.contains("the program /bin/false of the credential file ended with an error"), "{code} {line}");
}

#[test]
fn a_workload_on_aws_shows_who_it_is_by_a_signed_request() {
    let program = Program::new();
    let token = program.fake.issue_token();
    let cloud = Scripted::start(move |request, _| {
        let has_session = request.header("x-aws-ec2-metadata-token") == Some("session");
        match request.line().as_str() {
            "PUT /latest/api/token" => Reply::new(200, "session"),
            "GET /zone" if has_session => Reply::new(200, "eu-central-1b"),
            "GET /role" if has_session => Reply::new(200, "images"),
            "GET /role/images" if has_session => {
                Reply::new(200, r#"{"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"not-this-one","Token":"session-token"}"#)
            }
            "POST /v1/token" => Reply::new(200, format!(r#"{{"access_token":"{token}","expires_in":3599,"token_type":"Bearer"}}"#)),
            _ => Reply::new(404, ""),
        }
    });
    let address = cloud.address();
    let file = json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/aws",
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
        "token_url": format!("{address}/v1/token"),
        "credential_source": {
            "environment_id": "aws1",
            "region_url": format!("{address}/zone"),
            "url": format!("{address}/role"),
            "imdsv2_session_token_url": format!("{address}/latest/api/token"),
            "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
        },
    });
    let file = program.write("aws.json", file.to_string());
    program.exchange(&["--adc", file.to_str().unwrap()], &wrapping(&[&uri(KEY)]));
    let exchange = cloud.requests().into_iter().find(|request| request.path == "/v1/token").unwrap();
    let form: Vec<_> = url::form_urlencoded::parse(&exchange.body).into_owned().collect();
    let subject = &form.iter().find(|(name, _)| name == "subject_token").unwrap().1;
    let request: Value = serde_json::from_slice(&percent_encoding::percent_decode_str(subject).collect::<Vec<_>>()).unwrap();
    assert_eq!(request["url"], "https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15");
    let headers = request["headers"].as_array().unwrap();
    let header = |name: &str| headers.iter().find(|header| header["key"] == name).unwrap()["value"].as_str().unwrap().to_owned();
    assert!(header("x-goog-cloud-target-resource").ends_with("/providers/aws") && header("x-amz-security-token") == "session-token");
    assert!(header("Authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert!(!subject.contains("not-this-one") && !program.log().contains("not-this-one"));
}
