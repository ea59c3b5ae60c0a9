//! Runs the Azure CLI for `azure_identity`, with the environment that the host was given and nothing of the client's on its standard input.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use azure_identity::Executor;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::Environment;

/// How long it may take: some seconds are usual, and Azure's other libraries wait for 10 to 13.
const PATIENCE: Duration = Duration::from_secs(15);

/// Starts programs in an environment.
pub(super) struct Az {
    environment: Environment,
    patience: Duration,
}

impl Az {
    pub(super) fn new(environment: Environment) -> Self {
        Self { environment, patience: PATIENCE }
    }
}

impl fmt::Debug for Az {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Az")
    }
}

/// The processes that were started. They end with the exchange that waits for them, at the latest.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // They may have ended by themselves; there is nobody to tell.
        let _ = self.0.take().map(|group| kill_process_group(group, Signal::KILL));
    }
}

#[async_trait]
impl Executor for Az {
    async fn run(&self, program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
        let mut command = tokio::process::Command::new(program);
        if let Some(variables) = self.environment.variables() {
            command.env_clear().envs(variables);
        }
        // A group of their own: the program is a shell that starts another one.
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn()?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let late =
            |_| io::Error::new(io::ErrorKind::TimedOut, format!("az did not answer within {:.0} seconds", self.patience.as_secs_f32()));
        let output = tokio::time::timeout(self.patience, child.wait_with_output()).await.map_err(late)?;
        // Its number may be another process's by now.
        group.0 = None;
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let az = Az { environment: Environment::empty(), patience: Duration::from_millis(300) };
        let error = runtime.block_on(az.run(OsStr::new("/bin/sh"), &[OsStr::new("-c"), OsStr::new(&script)])).unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().starts_with("az did not answer within"), "{error}");
        let id = std::fs::read_to_string(file).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        // It is gone, or waits for whoever inherits it to notice.
        while !(state().is_empty() || state().contains(" Z ")) {
            assert!(std::time::Instant::now() < until, "{}", state());
            std::thread::yield_now();
        }
        let quick = Az::new(Environment::empty());
        assert!(
            runtime.block_on(quick.run(OsStr::new("/bin/sh"), &[OsStr::new("-c"), OsStr::new("echo token")])).unwrap().status.success()
        );
    }
}
