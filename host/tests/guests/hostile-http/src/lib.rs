//! A component that asks endpoints of the host for whatever a test says. What it is told becomes the answer of the exchange, or an error of
//! it if no request succeeded: there is no answer then.
//!
//! The option `open` is a key URI, `usage` what for (`wrap`, `unwrap`). The option `send` has the requests: a line each of method, path and, after
//! `|`, headers as `name: value`, in which `\r` and `\n` stand for line ends. `body` is how many bytes each has; `report` an error to end with.

use std::sync::Mutex;

wit_bindgen::generate!({ path: "../../../../wit", world: "key-provider-http", generate_all });

use exports::ocicrypt::keyprovider::provider::{Guest, PacketInfo, Settings};
use ocicrypt::keyprovider::kms::{Key, Usage};
use ocicrypt::keyprovider::kms_http::{Endpoint, Request};
use ocicrypt::keyprovider::types::{Error, KmsFailure};

struct Hostile;

/// What a guest would keep from one exchange to the next, if instances lived on.
static KEPT: Mutex<Vec<Endpoint>> = Mutex::new(Vec::new());

impl Guest for Hostile {
    fn exchange(settings: Settings, message: Vec<u8>) -> Result<Vec<u8>, Error> {
        let option = |name: &str| settings.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default();
        let unwraps = message.windows(11).any(|window| window == b"\"keyunwrap\"");
        let usage = if option("usage") == "unwrap" { Usage::Unwrap } else { Usage::Wrap };
        let mut said = format!("kept {}\n", KEPT.lock().unwrap().len());
        let mut succeeded = false;
        if option("other-interface") == "yes" {
            said += &format!("{:?}\n", Key::open(&option("open"), usage).err());
        }
        match Endpoint::open(&option("open"), usage) {
            Err(error) => said += &format!("{error:?}\n"),
            Ok(endpoint) => {
                said += &format!("{:?}\n", endpoint.info());
                let body = vec![b'x'; option("body").parse().unwrap_or(0)];
                for line in option("send").lines() {
                    let told = send(&endpoint, line, &body);
                    succeeded |= told.is_ok();
                    said += &format!("{}\n", told.unwrap_or_else(|error| format!("{error:?}")));
                }
                KEPT.lock().unwrap().push(endpoint);
            }
        }
        match option("report").as_str() {
            "denied" => Err(Error::Denied("the policy forbids it, honestly".into())),
            "kms" => Err(Error::Kms(KmsFailure { status: 200, code: "OK".into(), message: "all is well".into() })),
            "unavailable" => Err(Error::Unavailable("come back tomorrow".into())),
            "corrupt" => Err(Error::Corrupt("who knows".into())),
            _ if succeeded => Ok(answer(unwraps, &said)),
            _ => {
                let mut lines: Vec<_> = said.lines().collect();
                lines.dedup();
                Err(Error::NoMatchingKey(lines.join(" ")))
            }
        }
    }

    fn inspect(_: Vec<u8>) -> Result<Vec<PacketInfo>, Error> {
        Endpoint::open("http-kms://kms/k", Usage::Unwrap).map(|_| Vec::new())
    }
}

/// What comes of one request.
fn send(endpoint: &Endpoint, line: &str, body: &[u8]) -> Result<String, Error> {
    let mut parts = line.split('|');
    let (method, path) = parts.next().and_then(|first| first.split_once(' ')).unwrap_or_default();
    let header =
        |header: &str| header.replace("\\r", "\r").replace("\\n", "\n").split_once(": ").map(|(name, value)| (name.into(), value.into()));
    let headers = parts.filter_map(header).collect();
    let response = endpoint.send(&Request { method: method.into(), path: path.into(), headers, body: body.to_vec() })?;
    Ok(format!("{} {:?} {}", response.status, response.headers, String::from_utf8_lossy(&response.body)))
}

/// `said` as an annotation, or as opts data with a `symkey`.
fn answer(unwraps: bool, said: &str) -> Vec<u8> {
    let numbers = |text: &str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
    match unwraps {
        false => format!(r#"{{"keywrapresults":{{"annotation":[{}]}}}}"#, numbers(said)),
        true => {
            // As JSON has it.
            let text: String = said.chars().map(|c| if matches!(c, '"' | '\\') || c.is_control() { ' ' } else { c }).collect();
            format!(r#"{{"keyunwrapresults":{{"optsdata":[{}]}}}}"#, numbers(&format!(r#"{{"symkey":"{text}"}}"#)))
        }
    }
    .into_bytes()
}

export!(Hostile);
