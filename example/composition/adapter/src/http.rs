//! One POST to the service, by `wasi:http`.

use ocicrypt_kms_protocol::json::{Object, quote, string};
use wasip2::cli::environment::get_environment;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

use crate::bindings::ocicrypt::keyprovider::types::{Error, KmsFailure};

/// What one `blocking-write-and-flush` takes.
const CHUNK: usize = 4096;
/// The longest answer.
const MAX_ANSWER: usize = 512 << 10;

/// Posts an object of one member, and gives the member `answer` of the answer's `data`.
pub(crate) fn post(path: &str, member: &str, value: &str, answer: &str) -> Result<String, Error> {
    let body = format!("{{{}:{}}}", quote(member), quote(value));
    let (status, text) = send(path, body.as_bytes())?;
    if status != 200 {
        let message = String::from_utf8_lossy(&text).chars().filter(|character| !character.is_control()).take(1024).collect();
        return Err(Error::Kms(KmsFailure { status, code: String::new(), message }));
    }
    let outer = Object::parse(&text).unwrap_or_default();
    let value = outer.object("data").ok().and_then(|data| data.get(answer)).and_then(string).map(|text| text.into_owned());
    value.ok_or_else(|| Error::Corrupt(format!("the service's answer has no `{answer}`")))
}

fn send(path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), Error> {
    let request = request(path)?;
    let outgoing = request.body().map_err(|()| unavailable("the request has no body"))?;
    let response = handle(request, None).map_err(|code| unavailable(&format!("{code:?}")))?;
    let stream = outgoing.write().map_err(|()| unavailable("the request's body can't be written"))?;
    body.chunks(CHUNK).try_for_each(|chunk| stream.blocking_write_and_flush(chunk)).map_err(|error| unavailable(&error.to_string()))?;
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(|code| unavailable(&format!("{code:?}")))?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => Ok((response.status(), read(&response)?)),
        Some(Ok(Err(code))) => Err(unavailable(&format!("{code:?}"))),
        _ => Err(unavailable("there is no answer")),
    }
}

fn request(path: &str) -> Result<OutgoingRequest, Error> {
    let (address, token) = (variable("BAO_ADDR")?, variable("BAO_TOKEN")?);
    let (scheme, authority) = match address.split_once("://") {
        Some(("https", authority)) => (Scheme::Https, authority),
        Some(("http", authority)) => (Scheme::Http, authority),
        _ => return Err(Error::InvalidInput("BAO_ADDR is no http or https address".into())),
    };
    let headers = [("x-vault-token", token), ("content-type", "application/json".into())];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.into_bytes()));
    let headers = Fields::from_list(&headers).map_err(|_| Error::InvalidInput("BAO_TOKEN can't stand in a header".into()))?;
    let request = OutgoingRequest::new(headers);
    let set = request
        .set_method(&Method::Post)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map(|()| request).map_err(|()| Error::InvalidInput("BAO_ADDR is no address".into()))
}

fn variable(name: &str) -> Result<String, Error> {
    let value = get_environment().into_iter().find_map(|(other, value)| (other == name).then_some(value));
    value.ok_or_else(|| Error::InvalidInput(format!("the environment has no {name}")))
}

fn read(response: &IncomingResponse) -> Result<Vec<u8>, Error> {
    let body: IncomingBody = response.consume().map_err(|()| unavailable("the answer has no body"))?;
    let stream = body.stream().map_err(|()| unavailable("the answer's body can't be read"))?;
    let mut text = Vec::new();
    loop {
        match stream.blocking_read(CHUNK as u64) {
            Ok(bytes) => text.extend(bytes),
            Err(StreamError::Closed) => return Ok(text),
            Err(error) => return Err(unavailable(&error.to_string())),
        }
        if text.len() > MAX_ANSWER {
            return Err(Error::Corrupt(format!("the service's answer is longer than {MAX_ANSWER} bytes")));
        }
    }
}

fn unavailable(reason: &str) -> Error {
    Error::Unavailable(format!("the service can't be reached: {reason}"))
}
