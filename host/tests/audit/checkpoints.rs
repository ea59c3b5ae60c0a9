//! Signed checkpoints: a log that was cut off is told from a short one.

use ocicrypt_kms_testing::program::{answer, refusal};

use super::stage::Stage;

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
