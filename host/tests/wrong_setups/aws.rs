//! AWS KMS. Rows that say so need an answer of the cloud's: a scripted server gives it.

use std::time::Duration;

use ocicrypt_kms_testing::certificates::Authority;
use ocicrypt_kms_testing::moto::{Moto, REGION};
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use serde_json::json;

use crate::aws::settings::with_certificate;
use crate::aws::stage::{Program, SECRET};
use crate::aws::{ARN, uri};

const ALIAS: &str = "alias/team";
const RSA: &str = "?algorithm=RSA-OAEP-256";

/// One set-up: what it is, the line that it is answered with, and what that has to say, parts between bars.
type Row = (&'static str, fn() -> String, &'static str);

/// Somebody with an access key, a region, and nothing else.
fn user(address: &str) -> Program {
    let program = Program::new(address).set("AWS_REGION", REGION).set("AWS_ACCESS_KEY_ID", "id").set("AWS_SECRET_ACCESS_KEY", SECRET);
    in_time(program)
}

/// Somebody without credentials.
fn nobody(address: &str) -> Program {
    in_time(Program::new(address).set("AWS_REGION", REGION))
}

fn in_time(program: Program) -> Program {
    program.write(".config/ocicrypt-kms/config.toml", "deadline-seconds = 2\n");
    program
}

/// Somebody with this profile, whose calls go nowhere.
fn with_profile(lines: &str) -> Program {
    let program = nobody("http://127.0.0.1:1");
    program.write(".aws/config", &format!("[profile images]\n{lines}\n"));
    program.set("AWS_PROFILE", "images")
}

/// What is said of an alias where AWS KMS answers so. Scripted.
fn refused(status: u16, code: &str, message: &str) -> String {
    let reply = Reply::new(status, json!({"__type": code, "message": message}).to_string());
    user(&Scripted::always(reply).address()).refusal(&uri(ALIAS))
}

