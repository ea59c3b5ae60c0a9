//! Each place where credentials can be, over loopback: that they are found, used, and never shown.

use ocicrypt_kms_testing::moto::REGION;
use ocicrypt_kms_testing::scripted::{Reply, Request, Scripted};
use serde_json::json;

use super::stage::{Program, SECRET};
use super::{ARN, uri};

const ROLE: &str = "arn:aws:iam::111122223333:role/images";

/// AWS KMS, which looks at no signature.
fn kms() -> Scripted {
    Scripted::always(Reply::new(200, json!({"KeyId": ARN, "CiphertextBlob": "YWJj"}).to_string()))
}

/// Which access key the call was signed with, and its session token.
fn caller(kms: &Scripted) -> (String, Option<String>) {
    let request = kms.requests().pop().unwrap();
    let authorization = request.header("authorization").unwrap();
    let id = authorization.split("Credential=").nth(1).unwrap().split('/').next().unwrap();
    (id.to_owned(), request.header("x-amz-security-token").map(str::to_owned))
}

fn keys(name: &str, id: &str) -> String {
    format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {SECRET}\n")
}

/// Credentials as metadata servers answer them.
fn metadata(id: &str) -> Reply {
    let body = json!({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2020-01-01T00:00:00Z", "AccessKeyId": id,
        "SecretAccessKey": SECRET, "Token": "token", "Expiration": "2099-01-01T00:00:00Z"});
    Reply::new(200, body.to_string())
}

/// STS, which answers both ways to take on a role.
fn sts(action: &str, id: &str) -> Reply {
    Reply::new(
        200,
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>token</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>{ROLE}</Arn>\
             <AssumedRoleId>x:y</AssumedRoleId></AssumedRoleUser></{action}Result></{action}Response>"
        ),
    )
    .header("content-type", "text/xml")
}

fn with_token(id: &str) -> (String, Option<String>) {
    (id.to_owned(), Some("token".to_owned()))
}

#[test]
fn the_environment_has_the_access_key() {
    let kms = kms();
    let program = Program::new(&kms.address()).set("AWS_ACCESS_KEY_ID", "env").set("AWS_SECRET_ACCESS_KEY", SECRET);
    program.write(".aws/credentials", &keys("default", "profile"));
    program.wrap(&uri(ARN)).unwrap();
    assert_eq!(caller(&kms), ("env".to_owned(), None));
    program.set("AWS_SESSION_TOKEN", "token").wrap(&uri(ARN)).unwrap();
    assert_eq!(caller(&kms), with_token("env"));
}

#[test]
fn a_profile_has_the_access_key_and_the_region() {
    let kms = kms();
    let program = Program::new(&kms.address()).set("AWS_PROFILE", "images");
    program.write(".aws/credentials", &(keys("default", "default") + &keys("images", "images")));
    program.write(".aws/config", &format!("[profile images]\nregion = {REGION}\n"));
    program.wrap(&uri("alias/team")).unwrap();
    assert_eq!(caller(&kms).0, "images");
    assert!(kms.requests()[0].header("authorization").unwrap().contains(&format!("/{REGION}/kms/")));
}

#[test]
fn a_profile_names_a_program_that_gives_credentials() {
    let kms = kms();
    let program = Program::new(&kms.address());
    let answer = json!({"Version": 1, "AccessKeyId": "process", "SecretAccessKey": SECRET, "SessionToken": "token"}).to_string();
    let file = program.write("answer.json", &answer);
    program.write(".aws/config", &format!("[default]\ncredential_process = cat {}\n", file.display()));
    program.wrap(&uri(ARN)).unwrap();
    assert_eq!(caller(&kms), with_token("process"));
    // What it says when it fails may hold a secret.
    program.write(".aws/config", &format!("[default]\ncredential_process = sh -c 'echo {SECRET} >&2; exit 3'\n"));
    let (code, line) = program.wrap(&uri(ARN)).unwrap_err();
    assert!(
        code == 5 && line.contains("no AWS credentials were given: the program sh, ") && line.contains("run it by hand"),
        "{code} {line}"
    );
    for broken in [answer.replace("\"Version\":1", "\"Version\":9"), answer.replace(':', "="), SECRET.to_owned()] {
        program.write("answer.json", &broken);
        program.write(".aws/config", &format!("[default]\ncredential_process = cat {}\n", file.display()));
        assert_eq!(program.wrap(&uri(ARN)).unwrap_err().0, 5);
    }
}

#[test]
fn a_profile_takes_on_a_role() {
    let kms = kms();
    let sts = Scripted::start(|request, _| {
        let signed = request.header("authorization").is_some_and(|header| header.contains("Credential=base/"));
        if signed && request.text().contains("Action=AssumeRole&") { sts("AssumeRole", "role") } else { Reply::new(403, "") }
    });
    let program = Program::new(&kms.address()).set("AWS_ENDPOINT_URL_STS", sts.address());
    program.write(".aws/credentials", &keys("base", "base"));
    program.write(".aws/config", &format!("[default]\nrole_arn = {ROLE}\nsource_profile = base\n"));
    program.wrap(&uri(ARN)).unwrap();
    assert_eq!(caller(&kms), with_token("role"));
}

