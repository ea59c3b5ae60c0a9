//! What doctor found, as lines for a person.

use std::fmt::Write;

use ocicrypt_kms::error::printable;

/// The most bytes of one line, without its mark and what it is about.
const MAX_LINE: usize = 2048;

/// What was found about one thing.
pub(super) enum Finding {
    Good(String),
    /// Neither good nor bad.
    Note(String),
    Problem(String),
}

impl From<Result<String, String>> for Finding {
    fn from(result: Result<String, String>) -> Self {
        result.map_or_else(Self::Problem, Self::Good)
    }
}

impl Finding {
    /// The same with another text.
    pub fn map(self, text: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Good(finding) => Self::Good(text(finding)),
            Self::Note(finding) => Self::Note(text(finding)),
            Self::Problem(finding) => Self::Problem(text(finding)),
        }
    }
}

/// All that was found.
#[derive(Default)]
pub(super) struct Report {
    pub text: String,
    pub problems: u32,
}

impl Report {
    pub fn add(&mut self, what: &str, finding: impl Into<Finding>) {
        let (mark, text) = match finding.into() {
            Finding::Good(text) => ("ok     ", text),
            Finding::Note(text) => ("note   ", text),
            Finding::Problem(text) => {
                self.problems += 1;
                ("PROBLEM", text)
            }
        };
        writeln!(self.text, "{mark} {what}: {}", printable(&text, MAX_LINE)).expect("a string can be written");
    }
}
