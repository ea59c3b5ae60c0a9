//! What the fakes have in common as programs for scripts.

use std::fmt::Display;
use std::io::{Read, Write};
use std::process::ExitCode;

/// Says what is wrong with the arguments of a program, and how it is used.
pub fn misused(name: &str, problem: impl Display, usage: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{name}: {problem}\n{usage}");
    ExitCode::from(2)
}

/// Prints the endpoint of a fake that is ready for calls, and returns when standard input closes.
pub fn announce(endpoint: &str) {
    let mut stdout = std::io::stdout();
    if writeln!(stdout, "{endpoint}").and_then(|()| stdout.flush()).is_ok() {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
}
