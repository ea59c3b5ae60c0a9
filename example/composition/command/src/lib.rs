//! A key provider component as a program: a message on standard input, the answer on standard output, or one line on standard error.
//! Composed with a provider and an implementation of `kms` it is what `wasmtime run` takes; see `docs/composition.md`.

use ocicrypt_kms_protocol::{Answer, MAX_MESSAGE, Message};
use wasip2::cli::{stderr::get_stderr, stdin::get_stdin, stdout::get_stdout};
use wasip2::io::streams::{OutputStream, StreamError};

#[allow(missing_docs, unsafe_code)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package example:command; world command { import ocicrypt:keyprovider/provider@0.1.0; }",
        generate_all,
    });
}

use bindings::ocicrypt::keyprovider::provider::{Settings, exchange};

const PROVIDER: &str = "kmscrypt";
/// What one `blocking-write-and-flush` takes.
const CHUNK: usize = 4096;

/// What `wasi:cli/run` runs.
pub struct Command;

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        match answer() {
            Ok(answer) => write(&get_stdout(), &answer),
            Err(error) => write(&get_stderr(), format!("{error}\n").as_bytes()).and(Err(())),
        }
    }
}

fn answer() -> Result<Vec<u8>, String> {
    let message = read()?;
    let message = Message::parse(&message).map_err(|error| error.to_string())?;
    let settings = Settings { name: PROVIDER.into(), default_recipients: Vec::new(), options: Vec::new() };
    let given = message.for_provider(&message.parameter(PROVIDER), None).map_err(|error| error.to_string())?;
    let answer = exchange(&settings, &given).map_err(|error| format!("{error:?}"))?;
    let answer = Answer::parse(message.operation(), &answer).map_err(|error| error.to_string())?;
    Ok(answer.write(message.spelling()).to_vec())
}

/// All of standard input, up to the longest message.
fn read() -> Result<Vec<u8>, String> {
    let (stdin, mut message) = (get_stdin(), Vec::new());
    while message.len() <= MAX_MESSAGE {
        match stdin.blocking_read(CHUNK as u64) {
            Ok(bytes) => message.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(message)
}

fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), ()> {
    bytes.chunks(CHUNK).try_for_each(|chunk| stream.blocking_write_and_flush(chunk)).map_err(|_| ())
}

// The names of the exports are no symbols that a linker for another target takes.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code)]
mod export {
    use super::Command;
    wasip2::cli::command::export!(Command);
}
