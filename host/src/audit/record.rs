//! Records: one line of JSON each, and what chains it to the one before. `docs/audit-log.md` describes the format.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The version of the format: the member `v` of each record.
pub const VERSION: u32 = 1;
/// The longest line of a record in bytes, its end not counted. All that goes into one is bounded, and together shorter.
pub const MAX_LINE: usize = 64 << 10;
/// The greatest number of a record: JSON's numbers are exact up to it, no log gets there, and the one after it is no overflow.
pub(super) const MAX_SEQUENCE: u64 = 1 << 53;
/// What stands between the text that is hashed and its hash.
const HASH: &str = ",\"hash\":\"";
/// What stands after the hash.
const END: &str = "\"}";
/// How long the end of a line is that is not hashed.
const SEAL_LENGTH: usize = HASH.len() + 64 + END.len();
/// How each line begins.
pub(super) const START: &str = "{\"v\":1,\"seq\":";

/// Where a chain stands: its last record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// The record's number.
    pub sequence: u64,
    /// The record's hash.
    pub hash: Digest,
}

impl Position {
    /// Before the first record of a log.
    pub const GENESIS: Self = Self { sequence: 0, hash: Digest::from_bytes([0; 32]) };
}

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A key was asked for, and not used: it was refused, or lent in vain.
    Open,
    /// A lent key was used, or its use failed.
    Use,
    /// An exchange ended.
    #[default]
    Exchange,
    /// A file of the log begins where another one ended.
    Continued,
    /// A line that a crash left half-written stands before this record.
    Repaired,
    /// Records of this process could not be written before this one.
    Lost,
}

impl Event {
    /// The name in a record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Use => "use",
            Self::Exchange => "exchange",
            Self::Continued => "continued",
            Self::Repaired => "repaired",
            Self::Lost => "lost",
        }
    }
}

/// Who asked, as the host knows it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Who {
    /// As logs call it: `process`, `uid:1000`, a SPIFFE id, `dns:NAME`, `subject:NAME` or `anonymous`.
    pub name: String,
    /// The user, where the kernel tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The user's group, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The process, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

/// What a crash left of a record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Torn {
    /// How many bytes there are between the record before and the one that says so, line ends counted.
    pub bytes: u64,
    /// The SHA-256 digest of these bytes.
    pub sha256: String,
}

/// What a record says, without its place in the chain. What isn't known, or doesn't apply, is left out.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/audit-log.md describes each member")]
pub struct Entry {
    pub time: String,
    pub host: String,
    pub pid: u32,
    pub event: Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub microseconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<Torn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

impl Entry {
    /// About how many bytes it takes while it waits.
    pub(super) fn size(&self) -> usize {
        let Self { time, host, exchange, caller, provider, component, operation, key, origin, decision, rules, policy, .. } = self;
        let Self { annotation, request, request_id, outcome, error, previous, .. } = self;
        let optional = [exchange, provider, component, operation, key, origin, decision, policy];
        let optional = optional.into_iter().chain([annotation, request, request_id, outcome, error, previous]).flatten();
        let caller = caller.iter().map(|who| &who.name);
        let texts = [time, host].into_iter().chain(optional).chain(rules).chain(caller);
        size_of::<Self>() + texts.map(String::len).sum::<usize>()
    }
}

/// A line of a log, read and found to be whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Its number and hash.
    pub position: Position,
    /// The hash of the record before.
    pub previous: Digest,
    /// What it says.
    pub entry: Entry,
    /// The line as it stands in the log.
    pub line: String,
}

/// Why a line is no record.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// It doesn't end as a record does: what a crash leaves, which can't be told from what somebody cut.
    #[error("it is torn: it doesn't end as a record does")]
    Torn,
    /// It ends as a record does, but its hash is that of another text.
    #[error("it was changed: its hash is not that of its text")]
    Changed,
    /// Its hash is right, and yet it is no record.
    #[error("it is no record of this version: {0}")]
    Malformed(String),
}

/// The members that make the chain.
#[derive(Deserialize)]
struct Link {
    v: u32,
    seq: u64,
    prev: String,
}

