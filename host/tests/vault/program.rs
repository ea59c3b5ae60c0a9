//! The program, as container tools start it, with the environment that OpenBao's own program has.

use std::process::{Command, Output};

use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of};
use ocicrypt_kms_testing::program::{self, piped};

use super::KEY;
use super::user::{unwrapping, wrapping};

/// Runs it with its home folder in the server's.
fn run(bao: &Bao, variables: &[(&str, &str)], message: &[u8]) -> Output {
    let mut command = Command::new(program::path());
    command
        .arg("--debugLog")
        .arg(bao.path("debug.log"))
        .env_clear()
        .env("HOME", bao.path(""))
        .env("OCICRYPT_KMS_CONFIG", bao.write("config.toml", ""))
        .env("BAO_ADDR", bao.address())
        .env("BAO_CACERT", bao.authority())
        .envs(variables.iter().copied());
    piped(&mut command, message)
}

#[test]
fn the_program_wraps_and_unwraps_with_the_token_of_a_login() {
    let bao = Bao::start();
    let output = run(&bao, &[], &wrapping(KEY));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b""[..]));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.starts_with(&format!("ocicrypt-kms: {KEY}: there is no token for Vault; set BAO_TOKEN, log in (`bao login`)")), "{line}");
    // Where OpenBao's own program puts it.
    bao.run(&["login", "-no-print", ROOT]);
    let wrapped = run(&bao, &[], &wrapping(KEY));
    assert!(wrapped.status.success(), "{}", String::from_utf8_lossy(&wrapped.stderr));
    let annotation = annotation_of(&wrapped.stdout);
    let unwrapped = run(&bao, &[("BAO_TOKEN", ROOT)], &unwrapping(KEY, &annotation));
    assert_eq!(opts_data_of(&unwrapped.stdout), OPTS_DATA);
    let log = std::fs::read_to_string(bao.path("debug.log")).unwrap();
    assert!(log.contains("calling Vault") && !log.contains(ROOT), "{log}");
}

#[test]
fn the_program_reaches_a_proxy_at_a_unix_socket_with_what_is_left_to_it() {
    let bao = Bao::start();
    let proxy = bao.proxy(Some(r#"path "transit/+/k" { capabilities = ["update"] }"#));
    let address = format!("unix://{}", proxy.socket.display());
    let variables = [("BAO_ADDR", address.as_str())];
    let annotation = annotation_of(&program::answer(run(&bao, &variables, &wrapping(KEY))));
    assert_eq!(opts_data_of(&program::answer(run(&bao, &variables, &unwrapping(KEY, &annotation)))), OPTS_DATA);
}
