//! What clients are told of failures: the code says whose turn it is, the message is what a process would print.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keywrap, unwrapping, wrapping};
use ocicrypt_kms_testing::program::{Program, refusal};
use tonic::Code;

use super::client::{call, connect, runtime, ttrpc_call};
use super::serving::{Serving, socket, user, user_with};

const TEAM: &[&str] = &["local://team"];

/// The status of an exchange by gRPC, which is the same by ttrpc.
fn status(user: &Program, message: &[u8]) -> tonic::Status {
    let ttrpc = format!("unix://{}/ttrpc.sock", user.home().display());
    let _server = Serving::start(user, &["--listen", &socket(user).1, "--listen", &format!("ttrpc+{ttrpc}")]);
    runtime().block_on(async {
        let channel = connect(&socket(user).0).await.unwrap();
        let status = call(&channel, "WrapKey", message).await.unwrap_err();
        let client = ttrpc::r#async::Client::connect(&ttrpc).await.unwrap();
        match ttrpc_call(&client, "WrapKey", message, Duration::from_secs(10)).await.unwrap_err() {
            ttrpc::Error::RpcStatus(other) => assert_eq!((other.code() as i32, other.message()), (status.code() as i32, status.message())),
            other => panic!("{other}"),
        }
        status
    })
}

/// The annotation of this user's key.
fn annotation(user: &Program) -> Vec<u8> {
    annotation_of(&user.run(&[], &wrapping(TEAM)).stdout)
}

/// The status says what the program prints for the same message.
fn assert_as_printed(user: &Program, message: &[u8], code: Code) {
    let status = status(user, message);
    assert_eq!(status.code(), code, "{status}");
    let (_, line) = refusal(&user.run(&[], message));
    assert_eq!(status.message(), line);
}

#[test]
fn a_malformed_message_is_an_invalid_argument() {
    let user = user();
    for message in [&b""[..], b"{", b"{}", br#"{"op":"other"}"#] {
        assert_as_printed(&user, message, Code::InvalidArgument);
    }
    assert_as_printed(&user, &wrapping(&["local://no/such"]), Code::InvalidArgument);
    assert_as_printed(&user, &unwrapping(&[], b"no annotation"), Code::InvalidArgument);
}

#[test]
fn a_key_that_is_missing_or_the_wrong_one_fails_a_precondition() {
    let user = user();
    assert_as_printed(&user, &wrapping(&["local://no-such-key"]), Code::FailedPrecondition);
    assert_as_printed(&user, &unwrapping(&["local://other"], &annotation(&user)), Code::FailedPrecondition);
}

#[test]
fn a_packet_that_was_changed_fails_a_precondition() {
    let user = user();
    let mut packet: serde_json::Value = serde_json::from_slice(&annotation(&user)).unwrap();
    let mut jwe = BASE64.decode(packet["wrapped_key"].as_str().unwrap()).unwrap();
    // In its tag.
    let place = jwe.len() - 5;
    jwe[place] = if jwe[place] == b'A' { b'B' } else { b'A' };
    packet["wrapped_key"] = BASE64.encode(jwe).into();
    assert_as_printed(&user, &unwrapping(&[], packet.to_string().as_bytes()), Code::FailedPrecondition);
}

#[test]
fn an_empty_list_of_keys_is_warned_of() {
    let user = user();
    let warned = |server: &Serving| {
        server
            .logged()
            .iter()
            .any(|line| line["level"] == "WARN" && line["message"].as_str().is_some_and(|message| message.contains("no key is lent")))
    };
    assert!(!warned(&Serving::on_socket(&user)));
    user.write("config.toml", "keys = []\n");
    assert!(warned(&Serving::on_socket(&user)));
}

#[test]
fn a_key_that_is_not_listed_is_denied_whoever_names_it() {
    let user = user_with("");
    user.write("config.toml", "keys = [\"local://other\"]\n");
    let by_client = status(&user, &wrapping(TEAM));
    assert_eq!(by_client.code(), Code::PermissionDenied, "{by_client}");
    assert!(by_client.message().contains("this server lends only the `keys` of its configuration"), "{by_client}");
    assert!(by_client.message().ends_with("add `local://team` to `keys` in the configuration, and restart the server"), "{by_client}");
    let by_image = status(&user, &unwrapping(&[], &annotation(&user)));
    assert_eq!((by_image.code(), by_image.message().contains("lends only")), (Code::PermissionDenied, true), "{by_image}");
}

#[test]
fn a_default_recipient_that_is_not_listed_is_denied_too() {
    let user = user();
    user.write("config.toml", "keys = [\"local://other\"]\ndefault-recipients = [\"local://team\"]\n");
    assert_eq!(status(&user, &keywrap(&[], OPTS_DATA)).code(), Code::PermissionDenied);
}

#[test]
fn the_key_of_the_command_line_counts_as_the_list() {
    let user = user();
    user.write("config.toml", "");
    assert!(user.run(&["keygen", "other"], b"").status.success());
    let _server = Serving::start(&user, &["--listen", &socket(&user).1, "--kmsURI", "local://team"]);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let annotation = annotation_of(&call(&channel, "WrapKey", &wrapping(&["local://other"])).await.unwrap());
        assert!(String::from_utf8(annotation).unwrap().contains("local://team"));
    });
}

#[test]
fn without_a_list_of_keys_no_server_starts() {
    let user = user();
    user.write("config.toml", "");
    let (code, line) = refusal(&user.run(&["serve", "--listen", &socket(&user).1], b""));
    assert_eq!(code, 2);
    assert!(line.contains("a server lends only the keys that are listed, and none are"), "{line}");
}
