//! The two protocols, and what stands beside the service in gRPC.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of, unwrapping, wrapping};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::client::{both_ways, call, connect, runtime, ttrpc_call};
use super::serving::{Serving, socket, user};

const TEAM: &[&str] = &["local://team"];
const TIME: Duration = Duration::from_secs(10);

#[test]
fn a_layers_key_is_wrapped_and_unwrapped_by_grpc() {
    let user = user();
    let server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        both_ways(&channel, &wrapping(TEAM), |annotation| unwrapping(&[], annotation), OPTS_DATA).await.unwrap();
        both_ways(&channel, &wrapping(TEAM), |annotation| unwrapping(TEAM, annotation), OPTS_DATA).await.unwrap();
    });
    let line = server.wait_for("done");
    assert_eq!((&line["key"], &line["operation"]), (&"local://team".into(), &"wrap".into()));
    assert_eq!(line["caller"], format!("uid:{}", rustix::process::getuid().as_raw()));
}

#[test]
fn either_method_heeds_what_the_message_asks_for() {
    let user = user();
    let _server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let annotation = annotation_of(&call(&channel, "UnWrapKey", &wrapping(TEAM)).await.unwrap());
        assert_eq!(opts_data_of(&call(&channel, "WrapKey", &unwrapping(&[], &annotation)).await.unwrap()), OPTS_DATA);
    });
}

#[test]
fn the_provider_is_called_grpc_keyprovider_if_nothing_else_tells_its_name() {
    let user = user();
    let _server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let annotation = annotation_of(&call(&channel, "WrapKey", &keywrap(&[("grpc-keyprovider", TEAM)], OPTS_DATA)).await.unwrap());
        let unwrapped = call(&channel, "UnWrapKey", &keyunwrap(&[("grpc-keyprovider", &["Enabled"])], &annotation)).await.unwrap();
        assert_eq!(opts_data_of(&unwrapped), OPTS_DATA);
        let status = call(&channel, "WrapKey", &keywrap(&[("other", &[])], OPTS_DATA)).await.unwrap_err();
        assert!(status.message().contains("provider `grpc-keyprovider`"), "{status}");
    });
}

/// As ocicrypt-rs writes messages: the opts data is JSON text in a string, and answers are read as arrays of numbers only.
fn ocicrypt_rs_wrap() -> Vec<u8> {
    let opts_data = serde_json::Value::from(std::str::from_utf8(OPTS_DATA).unwrap());
    let key = BASE64.encode("local://team");
    format!(
        r#"{{"op":"keywrap","keywrapparams":{{"ec":{{"Parameters":{{"attestation-agent":["{key}"]}},"DecryptConfig":{{"Parameters":{{}}}}}},"optsdata":{opts_data}}},"keyunwrapparams":{{"dc":null,"annotation":null}}}}"#
    )
    .into_bytes()
}

fn ocicrypt_rs_unwrap(annotation: &[u8]) -> Vec<u8> {
    let key = BASE64.encode("local://team");
    format!(
        r#"{{"op":"keyunwrap","keywrapparams":{{"ec":null,"optsdata":null}},"keyunwrapparams":{{"dc":{{"Parameters":{{"attestation-agent":["{key}"]}}}},"annotation":"{}"}}}}"#,
        BASE64.encode(annotation)
    )
    .into_bytes()
}

/// What ocicrypt-rs's serde types read of an answer.
fn numbers(answer: &[u8], result: &str, field: &str) -> Vec<u8> {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
    serde_json::from_value(answer[result][field].clone()).unwrap()
}

#[test]
fn messages_of_ocicrypt_rs_are_understood_by_grpc_and_ttrpc() {
    let user = user();
    let ttrpc = format!("ttrpc+unix://{}/ttrpc.sock", user.home().display());
    let _server = Serving::start(&user, &["--listen", &socket(&user).1, "--listen", &ttrpc]);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let client = ttrpc::r#async::Client::connect(ttrpc.trim_start_matches("ttrpc+")).await.unwrap();
        let by_grpc = numbers(&call(&channel, "WrapKey", &ocicrypt_rs_wrap()).await.unwrap(), "keywrapresults", "annotation");
        let answer = ttrpc_call(&client, "WrapKey", &ocicrypt_rs_wrap(), TIME).await.unwrap();
        let by_ttrpc = numbers(&answer, "keywrapresults", "annotation");
        // What was wrapped by one is unwrapped by the other.
        let answer = ttrpc_call(&client, "UnWrapKey", &ocicrypt_rs_unwrap(&by_grpc), TIME).await.unwrap();
        assert_eq!(numbers(&answer, "keyunwrapresults", "optsdata"), OPTS_DATA);
        let answer = call(&channel, "UnWrapKey", &ocicrypt_rs_unwrap(&by_ttrpc)).await.unwrap();
        assert_eq!(numbers(&answer, "keyunwrapresults", "optsdata"), OPTS_DATA);
    });
}

#[test]
fn what_a_message_names_is_bounded_and_has_to_be_read_by_grpc_and_ttrpc() {
    let user = user();
    let ttrpc = format!("ttrpc+unix://{}/ttrpc.sock", user.home().display());
    let server = Serving::start(&user, &["--listen", &socket(&user).1, "--listen", &ttrpc]);
    let (name, many) = ("n".repeat(1 << 20), vec!["local://team"; 100_000]);
    let annotation = runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        annotation_of(&call(&channel, "WrapKey", &wrapping(TEAM)).await.unwrap())
    });
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        let client = ttrpc::r#async::Client::connect(ttrpc.trim_start_matches("ttrpc+")).await.unwrap();
        for (parameter, says) in [
            ((name.as_str(), TEAM), "1 to 128 bytes of printable text"),
            (("kmscrypt", &many[..]), "more than 64 values (of the provider `kmscrypt`)"),
            (("team", &["local:team"]), "the parameter of the provider `team`: "),
            (("team", &["team"]), "the parameter of the provider `team`: "),
        ] {
            for (method, message) in [("WrapKey", keywrap(&[parameter], OPTS_DATA)), ("UnWrapKey", keyunwrap(&[parameter], &annotation))] {
                let by_grpc = call(&channel, method, &message).await.unwrap_err();
                assert_eq!(by_grpc.code(), tonic::Code::InvalidArgument, "{by_grpc}");
                let by_ttrpc = ttrpc_call(&client, method, &message, TIME).await.unwrap_err().to_string();
                assert!(by_grpc.message().contains(says) && by_grpc.message().len() < 1024, "{by_grpc}");
                assert!(by_ttrpc.contains(says) && by_ttrpc.len() < 2048, "{by_ttrpc}");
            }
        }
    });
    assert!(server.logged().iter().all(|line| line.to_string().len() < 4096));
}

#[test]
fn health_is_told_and_the_service_describes_itself() {
    let user = user();
    let _server = Serving::on_socket(&user);
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        for service in ["", "keyprovider.KeyProviderService"] {
            let request = HealthCheckRequest { service: service.into() };
            let health = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
            assert_eq!(health.status(), ServingStatus::Serving, "{service}");
        }
        let list = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
        let mut answers = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::once(list)).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response else {
            panic!("no list of services");
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&"keyprovider.KeyProviderService") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    });
}
