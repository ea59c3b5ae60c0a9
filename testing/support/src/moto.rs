//! moto, a stand-in for AWS, with boto3, Amazon's client library, beside it: `moto_server.py` in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_fakes::cached;
use serde_json::{Value, json};

/// The region of all keys here.
pub const REGION: &str = "eu-central-1";

/// A process with a server and a client.
pub struct Moto {
    /// The URL of all services.
    pub endpoint: String,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    child: Mutex<Child>,
}

impl Moto {
    /// A server of its own.
    pub fn start() -> Self {
        let python = cached("python/bin/python");
        let mut child = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/moto_server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} can't be started ({error}): run `tools/setup test`", python.display()));
        let pipes = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut moto = Self { endpoint: String::new(), pipes: Mutex::new(pipes), child: Mutex::new(child) };
        let greeting = moto.read(&mut moto.lock());
        moto.endpoint = text(&greeting, "endpoint");
        moto
    }

    /// The server of all tests that don't need one for themselves. It ends with the test's process, which closes its input.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One call by boto3, which has to work.
    pub fn call(&self, service: &str, operation: &str, arguments: Value) -> Value {
        let answer = self.try_call(service, operation, arguments);
        assert!(answer.get("error").is_none(), "{operation}: {answer}");
        answer
    }

    /// One call by boto3, with its result or `error`.
    pub fn try_call(&self, service: &str, operation: &str, arguments: Value) -> Value {
        let mut pipes = self.lock();
        writeln!(pipes.0, "{}", json!({"service": service, "operation": operation, "arguments": arguments})).unwrap();
        self.read(&mut pipes)
    }

    fn lock(&self) -> MutexGuard<'_, (ChildStdin, BufReader<ChildStdout>)> {
        self.pipes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read(&self, pipes: &mut (ChildStdin, BufReader<ChildStdout>)) -> Value {
        let mut line = String::new();
        pipes.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("moto_server.py ended; run `tools/setup test`"))
    }

    /// A new symmetric key's ARN.
    pub fn symmetric_key(&self) -> String {
        text(&self.call("kms", "create_key", json!({}))["KeyMetadata"], "Arn")
    }

    /// A new RSA key's ARN.
    pub fn rsa_key(&self) -> String {
        text(&self.call("kms", "create_key", json!({"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}))["KeyMetadata"], "Arn")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A member that is a string.
pub fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}")).to_owned()
}

/// Bytes, as `moto_server.py` takes them.
pub fn blob(data: &[u8]) -> Value {
    json!({"base64": bytes::encode(data)})
}

/// Bytes, as `moto_server.py` answers them.
pub fn bytes_of(value: &Value) -> Vec<u8> {
    bytes::decode(value["base64"].as_str().unwrap()).unwrap().to_vec()
}
