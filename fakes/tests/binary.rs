//! The program for scripts.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";

#[tokio::test]
async fn it_prints_its_endpoint_and_serves_until_standard_input_closes() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut program = Command::new(env!("CARGO_BIN_EXE_fake-gcp"))
        .args(["--key", KEY, "--require-auth"])
        .arg(dir.path().join("credentials"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut endpoint = String::new();
    BufReader::new(program.stdout.take().expect("a pipe")).read_line(&mut endpoint).expect("a line");
    let url = format!("{}/v1/{KEY}:encrypt", endpoint.trim_end());
    assert_eq!(reqwest::Client::new().post(url).body("{}").send().await.expect("an answer").status(), 401);
    assert!(dir.path().join("credentials/service-account.json").exists());

    drop(program.stdin.take());
    assert!(program.wait().expect("it ends").success());
}

#[test]
fn it_says_how_it_is_used() {
    for arguments in [&[][..], &["--key"], &["--nonsense"], &["--key", KEY, "--port", "many"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_fake-gcp")).args(arguments).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage: fake-gcp"), "{arguments:?}");
    }
}

#[tokio::test]
async fn the_fake_of_azure_prints_its_endpoint_and_writes_what_a_client_needs() {
    let dir = tempfile::tempdir().expect("a directory");
    let (authority, variables) = (dir.path().join("authority.pem"), dir.path().join("variables"));
    let mut program = Command::new(env!("CARGO_BIN_EXE_fake-azure"))
        .args(["--key", "https://team.vault.azure.net/keys/k", "--tls"])
        .arg(&authority)
        .arg("--variables")
        .arg(&variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut endpoint = String::new();
    BufReader::new(program.stdout.take().expect("a pipe")).read_line(&mut endpoint).expect("a line");
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(authority).expect("a file")).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build().expect("a client");
    let answer = client.post(format!("{}/keys/k/wrapkey", endpoint.trim_end())).body("{}").send().await.expect("an answer");
    assert_eq!(answer.status(), 401);
    assert!(answer.headers()["www-authenticate"].to_str().expect("text").contains("resource=\"https://vault.azure.net\""));
    assert!(std::fs::read_to_string(variables).expect("a file").contains("export AZURE_CLIENT_SECRET='"));

    drop(program.stdin.take());
    assert!(program.wait().expect("it ends").success());
    let output = Command::new(env!("CARGO_BIN_EXE_fake-azure")).output().expect("it starts");
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("usage: fake-azure"));
}
