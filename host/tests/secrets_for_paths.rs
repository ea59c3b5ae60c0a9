//! Who sets a variable, an option or a setting often gives the secret itself in place of the path of its file: nothing of it is shown, by any command.

use std::process::Stdio;
use std::time::Duration;

use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program::{Program, piped};

use crate::server::client::{call, connect, runtime};
use crate::server::serving::{Serving, socket};

const GCP: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";
const VAULT: &str = "hashivault://transit/k";
const AWS: &str = "awskms:///alias/a";
const AZURE: &str = "azurekms://team.vault.azure.net/k";
const LOCAL: &str = "local://team";

/// Where nobody answers, it is not tried for long.
const SOON: &str = "deadline-seconds = 1\n";

/// What is part of each secret, and of nothing else.
const CANARY: &str = "CanaryK8x2Qm";

/// What people put there: a credential file's content, a private key, a token, an access key, an address with a password.
const SECRETS: [&str; 5] = [
    "{\"type\":\"service_account\",\"private_key\":\"-----BEGIN PRIVATE KEY-----\\nCanaryK8x2Qm\\n\"}",
    "-----BEGIN PRIVATE KEY-----\nCanaryK8x2QmAAAA\n-----END PRIVATE KEY-----\n",
    "hvs.CAESICanaryK8x2Qm0sVbGmNpgq3KkT8YkGh4KHGh2cy5",
    "wJalrXUtnFEMI/CanaryK8x2Qm/bPxRfiCYEXAMPLEKEY",
    "https://user:CanaryK8x2Qm@127.0.0.1:1/",
];

/// Variables, with the key for which they are looked at.
const VARIABLES: &[(&str, &str)] = &[
    ("GOOGLE_APPLICATION_CREDENTIALS", GCP),
    ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", GCP),
    ("GCE_METADATA_HOST", GCP),
    ("VAULT_ADDR", VAULT),
    ("BAO_ADDR", VAULT),
    ("VAULT_CACERT", VAULT),
    ("VAULT_NAMESPACE", VAULT),
    ("VAULT_AGENT_ADDR", VAULT),
    ("VAULT_CLIENT_CERT", VAULT),
    ("VAULT_CLIENT_KEY", VAULT),
    ("VAULT_PROXY_ADDR", VAULT),
    ("AWS_CONFIG_FILE", AWS),
    ("AWS_SHARED_CREDENTIALS_FILE", AWS),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AWS),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AWS),
    ("AWS_PROFILE", AWS),
    ("AWS_ROLE_ARN", AWS),
    ("AWS_REGION", AWS),
    ("AWS_ENDPOINT_URL_KMS", AWS),
    ("AWS_ENDPOINT_URL", AWS),
    ("AWS_CA_BUNDLE", AWS),
    ("AWS_USE_FIPS_ENDPOINT", AWS),
    ("AWS_USE_DUALSTACK_ENDPOINT", AWS),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", AWS),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AWS),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AWS),
    ("AZURE_FEDERATED_TOKEN_FILE", AZURE),
    ("AZURE_CLIENT_CERTIFICATE_PATH", AZURE),
    ("AZURE_TENANT_ID", AZURE),
    ("AZURE_CLIENT_ID", AZURE),
    ("AZURE_AUTHORITY_HOST", AZURE),
    ("AZURE_TOKEN_CREDENTIALS", AZURE),
    ("HTTPS_PROXY", VAULT),
    ("OCICRYPT_KMS_CONFIG", LOCAL),
    ("OCICRYPT_KMS_KEYSTORE", LOCAL),
    ("OCICRYPT_KEYPROVIDER_CONFIG", LOCAL),
];

