//! Tests of what there is one of in a process: a panic hook, handlers of signals, mappings of memory.

use std::process::Command;

/// The variable that says which test a process was started for.
const TEST: &str = "OCICRYPT_KMS_TEST_ALONE";

/// Runs the body of the test `name` in a process where no other test runs.
///
/// `name` is what the test is called in the list of all, such as `process_wide::a_test`: the process is this one's program, started for that
/// test alone.
///
/// # Panics
/// If the body does, or if there is no test of this name.
pub fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(TEST).is_some_and(|test| test == name) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    let output = command.args(["--exact", name, "--nocapture"]).env(TEST, name).output().expect("a process");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{name}, alone: {text}{errors}");
}
