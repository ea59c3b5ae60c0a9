//! The program that an entry of ocicrypt.json starts: which one it is, and whether it answers as clients expect.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ocicrypt_kms::error::printable;
use ocicrypt_kms::shown;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How long a program may take for each of the two questions, and how much of its answer is read.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ANSWER: u64 = 4096;
/// How often is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// How its `--version` begins.
const NAME: &str = "ocicrypt-kms ";
/// A message that asks for nothing: no key is used, and nothing is recorded. It is answered after the configuration was read.
const MESSAGE: &[u8] = br#"{"op":"doctor"}"#;
/// What the answer to it says.
const NO_OPERATION: &str = "(`op`)";

/// Whether this is a program like this one, which can be started as clients do: what is good about it, or what is wrong, and the remedy.
pub(super) fn check(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let own = |reason: String| format!("{reason}; name this one: \"path\": \"{}\"", own_path().display());
    let told = ask(program, &["--version"], b"").map_err(|reason| own(format!("it {reason} when it is asked for its --version")))?;
    let Some(version) = told.out.strip_prefix(NAME).filter(|_| told.status.success()) else {
        return Err(own("it is another program, which does not answer --version as this one does".into()));
    };
    let version = printable(version.trim(), 32);
    // Without the arguments themselves, which may be anything.
    let with = if arguments.is_empty() { "" } else { " ARGS" };
    let again = format!("; try it as clients do: echo '{{}}' | {}{with}", shown::path(program));
    let answer = ask(program, arguments, MESSAGE).map_err(|reason| format!("it {reason} when it is given a message{again}"))?;
    let said = answer.error.trim();
    if answer.out.is_empty() && said.contains(NO_OPERATION) {
        return Ok(format!("version {version}, which answers"));
    }
    let said = said.strip_prefix("ocicrypt-kms: ").unwrap_or(said);
    let said = if said.is_empty() { "something else than it should".into() } else { printable(said, 512) };
    Err(format!("with these `args` it answers messages so: {said}{again}"))
}

fn own_path() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/ocicrypt-kms".into())
}

struct Answer {
    status: ExitStatus,
    out: String,
    error: String,
}

/// Runs a program in a process group of its own, which is ended when it has taken too long. Why there is no answer, as what "it" does.
fn ask(program: &Path, arguments: &[&str], input: &'static [u8]) -> Result<Answer, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("can't be started ({error})"))?;
    let until = Instant::now() + PATIENCE;
    let mut stdin = child.stdin.take().expect("it is piped");
    // Short enough for any pipe; whoever doesn't read it has nothing to say either.
    let _ = stdin.write_all(input);
    drop(stdin);
    let (out, error) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let has_ended = ended(&child, until);
    let text = |part: mpsc::Receiver<Vec<u8>>| {
        let read = part.recv_timeout(until.saturating_duration_since(Instant::now()) + PAUSE).unwrap_or_default();
        String::from_utf8_lossy(&read).into_owned()
    };
    let (out, error) = (text(out), text(error));
    // Whatever it has started ends with it. Until it is waited for, nobody else has its number.
    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let status = child.wait().map_err(|error| format!("can't be waited for ({error})"))?;
    if has_ended { Ok(Answer { status, out, error }) } else { Err(format!("does not end within {} seconds", PATIENCE.as_secs())) }
}

/// Whether it ends in time. It is left to be waited for.
fn ended(child: &Child, until: Instant) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        match waitid(WaitId::Pid(Pid::from_child(child)), options) {
            Ok(None) if Instant::now() < until => std::thread::sleep(PAUSE),
            waited => return matches!(waited, Ok(Some(_))),
        }
    }
}

/// Reads so much as is looked at, and then no more, which ends whoever goes on writing.
fn reader(from: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = from.expect("it is piped").take(MAX_ANSWER).read_to_end(&mut text);
        sender.send(text)
    });
    receiver
}

/// The program that a command is: itself if it is a path, else the first one in `PATH`, as clients look for it.
pub(super) fn find(command: &str) -> Result<PathBuf, String> {
    let shown = shown::path(command);
    let is_program = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if command.contains('/') {
        let path = PathBuf::from(command);
        if is_program(&path) {
            return Ok(path);
        }
        let own = own_path();
        return Err(format!("{shown}, which is no program that can be started; this one is \"path\": \"{}\"", own.display()));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(command)).find(is_program);
    found.ok_or_else(|| {
        let own = own_path();
        format!(
            "{shown}, which is in no folder of PATH; write its whole path there, or install it: install {} /usr/local/bin",
            own.display()
        )
    })
}