/// Lines of the configuration; `SECRET` is a string of TOML.
const SETTINGS: &[(&str, &str)] = &[
    ("keys = [SECRET]", LOCAL),
    ("default-recipients = [SECRET]", LOCAL),
    ("policy = SECRET", LOCAL),
    ("keystore = SECRET", LOCAL),
    ("deadline-seconds = SECRET", LOCAL),
    ("hardening = SECRET", LOCAL),
    ("keys = SECRET", LOCAL),
    ("[gcp]\ncredentials = SECRET", GCP),
    ("[gcp]\nendpoint = SECRET", GCP),
    ("[vault]\naddress = SECRET", VAULT),
    ("[vault]\naddress = 'https://127.0.0.1:1'\nca-file = SECRET", VAULT),
    ("[vault]\naddress = 'http://127.0.0.1:1'\ntoken-file = SECRET", VAULT),
    ("[vault]\naddress = 'http://127.0.0.1:1'\n[vault.approle]\nrole-id = 'r'\nsecret-id-file = SECRET", VAULT),
    ("[vault]\naddress = 'http://127.0.0.1:1'\n[vault.approle]\nrole-id = 'r'\nmount = SECRET", VAULT),
    ("[vault]\naddress = 'http://127.0.0.1:1'\n[vault.jwt]\nrole = 'r'\ntoken-file = SECRET", VAULT),
    ("[vault]\naddress = 'http://127.0.0.1:1'\n[vault.kubernetes]\nrole = 'r'\ntoken-file = SECRET", VAULT),
    ("[vault]\ntoken = SECRET", VAULT),
    ("[vault]\nauth = SECRET", VAULT),
    ("[vault]\naddress = 'http://127.0.0.1:1'\nstandby-redirects = [SECRET]", VAULT),
    ("[vault]\naddress = 'https://127.0.0.1:1'\nauth = 'none'\nclient-certificate = '/dev/null'\nclient-key = SECRET", VAULT),
    ("[vault]\naddress = 'https://127.0.0.1:1'\nauth = 'none'\nclient-certificate = SECRET\nclient-key = '/dev/null'", VAULT),
    ("[vault]\naddress = 'https://127.0.0.1:1'\n[vault.cert]\nmount = SECRET", VAULT),
    ("[aws]\nendpoint = SECRET", AWS),
    ("[azure]\nendpoint = SECRET", AZURE),
    ("[azure]\nsuffixes = [SECRET]", AZURE),
    ("[component]\nfile = SECRET", LOCAL),
    ("[component]\nsha256 = SECRET", LOCAL),
    ("[audit]\nfile = SECRET", LOCAL),
    ("[audit]\nsinks = [SECRET]", LOCAL),
    ("[audit]\nfile = 'audit.jsonl'\ncheckpoint-key = SECRET", LOCAL),
    ("[server]\nlisten = [SECRET]", LOCAL),
    ("[server]\ngroup = SECRET", LOCAL),
    ("[server]\nmetrics = SECRET", LOCAL),
    ("[server]\nlog-level = SECRET", LOCAL),
    ("[server]\ntls-cert = SECRET\ntls-key = SECRET\nclient-ca = SECRET", LOCAL),
    ("[http-kms.x]\nurl = SECRET\nbearer-file = '/dev/null'", LOCAL),
    ("[http-kms.x]\nurl = 'https://127.0.0.1:1'\nallow = [{ usage = 'wrap', method = 'POST', path = '/v1' }]\nbearer-file = SECRET", LOCAL),
    (
        "[http-kms.x]\nurl = 'https://127.0.0.1:1'\nallow = [{ usage = 'wrap', method = 'POST', path = '/v1' }]\nbearer-file = '/dev/null'\nca-file = SECRET",
        LOCAL,
    ),
    (
        "[http-kms.x]\nurl = 'https://127.0.0.1:1'\nallow = [{ usage = 'wrap', method = 'POST', path = '/v1' }]\nclient-certificate = SECRET\nclient-key = SECRET",
        LOCAL,
    ),
];

/// Options, and the commands that have them.
const OPTIONS: &[(&[&str], &str)] = &[
    (&[], "--adc"),
    (&[], "--config"),
    (&[], "--kmsURI"),
    (&[], "--component"),
    (&[], "--component-sha256"),
    (&[], "--debugLog"),
    (&[], ""),
    (&["serve"], "--tls-key"),
    (&["serve"], "--listen"),
    (&["serve"], "--grpcport"),
    (&["serve"], "--metrics"),
    (&["serve"], "--log-level"),
    (&["serve"], ""),
    (&["doctor"], ""),
    (&["inspect"], ""),
    (&["policy", "check"], ""),
    (&["audit", "verify"], ""),
    (&["audit"], ""),
];

fn user() -> Program {
    let mut user = Program::new();
    user.set("AWS_EC2_METADATA_DISABLED", "true");
    assert!(user.run(&["keygen", "team"], b"").status.success());
    user
}

/// What all commands print for this user and key, and the debug log. `serve` ends by itself or is killed.
fn all_output(user: &Program, key: &str, options: &[&str]) -> String {
    let mut text = String::new();
    let mut add = |output: std::process::Output| {
        text += &String::from_utf8_lossy(&output.stdout);
        text += &String::from_utf8_lossy(&output.stderr);
    };
    add(user.run(&[options, &["--debugLog", "debug.log"]].concat(), &wrapping(&[key])));
    add(user.run(&[options, &["doctor", key]].concat(), b""));
    let socket = format!("unix://{}", socket(user).0.display());
    let mut serve = std::process::Command::new("timeout");
    serve.args(["--signal=KILL", "0.3", ocicrypt_kms_testing::program::path(), "serve", "--log-level", "debug"]).args(options);
    if !user.home().join("listens").exists() {
        serve.args(["--listen", &socket]);
    }
    user.as_user(&mut serve);
    add(piped(serve.stdin(Stdio::null()), b""));
    text + &user.log()
}

