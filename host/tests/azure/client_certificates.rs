//! An application that proves itself by a certificate, made and converted as people do, with OpenSSL.

use std::path::PathBuf;
use std::process::Command;

use ocicrypt_kms_fakes::azure::TENANT;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use ocicrypt_kms_testing::program::text_of;

use super::program::Program;
use super::{KEY, uri};

/// OpenSSL in the user's home folder.
pub fn openssl(program: &Program, arguments: &str) {
    text_of(Command::new("openssl").args(arguments.split(' ')).current_dir(program.home()));
}

/// Puts files of the user's home folder behind one another.
pub fn join(program: &Program, parts: &[&str], whole: &str) -> PathBuf {
    let text: Vec<_> = parts.iter().map(|part| std::fs::read_to_string(program.home().join(part)).unwrap()).collect();
    program.write(whole, text.concat())
}

/// A user whose application has the certificate in `cert.pem`, with its key in `key.pem` and both in `app.pem`.
pub fn with_certificate() -> Program {
    let program = Program::with_credentials().set("AZURE_CLIENT_SECRET", "");
    openssl(&program, "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=app -days 3");
    openssl(&program, "x509 -in cert.pem -outform DER -out cert.der");
    openssl(&program, "rsa -in key.pem -RSAPublicKey_out -outform DER -out public.der");
    let read = |name: &str| std::fs::read(program.home().join(name)).unwrap();
    program.fake.trust_certificate(&read("cert.der"), &read("public.der"));
    let file = join(&program, &["cert.pem", "key.pem"], "app.pem");
    program.set("AZURE_CLIENT_CERTIFICATE_PATH", file)
}

/// Wraps and unwraps.
fn works(program: &Program) {
    program.fake.clear_requests();
    let annotation = annotation_of(&program.exchange(&wrapping(&[&uri(KEY)])));
    assert_eq!(opts_data_of(&program.exchange(&unwrapping(&[&uri(KEY)], &annotation))), OPTS_DATA);
    let paths: Vec<_> = program.fake.requests().into_iter().filter(|request| !request.is_kms()).map(|request| request.path).collect();
    assert_eq!(paths, vec![format!("/{TENANT}/oauth2/v2.0/token"); 2]);
}

#[test]
fn a_client_certificate_works_in_each_form_that_openssl_writes_in_pem() {
    let program = with_certificate();
    works(&program);
    openssl(&program, "rsa -in key.pem -traditional -out pkcs1.pem");
    openssl(&program, "req -x509 -newkey rsa:2048 -nodes -keyout other-key.pem -out other.pem -subj /CN=above -days 3");
    openssl(&program, "pkcs12 -export -in cert.pem -inkey key.pem -out app.pfx -passout pass:");
    // The command that the refusal of PKCS#12 has.
    openssl(&program, "pkcs12 -in app.pfx -nodes -out converted.pem -passin pass:");
    let pkcs1 = join(&program, &["pkcs1.pem", "cert.pem"], "traditional.pem");
    let chain = join(&program, &["key.pem", "other.pem", "cert.pem"], "chain.pem");
    let converted = program.home().join("converted.pem");
    let mut program = program;
    for file in [pkcs1, chain, converted] {
        program = program.set("AZURE_CLIENT_CERTIFICATE_PATH", file);
        works(&program);
    }
    let program = program.set("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "true").set("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential");
    works(&program);
}

#[test]
fn a_certificate_that_is_renewed_and_unknown_to_the_application_is_refused_with_the_remedy() {
    let program = with_certificate();
    works(&program);
    openssl(&program, "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=app -days 3");
    join(&program, &["cert.pem", "key.pem"], "app.pem");
    let (code, line) = program.refused(&wrapping(&[&uri(KEY)]));
    assert!(
        code == 5 && line.contains("a client certificate (AZURE_CLIENT_CERTIFICATE_PATH) was asked: it answered 401: AADSTS700027"),
        "{code} {line}"
    );
    assert!(line.contains("az ad app credential list --cert --id CLIENT_ID"), "{line}");
}

#[test]
fn a_client_secret_comes_before_a_certificate() {
    let program = Program::with_credentials().set("AZURE_CLIENT_CERTIFICATE_PATH", "/nonexistent");
    works(&program);
}
