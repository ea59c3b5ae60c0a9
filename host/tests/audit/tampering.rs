//! What somebody changes in a log is found.

use ocicrypt_kms_testing::program::refusal;

use super::stage::{Stage, sealed, wrapping};

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

#[test]
fn a_number_that_no_log_has_is_no_number_of_a_record() {
    for number in ["0", "9007199254740993", "18446744073709551615"] {
        let line = changed(|lines| {
            let first = lines[0].replacen("\"seq\":1", &format!("\"seq\":{number}"), 1);
            *lines = vec![sealed(&first.replacen("\"event\":\"use\"", "\"event\":\"continued\"", 1))];
        });
        assert!(
            line.contains("line 1 of the file") && line.contains("it is no record of this version: its `seq` is out of range"),
            "{line}"
        );
    }
}

#[test]
fn a_log_that_ends_with_the_greatest_number_is_written_to_no_more_and_ends_nobody() {
    for number in ["9007199254740992", "18446744073709551615"] {
        let stage = Stage::new();
        stage.wrap();
        let last = sealed(&stage.lines()[1].replacen("\"seq\":2", &format!("\"seq\":{number}"), 1));
        std::fs::write(stage.path(), format!("{last}\n")).unwrap();
        let (code, line) = refusal(&stage.user.run(&[], &wrapping()));
        assert!(code == 1 && line.contains("no key is used without a record"), "{line}");
    }
}

#[test]
fn a_first_record_that_claims_to_continue_a_log_is_none() {
    let line = changed(|lines| *lines = vec![sealed(&lines[0].replacen("\"event\":\"use\"", "\"event\":\"continued\"", 1))]);
    assert!(line.contains("it says that it continues another file, and has the number of a log's first record"), "{line}");
}

#[test]
fn a_log_without_the_file_that_is_written_to_is_told_of() {
    let stage = Stage::new();
    stage.wrap();
    stage.printed(&["rotate"]);
    std::fs::remove_file(stage.path()).unwrap();
    let text = stage.is_whole();
    assert!(text.contains("audit.jsonl is not there: what was written since the last rotation can't be told"), "{text}");
}