#[track_caller]
fn assert_unseen(text: &str, place: &str, secret: &str) {
    for canary in [CANARY, &CANARY.to_lowercase()] {
        assert!(!text.contains(canary), "{place} = {secret}: {text}");
    }
}

#[test]
fn a_secret_in_a_variable_in_place_of_a_path_is_shown_nowhere() {
    for (variable, key) in VARIABLES {
        for secret in SECRETS {
            let mut user = user();
            if *variable == "HTTPS_PROXY" || variable.starts_with("VAULT_C") || *variable == "VAULT_PROXY_ADDR" {
                user.set("VAULT_ADDR", "https://127.0.0.1:1");
                user.set("VAULT_TOKEN", "t");
            }
            if variable.starts_with("VAULT_CLIENT") {
                // Half of it is not looked at.
                user.set("BAO_CLIENT_CERT", "/dev/null");
                user.set("BAO_CLIENT_KEY", "/dev/null");
            }
            user.write(".config/ocicrypt-kms/config.toml", SOON);
            if variable.starts_with("AZURE") {
                if !["AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PATH"].contains(variable) {
                    user.set("AZURE_CLIENT_SECRET", "s");
                }
                user.set("AZURE_TENANT_ID", "t");
                user.set("AZURE_CLIENT_ID", "c");
                user.set("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1");
            }
            user.set(variable, secret);
            assert_unseen(&all_output(&user, key, &[]), variable, secret);
        }
    }
}

#[test]
fn a_secret_in_a_setting_is_shown_nowhere() {
    for (setting, key) in SETTINGS {
        for secret in SECRETS {
            let user = user();
            // What JSON escapes, TOML reads.
            let quoted = serde_json::to_string(secret).unwrap();
            user.write(
                ".config/ocicrypt-kms/config.toml",
                format!("{}{}", if setting.contains("deadline") { "" } else { SOON }, setting.replace("SECRET", &quoted)),
            );
            if setting.contains("listen") {
                user.write("listens", "");
            }
            assert_unseen(&all_output(&user, key, &[]), setting, secret);
        }
    }
}

#[test]
fn a_secret_on_the_command_line_is_shown_nowhere() {
    for (command, option) in OPTIONS {
        for secret in SECRETS {
            let user = user();
            let whole = format!("{option}={secret}");
            for arguments in [&[*option, secret][..], &[&whole]] {
                let arguments: Vec<_> = command.iter().chain(arguments).copied().filter(|argument| !argument.is_empty()).collect();
                let mut program = std::process::Command::new("timeout");
                program.args(["--signal=KILL", "1", ocicrypt_kms_testing::program::path()]).args(&arguments);
                user.as_user(&mut program);
                let output = piped(&mut program, &wrapping(&[GCP]));
                let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                assert_unseen(&text, &format!("{command:?} {option}"), secret);
            }
        }
    }
}

#[test]
fn clients_are_told_nothing_of_a_secret_in_place_of_a_path() {
    for secret in SECRETS {
        for (setting, key) in
            [("[gcp]\ncredentials = SECRET", GCP), ("[vault]\naddress = 'http://127.0.0.1:1'\ntoken-file = SECRET", VAULT)]
        {
            let user = user();
            // What JSON escapes, TOML reads.
            let quoted = serde_json::to_string(secret).unwrap();
            let config = format!("keys = ['{key}']\n{}", setting.replace("SECRET", &quoted));
            user.write(".config/ocicrypt-kms/config.toml", config);
            let server = Serving::start(&user, &["--log-level", "debug", "--listen", &socket(&user).1]);
            let status = runtime().block_on(async {
                let channel = connect(&socket(&user).0).await.unwrap();
                call(&channel, "WrapKey", &wrapping(&[key])).await.unwrap_err()
            });
            assert!(status.message().contains("not shown: it holds "), "{status}");
            server.wait_until("the exchange", |line| line["level"] == "WARN");
            std::thread::sleep(Duration::from_millis(20));
            assert_unseen(&format!("{status} {:?}", server.logged()), setting, secret);
        }
    }
}
