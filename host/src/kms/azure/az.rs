//! Runs the Azure CLI for `azure_identity`, with the environment that the host was given and nothing of the client's on its standard input.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::process::{Output, Stdio};

use async_trait::async_trait;
use azure_identity::Executor;

use crate::Environment;

/// Starts programs in an environment.
pub(super) struct Az(pub(super) Environment);

impl fmt::Debug for Az {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Az")
    }
}

#[async_trait]
impl Executor for Az {
    async fn run(&self, program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
        let mut command = tokio::process::Command::new(program);
        if let Some(variables) = self.0.variables() {
            command.env_clear().envs(variables);
        }
        // The shell ends with the exchange that waited for it; what it started ends by itself, without anybody to read its answer.
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await
    }
}
