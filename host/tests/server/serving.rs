//! A server under test.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::program::Program;
use serde_json::Value;

/// How long a server may take to start, to log what it was asked for, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many lines of its log are kept: of a server that runs for long, the newest.
const KEPT: usize = 100_000;

/// A running server, killed when it is dropped.
pub struct Serving {
    child: Child,
    log: Arc<Log>,
    /// Where it listens, as it said.
    pub addresses: Vec<String>,
}

/// What it has logged so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    grew: Condvar,
}

/// A user with the key `local://team` and a configuration that lends it.
pub fn user() -> Program {
    user_with("")
}

/// The same, with more lines in the configuration: first those that stand before its sections.
pub fn user_with(config: &str) -> Program {
    let mut user = Program::new();
    user.set("OCICRYPT_KMS_CONFIG", user.write("config.toml", format!("keys = [\"local://*\"]\n{config}")));
    std::fs::create_dir(user.home().join("keys")).unwrap();
    assert!(user.run(&["keygen", "team"], b"").status.success());
    user
}

/// The path of this user's socket, and the argument that names it.
pub fn socket(user: &Program) -> (PathBuf, String) {
    let path = user.home().join("kms.sock");
    let address = format!("unix://{}", path.display());
    (path, address)
}

impl Serving {
    /// A server on this user's Unix socket.
    pub fn on_socket(user: &Program) -> Self {
        Self::start(user, &["--listen", &socket(user).1])
    }

    /// A server with these arguments.
    pub fn start(user: &Program, arguments: &[&str]) -> Self {
        Self::spawn(user.command(&[&["serve", "--log-format", "json"], arguments].concat()))
    }

    /// A server that this command starts.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, lines) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || lines.fill(BufReader::new(stderr)));
        let mut serving = Self { child, log, addresses: Vec::new() };
        serving.wait_until("ready", |line| line["message"] == "ready" || line.as_str().is_some_and(|line| line.ends_with(" ready")));
        serving.addresses = serving.logged().iter().filter_map(listening).collect();
        serving
    }

    /// All lines of the log so far.
    pub fn logged(&self) -> Vec<Value> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Waits for a line with this message.
    pub fn wait_for(&self, message: &str) -> Value {
        self.wait_until(message, |line| line["message"] == message)
    }

    /// Waits for a line that `is_it`.
    pub fn wait_until(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let lines = self.log.lines.lock().unwrap();
        let missing = |lines: &mut Vec<Value>| !lines.iter().any(&is_it);
        let (lines, waited) = self.log.grew.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        assert!(!waited.timed_out(), "`{what}` was not logged: {lines:?}");
        lines.iter().find(|line| is_it(line)).unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits for it to end.
    pub fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end: {:?}", self.logged());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A number from /proc/PID/status, in KiB.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// The address in a line of either format that says where a server listens.
fn listening(line: &Value) -> Option<String> {
    let address = match line.as_str() {
        Some(line) => line.split_once(" listening address=\"")?.1.strip_suffix('"'),
        None => line["address"].as_str().filter(|_| line["message"] == "listening"),
    };
    address.map(str::to_owned)
}

impl Log {
    fn fill(&self, stderr: impl BufRead) {
        for line in stderr.lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
            let mut lines = self.lines.lock().unwrap();
            if lines.len() == KEPT {
                lines.drain(..KEPT / 2);
            }
            lines.push(line);
            drop(lines);
            self.grew.notify_all();
        }
        self.grew.notify_all();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
