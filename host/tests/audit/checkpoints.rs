//! Signed checkpoints: a log that was cut off is told from a short one.

use ocicrypt_kms_testing::program::{answer, refusal};

use super::stage::{Stage, sealed};

fn stage(every: u32) -> Stage {
    let stage = Stage::with("", &format!("checkpoint-key = \"audit.pem\"\ncheckpoint-every = {every}"));
    answer(stage.audit(&["keygen", "audit.pem"]));
    stage
}

/// Drops so many lines from the end.
fn cut(stage: &Stage, count: usize) {
    let lines = stage.lines();
    std::fs::write(stage.path(), lines[..lines.len() - count].iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn a_log_that_was_cut_off_after_a_checkpoint_is_found_by_it() {
    let stage = stage(1000);
    stage.wrap();
    stage.printed(&["checkpoint"]);
    stage.wrap();
    assert!(stage.is_whole().contains("it agrees with 1 checkpoint\n"));
    cut(&stage, 2);
    stage.is_whole();
    cut(&stage, 1);
    let line = stage.is_bad(&[]);
    assert!(line.contains("the log was cut off: record 2 was signed for at") && line.contains("the last one here is 1"), "{line}");
    let line = stage.is_bad(&["--checkpoint", "audit.jsonl.checkpoints", "--public-key", "audit.pem.pub", "audit.jsonl"]);
    assert!(line.contains("the log was cut off"), "{line}");
}

#[test]
fn a_comparison_that_was_asked_for_and_has_nothing_to_compare_is_an_error() {
    let stage = stage(1000);
    stage.wrap();
    stage.user.write("empty", "");
    let output = stage.audit(&["verify", "--checkpoint", "empty", "--public-key", "audit.pem.pub"]);
    let (code, line) = refusal(&output);
    assert!(code == 2 && line.contains("it has no checkpoint that the log could be compared with"), "{line}");
}

#[test]
fn a_log_that_was_written_anew_is_found_by_a_checkpoint() {
    let stage = stage(1000);
    stage.wrap();
    stage.printed(&["checkpoint"]);
    std::fs::remove_file(stage.path()).unwrap();
    stage.wrap();
    assert!(stage.is_bad(&[]).contains("it is another record than the one that was signed for"));
    // Also when the other record was signed for, too.
    stage.printed(&["checkpoint"]);
    assert!(stage.is_bad(&[]).contains("it is another record than the one that was signed for"));
}

#[test]
fn a_checkpoint_is_made_after_so_many_records() {
    let stage = stage(4);
    for _ in 0..5 {
        stage.wrap();
    }
    let checkpoints = std::fs::read_to_string(stage.user.home().join("audit.jsonl.checkpoints")).unwrap();
    assert_eq!(checkpoints.lines().count(), 2);
    assert!(stage.is_whole().contains("it agrees with 2 checkpoints"));
}

#[test]
fn a_key_that_is_missing_when_a_checkpoint_is_due_gives_no_answer() {
    let stage = stage(1);
    std::fs::remove_file(stage.user.home().join("audit.pem")).unwrap();
    let (code, line) = refusal(&stage.user.run(&[], &super::stage::wrapping()));
    assert!(code == 2 && line.starts_with("audit.pem: "), "{line}");
}

#[test]
fn a_key_is_made_whole_or_not_at_all_and_never_in_place_of_another() {
    let stage = stage(1000);
    let read = |name: &str| std::fs::read(stage.user.home().join(name)).ok();
    let before = (read("audit.pem"), read("audit.pem.pub"));
    let (code, line) = refusal(&stage.audit(&["keygen", "audit.pem"]));
    assert!(code == 2 && line == "audit.pem: there is such a file already, and a key is never overwritten; give another name", "{line}");
    assert_eq!((read("audit.pem"), read("audit.pem.pub")), before);
    stage.user.write("half.pem.pub", "somebody's");
    let (_, line) = refusal(&stage.audit(&["keygen", "half.pem"]));
    assert!(line.starts_with("half.pem.pub: there is such a file already"), "{line}");
    assert_eq!((read("half.pem"), read("half.pem.pub")), (None, Some(b"somebody's".to_vec())));
}

#[test]
fn a_checkpoint_of_another_key_is_none() {
    let stage = stage(1000);
    stage.wrap();
    stage.printed(&["checkpoint"]);
    answer(stage.audit(&["keygen", "other.pem"]));
    let (_, line) = refusal(&stage.audit(&["verify", "--public-key", "other.pem.pub"]));
    assert!(line.contains("line 1: its signature is not of this key"), "{line}");
}

/// A log of two files and then some records, with a checkpoint of each file's end: records 2, 5 and 7 were signed for.
fn rotated() -> Stage {
    let stage = stage(1000);
    for _ in 0..2 {
        stage.wrap();
        stage.printed(&["checkpoint"]);
        stage.printed(&["rotate"]);
    }
    stage.wrap();
    stage.printed(&["checkpoint"]);
    let signed: Vec<_> = checkpoints(&stage).lines().map(|line| line.split(',').nth(2).unwrap().to_owned()).collect();
    assert_eq!(signed, [r#""seq":2"#, r#""seq":5"#, r#""seq":8"#]);
    assert!(stage.is_whole().contains("it agrees with 3 checkpoints"));
    stage
}

fn checkpoints(stage: &Stage) -> String {
    std::fs::read_to_string(stage.user.home().join("audit.jsonl.checkpoints")).unwrap()
}

fn put_away(stage: &Stage, numbers: &[u32]) {
    for number in numbers {
        std::fs::remove_file(stage.user.home().join(format!("audit.jsonl.{number:012}"))).unwrap();
    }
}

/// A log in place of the one that is there: one record that claims to continue another file, with this number.
fn claims(stage: &Stage, number: u64, previous: &str) {
    let first = stage.lines().remove(0);
    let (_, rest) = first.split_once(",\"time\"").unwrap();
    let (rest, _) = rest.rsplit_once(",\"prev\"").unwrap();
    let line = format!("{{\"v\":1,\"seq\":{number},\"time\"{rest},\"prev\":\"{previous}\",\"hash\":\"{}\"}}", "0".repeat(64));
    std::fs::write(stage.path(), format!("{}\n", sealed(&line))).unwrap();
}

#[test]
fn a_log_that_claims_to_continue_another_one_beyond_each_checkpoint_is_bad() {
    for explicit in [false, true] {
        let stage = rotated();
        put_away(&stage, &[2, 5]);
        claims(&stage, 1_000_000, &"ab".repeat(32));
        let arguments = ["--checkpoint", "audit.jsonl.checkpoints", "--public-key", "audit.pem.pub", "audit.jsonl"];
        let arguments = if explicit { &arguments[..] } else { &[] };
        let line = stage.is_bad(arguments);
        assert!(line.contains("the log begins with record 1000000, and record 2 was signed for at"), "{line}");
        // Nor does it help to say that it begins there.
        let line = stage.is_bad(&[arguments, &["--from", "1000000"]].concat());
        assert!(line.contains("no checkpoint is of record 999999 or a later one"), "{line}");
    }
}

#[test]
fn a_checkpoint_of_a_record_that_was_put_away_is_missing_unless_the_log_is_said_to_begin_later() {
    let stage = rotated();
    // The first record that is here says which one it follows, and that was signed for.
    put_away(&stage, &[2]);
    assert!(stage.is_whole().contains("it agrees with 3 checkpoints"));
    put_away(&stage, &[5]);
    let line = stage.is_bad(&[]);
    assert!(line.contains("the log begins with record 6, and record 2 was signed for at") && line.contains("--from"), "{line}");
}

#[test]
fn a_log_is_known_to_begin_where_it_is_said_to() {
    let stage = rotated();
    put_away(&stage, &[2]);
    let text = stage.printed(&["verify", "--from", "3"]);
    assert!(text.contains("it agrees with 3 checkpoints"), "{text}");
    put_away(&stage, &[5]);
    let text = stage.printed(&["verify", "--from", "6"]);
    assert!(text.contains("it agrees with 2 checkpoints") && text.contains("checkpoints of records that were put away: 1"), "{text}");
    for from in ["1", "5"] {
        let line = stage.is_bad(&["--from", from]);
        assert!(line.contains(&format!("the log begins with record 6, not with record {from} or one before it")), "{line}");
    }
    // What is said to begin later may begin earlier; what is here is compared.
    let text = stage.printed(&["verify", "--from", "8"]);
    assert!(text.contains("it agrees with 2 checkpoints"), "{text}");
}

#[test]
fn a_log_that_claims_to_continue_a_signed_record_and_follows_another_is_bad() {
    let stage = rotated();
    put_away(&stage, &[2, 5]);
    claims(&stage, 9, &"ab".repeat(32));
    let line = stage.is_bad(&["--from", "9"]);
    assert!(line.contains("it follows another record than the one that was signed for at"), "{line}");
}

#[test]
fn an_empty_log_agrees_with_no_checkpoint() {
    let stage = rotated();
    put_away(&stage, &[2, 5]);
    std::fs::write(stage.path(), "").unwrap();
    assert!(stage.is_bad(&[]).contains("the log was cut off: record 8 was signed for"));
    assert!(stage.is_bad(&["--from", "9"]).contains("the log was cut off: record 8 was signed for"));
    std::fs::remove_file(stage.user.home().join("audit.jsonl.checkpoints")).unwrap();
    assert!(stage.is_bad(&["--from", "9"]).contains("there is no record"));
}

#[test]
fn a_log_of_its_first_record_alone_agrees_with_no_later_checkpoint() {
    let stage = stage(1000);
    stage.wrap();
    stage.printed(&["checkpoint"]);
    cut(&stage, 1);
    assert!(stage.is_bad(&[]).contains("the log was cut off: record 2 was signed for at"));
}

#[test]
fn checkpoints_that_can_not_be_looked_for_are_not_taken_for_none() {
    let stage = stage(1000);
    stage.wrap();
    // A loop of links: for root, too, there is no way to look.
    std::os::unix::fs::symlink("audit.jsonl.checkpoints", stage.user.home().join("audit.jsonl.checkpoints")).unwrap();
    let (code, line) = refusal(&stage.audit(&["verify"]));
    assert!(code == 2 && line.contains("audit.jsonl.checkpoints"), "{line}");
}
