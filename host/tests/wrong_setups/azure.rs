use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use ocicrypt_kms_testing::messages::wrapping;

use crate::azure::client_certificates::{join, openssl, with_certificate};
use crate::azure::program::Program;

const KEY: &str = "azurekms://team.vault.azure.net/k";

/// One set-up: what it is, the line that it is answered with, and what that has to say, parts between bars; what follows `!` it must not say.
type Row = (&'static str, fn() -> String, &'static str);

/// The line that a user gets who wraps with a key.
fn line_of(program: &Program, uri: &str) -> String {
    program.refused(&wrapping(&[uri])).1
}

fn line(program: Program) -> String {
    line_of(&program, KEY)
}

/// Somebody with a client secret, and this in place of what is right.
fn but(name: &'static str, value: &str) -> Program {
    let program = Program::with_credentials().set(name, value);
    program.configure("deadline-seconds = 3");
    program
}

/// Somebody with a workload identity, whose token is in this file.
fn workload(file: impl AsRef<std::ffi::OsStr>) -> Program {
    but("AZURE_CLIENT_SECRET", "").set("AZURE_FEDERATED_TOKEN_FILE", file)
}

/// Somebody who uses the Azure CLI, which is this script.
fn cli(script: &str) -> Program {
    let program = Program::new().set("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential");
    let az = program.write("bin/az", format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", az.parent().unwrap().display());
    program.set("PATH", path)
}

/// Somebody with a client certificate in a file that was made so.
fn certificate(make: impl FnOnce(&Program) -> std::path::PathBuf) -> String {
    let program = with_certificate();
    let file = make(&program);
    line(program.set("AZURE_CLIENT_CERTIFICATE_PATH", file))
}

/// A slow metadata service's, whose address is fixed, is `a_metadata_service_that_takes_a_connection_is_waited_for` in the library.
const ROWS: &[Row] = &[
    ("wrong secret", || line(but("AZURE_CLIENT_SECRET", "not-this-one")), "AADSTS7000215|az ad app credential reset"),
    (
        "wrong tenant",
        || line(but("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000000")),
        "AADSTS90002|check AZURE_TENANT_ID|!new secret",
    ),
    (
        "application of another tenant",
        || line(but("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000000")),
        "AADSTS700016|az ad sp show --id CLIENT_ID|!new secret",
    ),
    ("AZURE_TENANT_ID in quotes", || line(but("AZURE_TENANT_ID", "\"t\"")), "AZURE_TENANT_ID: it holds something that is not an id"),
    (
        "AZURE_AUTHORITY_HOST in plain http",
        || line(but("AZURE_AUTHORITY_HOST", "http://login.microsoftonline.com")),
        "AZURE_AUTHORITY_HOST: it is not an https address, such as https://login.microsoftonline.com",
    ),
    (
        "AZURE_TOKEN_CREDENTIALS misspelled",
        || line(but("AZURE_TOKEN_CREDENTIALS", "ManagedIdentity")),
        "AZURE_TOKEN_CREDENTIALS: it is none of prod, dev, EnvironmentCredential",
    ),
    (
        "managed identity that isn't assigned",
        || {
            let program = Program::new();
            let variables = program.fake.managed_identity();
            let stranger = "00000000-0000-0000-0000-000000000000";
            line(program.set_all(variables).set("AZURE_CLIENT_ID", stranger))
        },
        "a managed identity was asked: it answered 400: |az vm identity assign|AZURE_CLIENT_ID",
    ),
    ("AZURE_TENANT_ID missing", || line(but("AZURE_TENANT_ID", "")), "AZURE_TENANT_ID: it is not set|set AZURE_TENANT_ID, AZURE_CLIENT_ID"),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH: no such file",
        || certificate(|_| "/nonexistent/app.pem".into()),
        "the client certificate in /nonexistent/app.pem: No such file",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH: PKCS#12",
        || {
            certificate(|program| {
                openssl(program, "pkcs12 -export -in cert.pem -inkey key.pem -out app.pfx -passout pass:x");
                program.home().join("app.pfx")
            })
        },
        "it is not PEM; if it is PKCS#12|openssl pkcs12 -in /|app.pfx -nodes -out ",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH: encrypted key",
        || {
            certificate(|program| {
                openssl(program, "pkey -in key.pem -aes256 -passout pass:x -out encrypted.pem");
                join(program, &["cert.pem", "encrypted.pem"], "both.pem")
            })
        },
        "its private key is encrypted|AZURE_CLIENT_CERTIFICATE_PASSWORD|openssl pkey -in /",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH: a key of an elliptic curve",
        || {
            certificate(|program| {
                openssl(
                    program,
                    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ec-key.pem -out ec.pem -subj /CN=app -days 3",
                );
                join(program, &["ec.pem", "ec-key.pem"], "both.pem")
            })
        },
        "not one of RSA with 2048 bits or more",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH: no key",
        || certificate(|program| program.home().join("cert.pem")),
        "it has no private key|one file, in PEM",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH: no certificate",
        || certificate(|program| program.home().join("key.pem")),
        "it has no certificate of its private key",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH: another key's",
        || {
            certificate(|program| {
                openssl(program, "genrsa -out other.pem 2048");
                join(program, &["cert.pem", "other.pem"], "both.pem")
            })
        },
        "it has no certificate of its private key|belong together",
    ),
    (
        "AZURE_CLIENT_CERTIFICATE_PATH without AZURE_CLIENT_ID",
        || line(with_certificate().set("AZURE_CLIENT_ID", "")),
        "AZURE_CLIENT_ID: it is not set|AZURE_CLIENT_CERTIFICATE_PATH",
    ),
    (
        "key typo",
        || line_of(&but("AZURE_TENANT_ID", ocicrypt_kms_fakes::azure::TENANT), "azurekms://team.vault.azure.net/kk"),
        "KeyNotFound|check vault, key and version|az keyvault key recover",
    ),
    (
        "vault typo",
        || {
            let program = Program::with_credentials();
            program.write("config.toml", "deadline-seconds = 3\n[azure]\nsuffixes = ['vault.invalid']");
            line_of(&program, "azurekms://nosuch-team.vault.invalid/k")
        },
        "nosuch-team.vault.invalid|address",
    ),
    (
        "A256KW in a vault",
        || line_of(&Program::with_credentials(), &format!("{KEY}?algorithm=A256KW")),
        "it can have RSA-OAEP-256, or leave algorithm= out",
    ),
    (
        "federated token file missing",
        || line(workload("/nonexistent/token")),
        "AZURE_FEDERATED_TOKEN_FILE: the token in /nonexistent/token is not used: No such file|projected volume",
    ),
    (
        "federated token file empty",
        || {
            let program = Program::new();
            let file = program.write("token", "\n");
            line(workload(file))
        },
        "AZURE_FEDERATED_TOKEN_FILE: |token is not used: the file is empty",
    ),
    (
        "federated token of somebody else",
        || {
            let program = Program::new();
            let file = program.write("token", "not-this-one");
            line(workload(file))
        },
        "AADSTS700213|az ad app federated-credential list",
    ),
    (
        "login host: DNS failure",
        || line(but("AZURE_AUTHORITY_HOST", "https://login.invalid")),
        "login.invalid can't be reached: |AZURE_AUTHORITY_HOST",
    ),
    (
        "authority with an unknown CA",
        || line(but("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")),
        "UnknownIssuer|SSL_CERT_FILE|!check the network",
    ),
    (
        "az not logged in",
        || line(cli("echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1")),
        "Please run 'az login'|log in (az login)",
    ),
    (
        "az not there",
        || line(Program::new().set("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential").set("PATH", "/nonexistent")),
        "az not found on PATH|log in (az login)",
    ),
    (
        "az hangs",
        || {
            let program = cli("echo $$ > \"$HOME/pid\"\nexec sleep 600");
            program.configure("deadline-seconds = 1");
            let start = Instant::now();
            let line = line_of(&program, KEY);
            assert!(start.elapsed().as_secs() < 10, "{line}");
            let id = std::fs::read_to_string(program.home().join("pid")).unwrap();
            let state = || std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
            // It is gone, or waits for whoever inherits it to notice.
            while !(state().is_empty() || state().contains(" Z ")) {
                assert!(start.elapsed().as_secs() < 20, "it still runs");
                std::thread::yield_now();
            }
            line
        },
        "the Azure CLI was asked: there was no answer within 1.0 seconds|az account get-access-token",
    ),
    ("no CA roots", || line(but("SSL_CERT_FILE", "/nonexistent/ca.pem")), "!make a new secret"),
];

#[test]
fn each_is_answered_with_the_thing_and_the_remedy() {
    let wrong: Vec<_> = ROWS
        .iter()
        .filter_map(|(name, line, says)| {
            let line = line();
            let holds = |part: &&str| part.strip_prefix('!').map_or_else(|| line.contains(*part), |never| !line.contains(never));
            let missing: Vec<_> = says.split('|').filter(|part| !holds(part)).collect();
            (!missing.is_empty()).then(|| format!("{name}: {line}\n    lacks {missing:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
