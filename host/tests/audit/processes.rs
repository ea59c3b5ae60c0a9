//! Many processes, one chain.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use ocicrypt_kms::Digest;
use ocicrypt_kms_testing::messages::annotation_of;

use super::stage::{Stage, member, wrapping};

/// How many processes run side by side.
const PROCESSES: usize = 24;

fn start(stage: &Stage) -> Child {
    let mut child = stage.user.command(&[]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A process that was killed reads nothing.
    let _ = child.stdin.take().unwrap().write_all(&wrapping());
    child
}

/// The digests of the annotations that these processes answered.
fn answered(children: Vec<Child>) -> BTreeSet<String> {
    let outputs = children.into_iter().map(|child| child.wait_with_output().unwrap());
    outputs.filter(|output| output.status.success()).map(|output| Digest::of(&annotation_of(&output.stdout)).to_string()).collect()
}

/// The digests of the annotations that are on record as wrapped.
fn recorded(stage: &Stage) -> BTreeSet<String> {
    let text = stage.printed(&["show", "--json", "--outcome", "ok", "--key", "*"]);
    text.lines().map(|line| member(&serde_json::from_str(line).unwrap(), "annotation").to_owned()).collect()
}

#[test]
fn processes_that_run_side_by_side_make_one_chain() {
    let stage = Stage::new();
    let answered = answered((0..PROCESSES).map(|_| start(&stage)).collect());
    assert_eq!((answered.len(), stage.lines().len()), (PROCESSES, 2 * PROCESSES));
    stage.is_whole();
    assert_eq!(recorded(&stage), answered);
}

#[test]
fn rotation_under_load_keeps_the_chain() {
    let stage = Stage::new();
    stage.wrap();
    let children: Vec<_> = (0..PROCESSES).map(|_| start(&stage)).collect();
    let mut rotated = 0;
    for _ in 0..8 {
        rotated += usize::from(stage.audit(&["rotate"]).status.success());
    }
    let mut answered = answered(children);
    assert_eq!(answered.len(), PROCESSES);
    assert!(rotated > 0);
    let text = stage.is_whole();
    let records = 2 * (PROCESSES + 1) + rotated;
    assert!(text.contains(&format!(" {records} records, 1 to {records};")), "{text}");
    let recorded = recorded(&stage);
    answered.retain(|digest| !recorded.contains(digest));
    assert!(answered.is_empty());
}

#[test]
fn who_is_killed_in_the_middle_leaves_a_log_that_goes_on() {
    let stage = Stage::new();
    let mut all = BTreeSet::new();
    for round in 0..6 {
        let mut children: Vec<_> = (0..8).map(|_| start(&stage)).collect();
        for (index, child) in children.iter_mut().enumerate() {
            std::thread::sleep(Duration::from_micros(700 * (index + round) as u64));
            child.kill().unwrap();
        }
        all.extend(answered(children));
    }
    stage.wrap();
    stage.is_whole();
    assert!(all.is_subset(&recorded(&stage)), "what was answered is on record");
}

#[test]
fn a_torn_line_is_kept_and_told_of() {
    let stage = Stage::new();
    stage.wrap();
    let text = stage.text();
    let torn = &text[..text.len() - 30];
    std::fs::write(stage.path(), torn).unwrap();
    let before = stage.printed(&["verify"]);
    assert!(before.contains("line 2: it is torn"), "{before}");
    stage.wrap();
    assert!(stage.text().starts_with(torn), "the file is only appended to");
    let after = stage.is_whole();
    assert!(after.contains("line 2:") && after.contains("are torn, as a crash leaves them"), "{after}");
}