#[test]
fn a_session_of_single_sign_on_gives_credentials() {
    let kms = kms();
    let portal = Scripted::start(|request, _| {
        let asked = request.path.starts_with("/federation/credentials?") && request.path.contains("role_name=images");
        match (asked, request.header("x-amz-sso_bearer_token")) {
            (true, Some("sso-token")) => {
                let credentials =
                    json!({"accessKeyId": "sso", "secretAccessKey": SECRET, "sessionToken": "token", "expiration": 4070908800000_u64});
                Reply::new(200, json!({ "roleCredentials": credentials }).to_string())
            }
            _ => Reply::new(401, ""),
        }
    });
    let program = Program::new(&kms.address()).set("AWS_ENDPOINT_URL_SSO", portal.address());
    let config = format!(
        "[default]\nsso_start_url = https://example.awsapps.com/start\nsso_region = {REGION}\nsso_account_id = 111122223333\n\
         sso_role_name = images\n"
    );
    program.write(".aws/config", &config);
    // The file's name is the SHA-1 of the start URL.
    let session = json!({"accessToken": "sso-token", "expiresAt": "2099-01-01T00:00:00Z", "region": REGION});
    program.write(".aws/sso/cache/e8be5486177c5b5392bd9aa76563515b29358e6e.json", &session.to_string());
    program.wrap(&uri(ARN)).unwrap();
    assert_eq!(caller(&kms), with_token("sso"));
}

#[test]
fn a_web_identity_token_is_exchanged() {
    let kms = kms();
    let action = "AssumeRoleWithWebIdentity";
    let sts = Scripted::start(move |request, _| match request.text().contains("WebIdentityToken=jwt") {
        true => sts(action, "web"),
        false => Reply::new(
            400,
            "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>not a token</Message></Error></ErrorResponse>",
        ),
    });
    let program = Program::new(&kms.address()).set("AWS_ENDPOINT_URL_STS", sts.address()).set("AWS_ROLE_ARN", ROLE);
    let file = program.write("token", "jwt");
    let program = program.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    program.wrap(&uri(ARN)).unwrap();
    assert_eq!(caller(&kms), with_token("web"));
    program.write("token", SECRET);
    let (code, line) = program.wrap(&uri(ARN)).unwrap_err();
    assert!(code == 5 && line.contains("not a token"), "{code} {line}");
}

#[test]
fn a_containers_agent_gives_credentials() {
    let kms = kms();
    let agent = Scripted::start(|request, _| match (request.path.as_str(), request.header("authorization")) {
        ("/creds", Some("agent-token")) => metadata("container"),
        _ => Reply::new(404, ""),
    });
    let program = Program::new(&kms.address())
        .set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/creds", agent.address()))
        .set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "agent-token");
    program.wrap(&uri(ARN)).unwrap();
    assert_eq!(caller(&kms), with_token("container"));
}

/// The metadata service of EC2, version 2: nothing without a token.
fn instance(request: &Request) -> Reply {
    let role = "/latest/meta-data/iam/security-credentials/";
    match (request.method.as_str(), request.path.as_str(), request.header("x-aws-ec2-metadata-token")) {
        ("PUT", "/latest/api/token", _) => Reply::new(200, "imds").header("x-aws-ec2-metadata-token-ttl-seconds", "600"),
        ("GET", "/latest/meta-data/placement/region", Some("imds")) => Reply::new(200, REGION),
        ("GET", path, Some("imds")) if path == role => Reply::new(200, "images"),
        ("GET", path, Some("imds")) if path == format!("{role}images") => metadata("instance"),
        _ => Reply::new(404, ""),
    }
}

