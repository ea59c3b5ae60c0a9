//! `SECURITY.md` says of each claim which test shows it: those tests exist.

use std::collections::BTreeSet;
use std::path::Path;

use ocicrypt_kms_testing::checkout;

/// Words in code spans that look like the names of tests and are none.
const OTHERS: [&str; 2] = ["no_new_privs", "open_by_handle_at"];
/// What the column of a table is called that has the tests.
const COLUMNS: [&str; 3] = ["shown in", "shown in `host/tests/server/`", "test"];

#[test]
fn each_claim_of_security_md_names_a_test_and_every_test_that_it_names_exists() {
    let document = std::fs::read_to_string(checkout::path("SECURITY.md")).unwrap();
    let tests = tests();
    let mut wrong = Vec::new();
    for name in spans(&document).filter(|span| is_test_name(span) && !OTHERS.contains(span)) {
        // A name may be cut, if only one continues it.
        let (start, end) = name.split_once('…').unwrap_or((name, ""));
        let is_meant = |test: &&String| if name.contains('…') { test.starts_with(start) && test.ends_with(end) } else { *test == name };
        let found = tests.iter().filter(is_meant).count();
        if found != 1 {
            wrong.push(format!("{found} tests are called {name}"));
        }
    }
    wrong.extend(claims(&document).filter(|row| !is_shown(row)).map(|row| format!("no test is named by: {row}")));
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(claims(&document).count() > 60, "the tables of SECURITY.md are read");
}

/// The text of the code spans.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A sentence with underscores.
fn is_test_name(span: &str) -> bool {
    let letters = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "_…".contains(character);
    span.chars().all(letters) && span.matches('_').count() >= 2
}

/// The last cells of the rows of tables whose last column has the tests.
fn claims(document: &str) -> impl Iterator<Item = &str> {
    let mut is_claim = false;
    document.lines().filter(move |line| {
        let Some(last) = line.strip_prefix('|').and_then(last_cell) else {
            is_claim = false;
            return false;
        };
        if COLUMNS.contains(&last) {
            is_claim = true;
            return false;
        }
        is_claim && !last.starts_with("---")
    })
}

fn last_cell(row: &str) -> Option<&str> {
    row.trim_end().trim_end_matches('|').rsplit('|').next().map(str::trim)
}

/// A test, a file or folder of tests, or a fuzz target.
fn is_shown(row: &str) -> bool {
    let is_there = |span: &str| is_test_name(span) || checkout::path("host/tests").join(span).exists() || checkout::path(span).exists();
    spans(last_cell(row).unwrap_or_default()).any(is_there)
}

/// The names that tests can have.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["component", "example", "fakes", "guest-build", "host", "protocol", "testing"] {
        collect(&checkout::path(folder), &mut found);
    }
    found
}

/// The names of all functions: which of them are tests is decided by attributes, by `proptest!` and by the conformance table.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(str::trim_start);
            let functions = lines.filter_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
            found.extend(functions.filter_map(|rest| Some(rest.split_once(['(', '<'])?.0.to_owned())));
        }
    }
}