/// The time now, as records write it: UTC, to the microsecond.
#[must_use]
pub fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

/// Writes the record that follows `last`, without a line end.
#[must_use]
pub(super) fn write(entry: &Entry, last: Position) -> (String, Position) {
    let said = serde_json::to_string(entry).expect("strings and numbers serialise");
    let sequence = last.sequence + 1;
    let members = said.trim_start_matches('{').strip_suffix('}').unwrap_or_default();
    let mut line = format!("{START}{sequence},{members},\"prev\":\"{}\"", last.hash);
    let hash = Digest::of(line.as_bytes());
    line.push_str(&seal(hash));
    (line, Position { sequence, hash })
}

/// How the line of the record with this hash ends.
pub(super) fn seal(hash: Digest) -> String {
    format!("{HASH}{hash}{END}")
}

/// Reads a line, without its end.
///
/// # Errors
/// If it isn't a whole and unchanged record.
pub fn read(line: &[u8]) -> Result<Record, Flaw> {
    let (text, digits) = split(line).ok_or(Flaw::Torn)?;
    let hash = Digest::of(text);
    if hash.to_string() != digits {
        return Err(Flaw::Changed);
    }
    let whole = std::str::from_utf8(line).map_err(|_| Flaw::Malformed("not UTF-8".into()))?;
    let malformed = |error: serde_json::Error| Flaw::Malformed(format!("{}, column {}", kind(&error), error.column()));
    let link: Link = serde_json::from_str(whole).map_err(malformed)?;
    let entry: Entry = serde_json::from_str(whole).map_err(malformed)?;
    if !(1..=MAX_SEQUENCE).contains(&link.seq) {
        return Err(Flaw::Malformed("its `seq` is out of range".into()));
    }
    match (link.v, link.prev.parse()) {
        (VERSION, Ok(previous)) => Ok(Record { position: Position { sequence: link.seq, hash }, previous, entry, line: whole.to_owned() }),
        (VERSION, Err(_)) => Err(Flaw::Malformed("`prev` is no digest".into())),
        (version, _) => Err(Flaw::Malformed(format!("its version is {version}"))),
    }
}

/// The text that was hashed, and the hash that stands after it.
fn split(line: &[u8]) -> Option<(&[u8], &str)> {
    let (text, seal) = line.split_at_checked(line.len().checked_sub(SEAL_LENGTH)?)?;
    let digits = std::str::from_utf8(seal).ok()?.strip_prefix(HASH)?.strip_suffix(END)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some((text, digits))
}

/// What is wrong with the JSON, without the text, which may hold anything.
fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Data => "a member is missing, doubled or of another type",
        _ => "not JSON",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry { time: now(), host: "h".into(), pid: 1, key: Some("local://k".into()), outcome: Some("ok".into()), ..Entry::default() }
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let (line, position) = write(&entry(), Position::GENESIS);
        assert!(line.starts_with(START) && line.len() < MAX_LINE, "{line}");
        let record = read(line.as_bytes()).unwrap();
        assert_eq!((record.position, record.previous, record.entry), (position, Position::GENESIS.hash, entry_of(&line)));
    }

    fn entry_of(line: &str) -> Entry {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn no_byte_of_a_record_can_be_changed() {
        let (line, _) = write(&entry(), Position::GENESIS);
        for at in 0..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(read(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_part_of_a_record_is_torn() {
        let (line, _) = write(&entry(), Position::GENESIS);
        for length in 0..line.len() {
            assert_eq!(read(&line.as_bytes()[..length]), Err(Flaw::Torn), "{length}");
        }
    }

    #[test]
    fn times_are_utc_to_the_microsecond() {
        let time = now();
        assert!(time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z'), "{time}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn whatever_a_text_holds_a_record_is_one_line(text in "\\PC{0,50}|[\\x00-\\x7f]{0,50}") {
            let entry = Entry { error: Some(text.clone()), ..entry() };
            let (line, _) = write(&entry, Position::GENESIS);
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(read(line.as_bytes()).unwrap().entry.error, Some(text));
        }
    }
}