/// What moto says of a key.
fn at_moto(variables: &[(&'static str, &str)], uri: &str) -> String {
    variables.iter().fold(user(&Moto::shared().endpoint), |user, (name, value)| user.set(name, value)).refusal(uri)
}

/// Somebody whose region is said by this variable.
fn in_region(variable: &'static str, region: &str) -> String {
    user("").set("AWS_REGION", "").set(variable, region).refusal(&uri(ALIAS))
}

/// EC2's metadata service, whose answers get lost on their way into a container. Scripted.
fn behind_a_hop() -> Scripted {
    Scripted::always(Reply::new(200, "token").after(Duration::from_secs(9)))
}

fn at_metadata(program: Program, server: &Scripted) -> Program {
    program.write(".config/ocicrypt-kms/config.toml", "deadline-seconds = 20\n");
    program.set("AWS_EC2_METADATA_DISABLED", "false").set("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.address())
}

const ROWS: &[Row] = &[
    (
        "wrong region",
        || {
            let arn = Moto::shared().symmetric_key();
            at_moto(&[("AWS_REGION", "eu-west-1")], &uri(arn.rsplit('/').next().unwrap()))
        },
        "NotFoundException|AWS KMS was asked in the region eu-west-1",
    ),
    (
        "region typo",
        || in_region("AWS_REGION", "us-eest-1"),
        "AWS_REGION: `us-eest-1` is not the name of an AWS region; did you mean `us-east-1`?",
    ),
    (
        "region typo, the other variable",
        || in_region("AWS_DEFAULT_REGION", "eu-cental-1"),
        "AWS_DEFAULT_REGION: |did you mean `eu-central-1`?",
    ),
    (
        "region is a zone",
        || in_region("AWS_REGION", "us-east-1a"),
        "AWS_REGION: `us-east-1a` is a zone, not a region; its region is `us-east-1`",
    ),
    (
        "region typo in a profile",
        || {
            let program = user("").set("AWS_REGION", "").set("AWS_PROFILE", "images");
            program.write(".aws/config", "[profile images]\nregion = eu-west1\n");
            program.refusal(&uri(ALIAS))
        },
        "`region` of the profile `images`: |did you mean `eu-west-1`?",
    ),
    ("region typo in an ARN", || user("").refusal(&uri(&ARN.replace(REGION, "eu-centrl-1"))), "eu-centrl-1|did you mean `eu-central-1`?"),
    ("region that nobody knows", || in_region("AWS_REGION", "xx-north-7"), "is `xx-north-7` a region of AWS? AWS_REGION says so"),
    (
        "region for FIPS, as older SDKs had it",
        || in_region("AWS_REGION", "fips-us-east-1"),
        "name the region `us-east-1`, and set AWS_USE_FIPS_ENDPOINT=true",
    ),
    ("alias missing", || at_moto(&[], &uri("alias/nobody-made-it")), "NotFoundException|check the id or alias|in the region eu-central-1"),
    ("alias without alias/", || user("").refusal(&uri("team")), "alias/"),
    ("AccessDenied (scripted)", || refused(400, "AccessDeniedException", "no"), "allow kms:Encrypt on the key|aws sts get-caller-identity"),
    (
        "key disabled, alias (scripted)",
        || refused(400, "DisabledException", &format!("{ARN} is disabled.")),
        "aws kms enable-key --region eu-central-1 --key-id arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ),
    (
        "key disabled, alias, the key isn't told (scripted)",
        || refused(400, "DisabledException", "no"),
        "--key-id ID, with the id that this tells: aws kms describe-key --region eu-central-1 --key-id alias/team",
    ),
    (
        "pending deletion, alias (scripted)",
        || refused(400, "KMSInvalidStateException", &format!("{ARN} is pending deletion.")),
        "aws kms describe-key --region eu-central-1 --key-id alias/team|aws kms cancel-key-deletion --region eu-central-1 --key-id arn:aws:kms:",
    ),
    ("key for signing (scripted)", || refused(400, "InvalidKeyUsageException", "no"), "keys for signing can't be used"),
    ("unknown access key (scripted)", || refused(400, "UnrecognizedClientException", "no"), "check AWS_ACCESS_KEY_ID, AWS_PROFILE"),
    ("expired session token (scripted)", || refused(400, "ExpiredTokenException", "no"), "have expired; get new ones"),
    ("clock off (scripted)", || refused(400, "InvalidSignatureException", "no"), "or this machine's clock is wrong"),
    (
        "no credentials",
        || nobody("").refusal(&uri(ARN)),
        "there are no AWS credentials in the environment, a profile|aws sso login|AWS_PROFILE|AWS_ACCESS_KEY_ID",
    ),
    ("no region", || user("").set("AWS_REGION", "").refusal(&uri(ALIAS)), "it isn't known in which AWS region the key is; set AWS_REGION"),
    (
        "wrong AWS_PROFILE",
        || nobody("").set("AWS_PROFILE", "images").refusal(&uri(ARN)),
        "AWS_PROFILE names the profile `images`|define it (aws configure --profile images)",
    ),
    (
        "empty profile",
        || with_profile("").refusal(&uri(ARN)),
        "AWS_PROFILE names the profile `images`|a profile without credentials|add some to it (aws configure --profile images)",
    ),
    (
        "empty default profile",
        || {
            let program = nobody("");
            program.write(".aws/config", "[default]\n");
            program.refusal(&uri(ARN))
        },
        "there are no AWS credentials in the environment, a profile|(the profile `default` has none)",
    ),
    (
        "the profile's file is another one",
        || nobody("").set("AWS_CONFIG_FILE", "/nope/config").set("AWS_PROFILE", "images").refusal(&uri(ARN)),
        "/nope/config (AWS_CONFIG_FILE)",
    ),
    (
        "AWS_CONFIG_FILE: no such file",
        || nobody("").set("AWS_CONFIG_FILE", "/nope/config").refusal(&uri(ARN)),
        "there are no AWS credentials|(AWS_CONFIG_FILE names /nope/config, which isn't there)",
    ),
    (
        "a line of ~/.aws/config is none",
        || {
            let program = user("");
            program.write(".aws/config", "[default]\nregion eu-west-1\n");
            program.refusal(&uri(ARN))
        },
        "/.aws/config: line 2: Expected an '=' sign",
    ),
    (
        "access key without the secret",
        || nobody("").set("AWS_ACCESS_KEY_ID", "id").refusal(&uri(ARN)),
        "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is missing or empty; set both",
    ),
    (
        "secret without the access key",
        || nobody("").set("AWS_SECRET_ACCESS_KEY", SECRET).set("AWS_ACCESS_KEY_ID", "").refusal(&uri(ARN)),
        "AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is missing or empty; set both",
    ),
    ("half a key pair in a profile", || with_profile("aws_access_key_id = id").refusal(&uri(ARN)), "`images`|aws_secret_access_key"),
    (
        "credential_process: no such program",
        || with_profile("credential_process = /nope/give --token hunter2").refusal(&uri(ARN)),
        "the program /nope/give, `credential_process` of the profile `images`,|127|run it by hand",
    ),
    (
        "credential_process fails",
        || with_profile("credential_process = sh -c 'exit 3'").refusal(&uri(ARN)),
        "the program sh, `credential_process` of the profile `images`,|exit status: 3|run it by hand",
    ),
    (
        "credential_process of a source_profile fails",
        || {
            let lines = "role_arn = arn:aws:iam::111122223333:role/x\nsource_profile = base\n[profile base]\ncredential_process = false";
            with_profile(lines).refusal(&uri(ARN))
        },
        "the program false, `credential_process` of the profile `base`,",
    ),
    (
        "credential_process prints no credentials",
        || with_profile("credential_process = echo nothing").refusal(&uri(ARN)),
        "the program echo, `credential_process` of the profile `images`,|print the credentials as JSON",
    ),
    (
        "credential_process hangs",
        || with_profile("credential_process = sleep 20").refusal(&uri(ARN)),
        "the program sleep, `credential_process` of the profile `images`, did not end within|run it by hand",
    ),
    (
        "SSO without login",
        || {
            let lines = "sso_start_url = https://example.awsapps.com/start\nsso_region = us-east-1\nsso_account_id = 111122223333\nsso_role_name = x";
            with_profile(lines).refusal(&uri(ARN))
        },
        ".aws/sso/cache/|aws sso login",
    ),
    (
        "source_profile missing",
        || with_profile("role_arn = arn:aws:iam::111122223333:role/x\nsource_profile = nope").refusal(&uri(ARN)),
        "could not find source profile nope",
    ),
    (
        "web identity token file missing",
        || {
            let program = nobody("").set("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/x");
            program.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/nope/token").refusal(&uri(ARN))
        },
        "AWS_WEB_IDENTITY_TOKEN_FILE names /nope/token, which can't be read: No such file|correct the path",
    ),
    (
        "web identity token file of a profile missing",
        || with_profile("role_arn = arn:aws:iam::111122223333:role/x\nweb_identity_token_file = /nope/token").refusal(&uri(ARN)),
        "`web_identity_token_file` of the profile `images` names /nope/token, which can't be read: No such file",
    ),
    (
        "container's token file missing",
        || {
            let program = nobody("").set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/creds");
            program.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nope/token").refusal(&uri(ARN))
        },
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names /nope/token, which can't be read: No such file",
    ),
    (
        "web identity without a role",
        || {
            let program = nobody("");
            let token = program.write("token", SECRET);
            program.set("AWS_WEB_IDENTITY_TOKEN_FILE", token).refusal(&uri(ARN))
        },
        "AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN isn't; set AWS_ROLE_ARN, too",
    ),
    (
        "login_session profile",
        || with_profile("login_session = arn:aws:iam::111122223333:user/x").refusal(&uri(ARN)),
        "the profile `images` has a `login_session`|isn't supported|aws configure export-credentials --profile images --format process",
    ),
    (
        "metadata service behind a hop (scripted)",
        || {
            let server = behind_a_hop();
            at_metadata(nobody(""), &server).refusal(&uri(ARN))
        },
        "there are no AWS credentials|--http-put-response-hop-limit 2",
    ),
    (
        "metadata service behind a hop, for the region (scripted)",
        || {
            let server = behind_a_hop();
            at_metadata(user("").set("AWS_REGION", ""), &server).refusal(&uri(ALIAS))
        },
        "set AWS_REGION|--http-put-response-hop-limit 2",
    ),
    ("endpoint port closed", || user("http://127.0.0.1:1").refusal(&uri(ARN)), "127.0.0.1:1|Connection refused"),
    (
        "profile's endpoint_url, nobody there",
        || {
            with_profile("endpoint_url = http://127.0.0.1:1")
                .set("AWS_ENDPOINT_URL_KMS", "")
                .set("AWS_ACCESS_KEY_ID", "id")
                .set("AWS_SECRET_ACCESS_KEY", SECRET)
                .refusal(&uri(ARN))
        },
        "127.0.0.1:1|Connection refused",
    ),
    (
        "profile's endpoint_url, plain http to another host",
        || with_profile("endpoint_url = http://localstack:4566").set("AWS_ENDPOINT_URL_KMS", "").refusal(&uri(ARN)),
        "`endpoint_url` of the profile `images`: |plain http, which is allowed only to loopback; use https",
    ),
    (
        "FIPS with an address of one's own",
        || user("https://kms.example").set("AWS_USE_FIPS_ENDPOINT", "true").refusal(&uri(ARN)),
        "AWS_USE_FIPS_ENDPOINT: FIPS endpoints are asked for, and AWS_ENDPOINT_URL_KMS names another address|`endpoint` below `[aws]`",
    ),
    (
        "FIPS that is neither on nor off",
        || user("").set("AWS_USE_FIPS_ENDPOINT", "1").refusal(&uri(ARN)),
        "AWS_USE_FIPS_ENDPOINT: `1` is neither true nor false",
    ),
    (
        "an authority that isn't trusted",
        || {
            let kms = with_certificate(&Authority::new("team"));
            user(&kms.address().replace("127.0.0.1", "localhost")).refusal(&uri(ARN))
        },
        "AWS_CA_BUNDLE",
    ),
    (
        "AWS_CA_BUNDLE: another authority",
        || {
            let kms = with_certificate(&Authority::new("team"));
            let program = user(&kms.address().replace("127.0.0.1", "localhost"));
            let bundle = program.write("ca.pem", &Authority::new("other").certificate());
            program.set("AWS_CA_BUNDLE", bundle).refusal(&uri(ARN))
        },
        "AWS_CA_BUNDLE",
    ),
    (
        "AWS_CA_BUNDLE: no such file",
        || user("https://127.0.0.1:1").set("AWS_CA_BUNDLE", "/nope.pem").refusal(&uri(ARN)),
        "/nope.pem|No such file",
    ),
    ("RSA key with a context", || user("").refusal(&(uri(ARN) + RSA + "&context_a=b")), "can't bind an encryption context; leave context_"),
];

#[test]
fn each_wrong_set_up_of_aws_is_named_with_its_remedy() {
    let wrong = ROWS.iter().filter_map(|(name, line, says)| {
        let line = line();
        let missing: Vec<_> = says.split('|').filter(|part| !line.contains(part)).collect();
        (!missing.is_empty()).then(|| format!("{name}: {missing:?} is missing: {line}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
