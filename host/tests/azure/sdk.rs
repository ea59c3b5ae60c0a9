//! Azure's own libraries for Python against the fake, and against what this program wraps: neither may share a misreading with the other.
//!
//! The libraries are left as they are and believe that they talk to Azure: `sdk.py` only lets every connection end at the fake, whose certificate
//! is for Azure's names. So they check the challenge, and the certificate, as they do in earnest.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use serde_json::{Value, json};

use super::program::Program;
use super::{AES, KEY, aes_uri, uri};

/// The interpreter of the environment that `tools/setup test` makes.
fn python() -> PathBuf {
    let python = ocicrypt_kms_fakes::cached("python/bin/python");
    assert!(python.exists(), "{} is not there; run: tools/setup test", python.display());
    python
}

/// Runs `sdk.py` with a JSON value as its input, and gives the one that it prints.
fn sdk(program: &Program, command: &str, input: &Value) -> Value {
    let mut child = Command::new(python())
        .arg(checkout::path("host/tests/azure/sdk.py"))
        .arg(command)
        .env("FAKE_PORT", program.fake.address().port().to_string())
        .env("REQUESTS_CA_BUNDLE", program.home().join("authority.pem"))
        .envs(program.fake.client_secret().into_iter().filter(|(name, _)| *name != "AZURE_AUTHORITY_HOST"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "sdk.py {command} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The library (4.11.3), where it may see an AES key of an HSM, whose bytes nobody may see, makes bytes up and wraps with those.
fn hide_aes(program: &Program) {
    program.fake.hide(AES);
}

#[test]
fn azures_library_wraps_and_unwraps_with_the_fake_by_itself_and_at_the_vault() {
    let program = Program::with_credentials();
    let answer = sdk(&program, "round-trip", &json!({"key": KEY, "algorithm": "RSA-OAEP-256"}));
    assert_eq!(answer["same"], true);
    let verbs = |program: &Program| {
        program.fake.kms_requests().into_iter().map(|it| it.path.rsplit('/').next().unwrap().to_lowercase()).collect::<Vec<_>>()
    };
    assert!(!verbs(&program).contains(&"wrapkey".to_owned()), "it wrapped with the public half by itself: {:?}", verbs(&program));
    // Without the public half, the vault wraps.
    program.fake.hide(KEY);
    hide_aes(&program);
    for (key, algorithm) in [(KEY, "RSA-OAEP-256"), (AES, "A256KW")] {
        program.fake.clear_requests();
        let answer = sdk(&program, "round-trip", &json!({"key": key, "algorithm": algorithm}));
        assert_eq!(answer["same"], true, "{key}");
        assert!(verbs(&program).contains(&"wrapkey".to_owned()) && verbs(&program).contains(&"unwrapkey".to_owned()));
    }
}

#[test]
fn azures_library_opens_what_this_program_wrapped() {
    let program = Program::with_credentials();
    hide_aes(&program);
    for uri in [uri(KEY), aes_uri(), uri(KEY) + "?context_a=b"] {
        let annotation = annotation_of(&program.exchange(&wrapping(&[&uri])));
        program.fake.rotate(KEY);
        let answer = sdk(&program, "open", &serde_json::from_slice(&annotation).unwrap());
        assert_eq!(answer["opts_data"].as_str().unwrap().as_bytes(), OPTS_DATA, "{uri}");
    }
}

#[test]
fn this_program_opens_what_azures_library_wrapped() {
    let program = Program::with_credentials();
    hide_aes(&program);
    let opts_data = std::str::from_utf8(OPTS_DATA).unwrap();
    for (key, uri, algorithm) in [(KEY, uri(KEY), "RSA-OAEP-256"), (AES, aes_uri(), "A256KW")] {
        let input = json!({"key": key, "uri": uri, "algorithm": algorithm, "opts_data": opts_data});
        let packet = sdk(&program, "make", &input).to_string();
        // Where the library may not see the key, it doesn't say which version it was.
        if key == KEY {
            program.fake.rotate(key);
        }
        assert_eq!(opts_data_of(&program.exchange(&unwrapping(&[&uri], packet.as_bytes()))), OPTS_DATA, "{uri}");
    }
}

#[test]
fn azures_library_reads_the_fakes_refusals_as_the_services() {
    let program = Program::with_credentials();
    hide_aes(&program);
    program.fake.disable(KEY);
    for (key, status, code) in [(KEY, 403, "Forbidden"), (AES, 400, "BadParameter"), (&format!("{KEY}-missing"), 404, "KeyNotFound")] {
        let answer = sdk(&program, "refusal", &json!({"key": key, "algorithm": "RSA-OAEP-256"}));
        assert_eq!((&answer["status"], &answer["code"]), (&json!(status), &json!(code)), "{answer}");
    }
}
