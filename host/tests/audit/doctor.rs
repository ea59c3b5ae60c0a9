//! `ocicrypt-kms doctor` finds a log that could not be written, and leaves no trace of looking.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use ocicrypt_kms_testing::program::answer;

use super::stage::Stage;

/// Lines in `[audit]`, what is done to the log, and what doctor says of that.
type Case = (&'static str, fn(&Stage), &'static str);

/// What doctor says of the log.
fn finding(stage: &Stage) -> String {
    let text = String::from_utf8(stage.user.run(&["doctor"], b"").stdout).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains(" audit log: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_owned()
}

/// Each file of the user's folder, with what tells that it was written to.
fn traces(stage: &Stage) -> BTreeMap<PathBuf, (u64, u64, i64, i64)> {
    let entries = std::fs::read_dir(stage.user.home()).unwrap().map(|entry| entry.unwrap().path());
    let trace = |path: PathBuf| {
        let data = path.symlink_metadata().unwrap();
        (path, (data.ino(), data.len(), data.mtime(), data.ctime_nsec()))
    };
    entries.map(trace).collect()
}

fn chmod(path: PathBuf, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn doctor_finds_a_log_that_could_not_be_written_and_leaves_it_as_it_is() {
    let cases: [Case; 12] = [
        ("", |stage| std::os::unix::fs::symlink("elsewhere", stage.path()).unwrap(), "it is a symbolic link"),
        ("", |stage| std::fs::create_dir(stage.path()).unwrap(), "it is no file"),
        ("", |stage| fifo(&stage.path()), "it is no file"),
        ("", |stage| std::fs::write(stage.path(), "precious\n").unwrap(), "it is no audit log"),
        (
            "",
            |stage| {
                stage.wrap();
                std::fs::write(stage.path(), stage.text().replace("wrap", "Wrap")).unwrap();
            },
            "its last line is no record: it was changed",
        ),
        (
            "",
            |stage| {
                stage.wrap();
                let rotated = stage.printed(&["rotate"]);
                std::fs::write(rotated.trim(), "nothing\n").unwrap();
                std::fs::write(stage.path(), "").unwrap();
            },
            "which it continues: it is no audit log",
        ),
        (
            "",
            |stage| {
                stage.wrap();
                let rotated = std::path::PathBuf::from(stage.printed(&["rotate"]).trim());
                std::fs::remove_file(&rotated).unwrap();
                fifo(&rotated);
                std::fs::write(stage.path(), "").unwrap();
            },
            "which it continues: it is no file",
        ),
        (
            "",
            |stage| {
                stage.wrap();
                chmod(stage.path(), 0o602);
            },
            "its mode is 0602, so others could change it; no key is used without a record; if nobody else has changed it",
        ),
        ("checkpoint-key = \"missing.pem\"", |_| (), "missing.pem: No such file"),
        (
            "checkpoint-key = \"audit.pem\"",
            |stage| {
                answer(stage.audit(&["keygen", "audit.pem"]));
                chmod(stage.user.home().join("audit.pem"), 0o644);
            },
            "audit.pem: its mode is 0644, so others could read the secret in it; if nobody else has read it",
        ),
        ("checkpoint-key = \"audit.pem\"", |stage| drop(stage.user.write("audit.pem", "")), "audit.pem: "),
        (
            "checkpoint-key = \"audit.pem\"\ncheckpoint-file = \"keys\"",
            |stage| drop(answer(stage.audit(&["keygen", "audit.pem"]))),
            "keys: the audit log can't be written: it is no file",
        ),
    ];
    for (settings, make, says) in cases {
        let stage = Stage::with("", settings);
        make(&stage);
        let before = traces(&stage);
        let line = finding(&stage);
        assert!(line.starts_with("PROBLEM audit log: ") && line.contains(says), "{says}: {line}");
        assert_eq!(traces(&stage), before, "{says}");
    }
    let stage = Stage::new();
    for (file, says) in [("/dev/full", "it is no file"), ("/nonexistent/audit.jsonl", "make its folder")] {
        stage.user.write("config.toml", format!("[audit]\nfile = \"{file}\"\n"));
        let line = finding(&stage);
        assert!(line.starts_with(&format!("PROBLEM audit log: {file}: ")) && line.contains(says), "{line}");
    }
}

fn fifo(path: &std::path::Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0).unwrap();
}

#[test]
fn doctor_is_content_with_a_log_that_could_be_written_and_leaves_it_as_it_is() {
    let stage = Stage::with("", "checkpoint-key = \"audit.pem\"");
    answer(stage.audit(&["keygen", "audit.pem"]));
    let content = || {
        let before = traces(&stage);
        assert_eq!(finding(&stage), format!("ok      audit log: {}", stage.path().display()));
        assert_eq!(traces(&stage), before);
    };
    content();
    stage.wrap();
    content();
    std::fs::write(stage.path(), &stage.text()[..stage.text().len() - 30]).unwrap();
    content();
    stage.wrap();
    stage.printed(&["rotate"]);
    stage.printed(&["checkpoint"]);
    content();
    stage.is_whole();
}

#[test]
fn doctor_says_which_file_a_relative_name_is() {
    let stage = Stage::new();
    stage.user.write("config.toml", "[audit]\nfile = \"audit.jsonl\"\n");
    let line = finding(&stage);
    assert!(line.contains(&format!("audit.jsonl, which is {} here and another file in other folders", stage.path().display())), "{line}");
}
