//! What `docs/audit-log.md` says is so.

use std::process::Command;

use ocicrypt_kms::audit::Verifier;

use super::stage::Stage;

const DOCS: &str = include_str!("../../../docs/audit-log.md");

/// The first block in this language.
fn block(language: &str, holds: &str) -> &'static str {
    let blocks = DOCS.split("```").skip(1).step_by(2);
    let mut texts = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    texts.find(|text| text.contains(holds)).unwrap()
}

fn shell(stage: &Stage, script: &str) -> String {
    let output = Command::new("sh").args(["-c", &format!("set -e\n{script}")]).current_dir(stage.user.home()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_example_is_a_log() {
    let mut verifier = Verifier::default();
    for line in block("jsonl", "").split_inclusive('\n') {
        assert!(verifier.line(line.as_bytes()).unwrap().is_some());
    }
    assert_eq!(verifier.finish().unwrap().records, 2);
}

#[test]
fn a_log_is_checked_with_a_few_lines_of_python_and_sha256sum() {
    let stage = Stage::new();
    stage.wrap();
    for text in [stage.text(), block("jsonl", "").to_owned()] {
        std::fs::write(stage.path(), &text).unwrap();
        let script = stage.user.write("check.py", block("python", "hashlib"));
        assert!(shell(&stage, &format!("python3 {} audit.jsonl", script.display())).starts_with("ok 2 "));
        let digest = shell(&stage, block("sh", "sha256sum\n"));
        assert!(text.lines().next().unwrap().contains(&format!("\"hash\":\"{}\"", digest.split(' ').next().unwrap())), "{digest}");
    }
}

#[test]
fn openssl_checks_a_checkpoint() {
    let stage = Stage::with("", "checkpoint-key = \"audit-key.pem\"");
    stage.printed(&["keygen", "audit-key.pem"]);
    stage.wrap();
    stage.printed(&["checkpoint"]);
    shell(&stage, block("sh", "openssl"));
    shell(&stage, "openssl pkey -in audit-key.pem -pubout | cmp - audit-key.pem.pub");
}
