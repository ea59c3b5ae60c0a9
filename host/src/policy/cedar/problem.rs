//! What is wrong with the text of a policy, and where.

use std::fmt;

use miette::Diagnostic;

use crate::error::printable;

/// A place in a policy's text.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Place {
    /// Where a byte of the text stands.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

impl fmt::Display for Place {
    /// `LINE:COLUMN`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Something about a policy's text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What it is, and mostly what to do.
    pub message: String,
}

/// The longest message about a policy, in bytes.
const MAX_MESSAGE: usize = 1024;

impl Problem {
    pub(super) fn at(text: &str, offset: usize, message: &str) -> Self {
        Self { place: Place::of(text, offset), message: printable(message, MAX_MESSAGE) }
    }

    /// What Cedar says.
    pub(super) fn of(text: &str, diagnostic: &(impl Diagnostic + ?Sized)) -> Self {
        let (offset, said) = said(diagnostic);
        Self::at(text, offset.unwrap_or(0), &said)
    }
}

/// What Cedar says, and of which byte. Its label says what was expected, its help what to do.
pub(super) fn said(diagnostic: &(impl Diagnostic + ?Sized)) -> (Option<usize>, String) {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let offset = label.as_ref().map(miette::LabeledSpan::offset);
    let expected = label.as_ref().and_then(|label| label.label()).unwrap_or_default().to_owned();
    let help = diagnostic.help().map(|help| help.to_string()).unwrap_or_default();
    let parts = [diagnostic.to_string(), expected, help];
    (offset, parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; "))
}

impl fmt::Display for Problem {
    /// `LINE:COLUMN: MESSAGE`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}
