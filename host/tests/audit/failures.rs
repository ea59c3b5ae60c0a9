//! No record, no key.

use std::process::{Command, Output};

use ocicrypt_kms_testing::messages::keyunwrap;
use ocicrypt_kms_testing::program::{self, piped, refusal};

use super::stage::{KEY, Stage, wrapping};

fn refused(stage: &Stage) -> String {
    let (code, line) = refusal(&stage.user.run(&[], &wrapping()));
    assert!(code == 1 && line.contains("no key is used without a record"), "{line}");
    line
}

/// The program in a shell that runs `before` first.
fn in_shell(stage: &Stage, program: &str, before: &str, input: &[u8]) -> Output {
    let mut command = Command::new(program);
    if program == "unshare" {
        command.args(["--user", "--map-root-user", "--mount", "sh"]);
    }
    command.args(["-c", &format!("{before}; exec \"$0\""), program::path()]);
    stage.user.as_user(&mut command);
    piped(command.env("PATH", "/usr/bin:/bin"), input)
}

#[test]
fn a_log_in_no_folder_is_an_error_that_names_it() {
    let stage = Stage::new();
    stage.user.write("config.toml", "[audit]\nfile = \"/nonexistent/audit.jsonl\"\n");
    let line = refused(&stage);
    assert!(line.starts_with("/nonexistent/audit.jsonl: the audit log can't be written: "), "{line}");
    assert!(line.contains("; make its folder, or name another file in `[audit]`") && !line.contains("make room"), "{line}");
}

#[test]
fn a_log_that_others_could_change_is_not_written_to() {
    let stage = Stage::new();
    stage.wrap();
    for mode in [0o620, 0o602, 0o666] {
        std::fs::set_permissions(stage.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let line = refused(&stage);
        assert!(line.contains(&format!("its mode is {mode:04o}, so others could change it")), "{line}");
        assert!(line.ends_with(&format!("chmod go-w {}", stage.path().display())), "{line}");
    }
    std::fs::set_permissions(stage.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    stage.wrap();
}

#[test]
fn a_log_that_is_to_be_kept_and_is_nowhere_is_an_error() {
    let stage = Stage::new();
    stage.user.write("config.toml", "[audit]\nrotate-mib = 5\n");
    let (code, line) = refusal(&stage.user.run(&[], &wrapping()));
    assert!(code == 2 && line.contains("audit: it says how the log is kept and names neither `file` nor `sinks`"), "{line}");
}

#[test]
fn a_filter_that_no_record_can_pass_is_an_error() {
    let stage = Stage::new();
    stage.wrap();
    let times = "as 2026-01-31T08:00:00Z or 2026-01-31T09:00:00+01:00";
    for (option, value, right) in [
        ("--operation", "unrap", "unwrap"),
        ("--outcome", "refused", "denied"),
        ("--since", "yesterday", times),
        ("--until", "2026-01-31", times),
    ] {
        let (code, line) = refusal(&stage.audit(&["show", option, value]));
        assert!(code == 2 && line.contains(value) && line.contains(right), "{line}");
    }
    assert_eq!(stage.printed(&["show", "--operation", "wrap", "--outcome", "ok"]).lines().count(), 2);
}

#[test]
fn a_log_that_is_no_file_or_not_a_log_is_not_written_to() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path()).unwrap();
    refused(&stage);
    std::fs::remove_dir(stage.path()).unwrap();
    std::os::unix::fs::symlink("elsewhere", stage.path()).unwrap();
    assert!(refused(&stage).contains("it is a symbolic link; no key is used without a record; name the file itself"));
    std::fs::remove_file(stage.path()).unwrap();
    for text in ["precious\n", "precious", "{\"a\":1}\n"] {
        std::fs::write(stage.path(), text).unwrap();
        assert!(refused(&stage).contains("it is no audit log; no key is used without a record; it is left as it is"));
        assert_eq!(stage.text(), text);
    }
}

#[test]
fn a_file_that_can_grow_no_more_gives_no_key_and_goes_on_later() {
    let stage = Stage::new();
    let annotation = stage.wrap();
    let whole = stage.text();
    let unwrap = keyunwrap(&[("kmscrypt", &[KEY])], &annotation);
    // Half a KiB more than there is: in the middle of the record.
    let blocks = whole.len() / 512 + 1;
    for ignored in ["trap '' XFSZ; ", ""] {
        let output = in_shell(&stage, "sh", &format!("{ignored}ulimit -f {blocks}"), &unwrap);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
    assert!(stage.text().starts_with(&whole) && !stage.text().ends_with('\n'));
    stage.unwraps(&annotation);
    assert!(stage.is_whole().contains("are torn"));
}

#[test]
fn a_full_disk_is_told_of_before_a_key_is_looked_for() {
    let stage = Stage::new();
    let folder = stage.user.home().join("small");
    std::fs::create_dir(&folder).unwrap();
    stage.user.write("config.toml", format!("[audit]\nfile = \"{}/audit.jsonl\"\n", folder.display()));
    std::fs::remove_dir_all(stage.user.home().join("keys")).unwrap();
    let mount = format!("mount -t tmpfs -o size=64k tmpfs {}", folder.display());
    if !in_shell(&stage, "unshare", &format!("{mount} || exit 77; exit 0"), b"").status.success() {
        // Not every system lets its users mount a small disk.
        return;
    }
    let (code, line) = refusal(&in_shell(&stage, "unshare", &mount, &wrapping()));
    assert!(code == 1 && line.contains("the disk is full; no key is used without a record; make room"), "{line}");
    let read_only = format!("{mount} && mount -o remount,ro {}", folder.display());
    let (code, line) = refusal(&in_shell(&stage, "unshare", &read_only, &wrapping()));
    assert!(code == 1 && line.contains("Read-only file system"), "{line}");
}

#[test]
fn a_lock_that_is_not_given_back_is_waited_for_until_the_deadline() {
    let stage = Stage::with("deadline-seconds = 1", "");
    stage.wrap();
    let file = std::fs::File::open(stage.path()).unwrap();
    file.lock().unwrap();
    let began = std::time::Instant::now();
    let line = refused(&stage);
    assert!(line.contains("deadline") && line.contains("fuser ") && began.elapsed() < std::time::Duration::from_secs(5), "{line}");
    file.unlock().unwrap();
    stage.wrap();
    stage.is_whole();
}