#[test]
fn an_ec2_instance_has_credentials_and_a_region() {
    let kms = kms();
    let server = Scripted::start(|request, _| instance(request));
    let program =
        Program::new(&kms.address()).set("AWS_EC2_METADATA_DISABLED", "false").set("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.address());
    program.wrap(&uri("alias/team")).unwrap();
    assert_eq!(caller(&kms), with_token("instance"));
    assert!(kms.requests()[0].header("authorization").unwrap().contains(&format!("/{REGION}/kms/")));
}

#[test]
fn without_any_credentials_or_region_the_line_says_how_to_get_some() {
    let kms = kms();
    let program = Program::new(&kms.address());
    let (code, line) = program.wrap(&uri(ARN)).unwrap_err();
    assert!(code == 5 && line.contains("AWS_PROFILE") && line.contains("AWS_ACCESS_KEY_ID"), "{code} {line}");
    let profile = "[default]\nrole_arn = arn:aws:iam::111122223333:role/images\nsource_profile = absent\n";
    program.write(".aws/config", profile);
    let (code, line) = program.wrap(&uri(ARN)).unwrap_err();
    assert!(code == 5 && line.contains("`absent` was not defined"), "{code} {line}");
    let (code, line) = program.wrap(&uri("alias/team")).unwrap_err();
    assert!(code == 2 && line.contains("set AWS_REGION") && line.contains("ARN"), "{code} {line}");
    assert!(kms.requests().is_empty());
}

#[test]
fn a_profile_that_is_named_and_not_there_is_told_by_its_name() {
    let kms = kms();
    let program = Program::new(&kms.address()).set("AWS_PROFILE", "images");
    let check = |program: &Program, remedy: &str| {
        let (code, line) = program.wrap(&uri(ARN)).unwrap_err();
        assert!(code == 5 && line.contains("AWS_PROFILE names the profile `images`, and ~/.aws/config"), "{code} {line}");
        assert!(line.contains(&format!("; {remedy} (aws configure --profile images), or name one of")), "{line}");
        let (code, line) = program.wrap(&uri("alias/team")).unwrap_err();
        assert!(code == 2 && line.contains("`region` in the profile `images`"), "{code} {line}");
    };
    // Without any file, with one that has others, and with a profile that is empty.
    check(&program, "define it");
    program.write(".aws/credentials", &keys("default", "default"));
    check(&program, "define it");
    program.write(".aws/config", "[profile images]\noutput = json\n");
    check(&program, "add some to it");
    // One that refers to another that isn't there is told as before.
    program.write(".aws/config", &format!("[profile images]\nrole_arn = {ROLE}\nsource_profile = absent\n"));
    let (code, line) = program.wrap(&uri(ARN)).unwrap_err();
    assert!(code == 5 && line.contains("`absent` was not defined"), "{code} {line}");
    assert!(kms.requests().is_empty());
}

#[test]
fn a_service_that_gives_credentials_and_is_gone_may_come_back() {
    let kms = kms();
    // Nothing listens there: a port of 1024 or above could be anybody's.
    let program = Program::new(&kms.address()).set("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1").set("AWS_ROLE_ARN", ROLE);
    let file = program.write("token", SECRET);
    let (code, line) = program.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file).wrap(&uri(ARN)).unwrap_err();
    assert!(code == 6 && line.contains("can't be reached"), "{code} {line}");
}

#[test]
fn a_token_is_not_sent_in_plain_text_to_another_machine() {
    let kms = kms();
    let program = Program::new(&kms.address()).set("AWS_ENDPOINT_URL_STS", "http://sts.example").set("AWS_ROLE_ARN", ROLE);
    let file = program.write("token", SECRET);
    let (_, line) = program.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file).wrap(&uri(ARN)).unwrap_err();
    assert!(line.contains("plain http"), "{line}");
}

#[test]
fn credentials_are_not_looked_for_before_a_key_is_used() {
    let server = Scripted::start(|request, _| instance(request));
    let program = Program::new("ftp://127.0.0.1")
        .set("AWS_EC2_METADATA_DISABLED", "false")
        .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.address());
    let (code, line) = program.wrap("local://missing").unwrap_err();
    assert!(code == 5 && server.requests().is_empty(), "{code} {line}");
}

/// The metadata service of EC2, whose tokens live for so many seconds.
fn instance_of_ttl(seconds: &'static str) -> Scripted {
    Scripted::start(move |request, _| match request.method.as_str() {
        "PUT" => Reply::new(200, "imds").header("x-aws-ec2-metadata-token-ttl-seconds", seconds),
        _ => instance(request),
    })
}

#[test]
fn an_absurd_lifetime_of_a_token_is_told_in_one_line() {
    let kms = kms();
    for (seconds, says) in [
        ("18446744073709551615", "the token service's answer is absurd"),
        ("9223372036854775807", "the token service's answer is absurd"),
        ("18446744073709551616", "no AWS credentials were given"),
        ("-1", "no AWS credentials were given"),
        ("1e400", "no AWS credentials were given"),
    ] {
        let server = instance_of_ttl(seconds);
        let program = Program::new(&kms.address())
            .set("AWS_EC2_METADATA_DISABLED", "false")
            .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.address());
        let (code, line) = program.wrap(&uri(ARN)).unwrap_err();
        assert!([5, 6].contains(&code) && line.starts_with(&uri(ARN)) && line.contains(says), "{seconds}: {code} {line}");
        let (code, line) = program.wrap(&uri("alias/team")).unwrap_err();
        assert!(code == 2 && line.contains("set AWS_REGION"), "{seconds}: {code} {line}");
    }
    assert!(kms.requests().is_empty());
}

#[test]
fn credentials_of_any_date_are_used_or_refused_without_a_panic() {
    let kms = kms();
    for date in ["0000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "", "1e400", "never"] {
        let agent = Scripted::start(move |_, _| {
            let body = json!({"AccessKeyId": "container", "SecretAccessKey": SECRET, "Token": "token", "Expiration": date});
            Reply::new(200, body.to_string())
        });
        let program = Program::new(&kms.address()).set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/creds", agent.address()));
        if let Err((code, line)) = program.wrap(&uri(ARN)) {
            assert!([5, 6].contains(&code) && line.starts_with(&uri(ARN)), "{date}: {code} {line}");
        }
    }
    assert!(!kms.requests().is_empty());
}
