//! What somebody changes in a log is found.

use ocicrypt_kms::Digest;
use ocicrypt_kms_testing::program::refusal;

use super::stage::{Stage, wrapping};

/// A log of four records, changed line by line; what `audit verify` says of it.
fn changed(change: impl FnOnce(&mut Vec<String>)) -> String {
    let stage = Stage::new();
    stage.wrap();
    stage.wrap();
    let mut lines = stage.lines();
    change(&mut lines);
    std::fs::write(stage.path(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    stage.is_bad(&[])
}

/// A record of this text, with a hash that fits.
fn sealed(line: &str) -> String {
    let (text, _) = line.rsplit_once(",\"hash\":\"").unwrap();
    format!("{text},\"hash\":\"{}\"}}", Digest::of(text.as_bytes()))
}

#[test]
fn a_changed_byte_is_found() {
    let line = changed(|lines| lines[1] = lines[1].replacen("\"outcome\":\"ok\"", "\"outcome\":\"oK\"", 1));
    assert!(line.contains("line 2 of the file, where the record with `seq` 2 belongs: it was changed"), "{line}");
    let line = changed(|lines| lines[3] = lines[3].replacen("wrap", "Wrap", 1));
    assert!(line.contains("line 4 of the file, where the record with `seq` 4 belongs: it was changed"), "{line}");
}

#[test]
fn a_changed_record_with_a_hash_that_fits_is_found_by_the_next_one() {
    let line = changed(|lines| lines[1] = sealed(&lines[1].replacen("\"outcome\":\"ok\"", "\"outcome\":\"oK\"", 1)));
    assert!(line.contains("line 3 of the file, where the record with `seq` 3 belongs: it follows another record"), "{line}");
}

#[test]
fn a_deleted_line_is_found() {
    let line = changed(|lines| drop(lines.remove(1)));
    assert!(line.contains("line 2 of the file, where the record with `seq` 2 belongs: its `seq` is 3: records are missing"), "{line}");
    let line = changed(|lines| drop(lines.remove(0)));
    assert!(line.contains("line 1 of the file, where the record with `seq` 1 belongs: its `seq` is 2"), "{line}");
}

#[test]
fn swapped_lines_are_found() {
    let line = changed(|lines| lines.swap(1, 2));
    assert!(line.contains("line 2 of the file, where the record with `seq` 2 belongs: its `seq` is 3"), "{line}");
}

#[test]
fn an_inserted_record_is_found() {
    let line = changed(|lines| lines.insert(2, sealed(&lines[1].replacen("\"seq\":2", "\"seq\":3", 1))));
    assert!(line.contains("line 3 of the file, where the record with `seq` 3 belongs: it follows another record"), "{line}");
    let line = changed(|lines| lines.insert(2, lines[1].clone()));
    assert!(line.contains("line 3 of the file, where the record with `seq` 3 belongs: its `seq` is 2"), "{line}");
}

#[test]
fn a_line_that_is_no_record_is_found() {
    for text in ["", "{}", "{\"v\":1,\"seq\":3"] {
        let line = changed(|lines| lines.insert(2, text.into()));
        assert!(line.contains("line 3 of the file, where the record with `seq` 3 belongs: it is torn"), "{line}");
    }
}

#[test]
fn what_can_be_read_before_a_bad_record_is_shown_and_the_exit_code_tells_of_it() {
    let stage = Stage::new();
    stage.wrap();
    stage.wrap();
    assert_eq!([stage.audit(&["show"]), stage.audit(&["verify"])].map(|output| output.status.code()), [Some(0), Some(0)]);
    let text = stage.text();
    std::fs::write(stage.path(), text.replacen("\"seq\":3", "\"seq\":4", 1)).unwrap();
    let output = stage.audit(&["show", "--json"]);
    assert_eq!((output.status.code(), stage.audit(&["verify"]).status.code()), (Some(7), Some(7)));
    assert_eq!(output.stdout, text.split_inclusive('\n').take(2).collect::<String>().into_bytes());
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.contains("line 3 of the file, where the record with `seq` 3 belongs: it was changed")
            && line.ends_with("; what follows is not shown\n"),
        "{line}"
    );
}

#[test]
fn a_file_that_is_missing_in_the_middle_is_found() {
    let stage = Stage::new();
    let mut files = Vec::new();
    for _ in 0..2 {
        stage.wrap();
        files.push(stage.printed(&["rotate"]).trim().to_owned());
    }
    stage.wrap();
    stage.is_whole();
    std::fs::rename(&files[1], stage.user.home().join("away")).unwrap();
    assert!(stage.is_bad(&[]).contains("line 1 of the file, where the record with `seq` 3 belongs: its `seq` is"));
    std::fs::remove_file(&files[0]).unwrap();
    let text = stage.is_whole();
    assert!(text.contains("which is not here"), "{text}");
}

#[test]
fn a_changed_last_line_is_not_taken_for_a_crash() {
    let stage = Stage::new();
    stage.wrap();
    std::fs::write(stage.path(), stage.text().replace("wrap", "Wrap")).unwrap();
    let line = refusal(&stage.user.run(&[], &wrapping())).1;
    assert!(line.contains("audit.jsonl: the audit log can't be written: its last line is no record: it was changed"), "{line}");
}
