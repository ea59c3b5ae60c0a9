//! Files that people write: the configuration, policies and their tables of cases.

#[cfg(any(feature = "cedar", test))]
use std::io::Read;
use std::path::Path;

use crate::trusted_file::{self, Trust, Untrusted};
use crate::{Error, shown};

/// The most bytes of one file.
pub(crate) const MAX_LENGTH: usize = 1 << 20;

/// Reads a file to look at it, whoever may write it; `what` is what an error calls it.
#[cfg(any(feature = "cedar", test))]
pub(crate) fn read(path: &Path, what: &str) -> Result<String, Error> {
    let unreadable = |error: std::io::Error| wrong(path, format!("{what} can't be read: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(MAX_LENGTH as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() > MAX_LENGTH {
        return Err(wrong(path, format!("{what} is longer than {MAX_LENGTH} bytes")));
    }
    into_text(text, path, what)
}

/// Reads a file that decides who gets which key: it is not used if others than this user and root could change it.
pub(crate) fn read_unexposed(path: &Path, what: &str) -> Result<String, Error> {
    let text = trusted_file::read(path, Trust::Decides, MAX_LENGTH).map_err(|untrusted| match untrusted {
        Untrusted::System(error) => wrong(path, format!("{what} can't be read: {error}")),
        Untrusted::TooLong(_) => wrong(path, format!("{what} is longer than {MAX_LENGTH} bytes")),
        untrusted => wrong(path, format!("{what} is not used: {}", untrusted.line(path))),
    })?;
    into_text(text.to_vec(), path, what)
}

fn into_text(bytes: Vec<u8>, path: &Path, what: &str) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|_| wrong(path, format!("{what} can't be read: it is not UTF-8")))
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::Configuration { place: shown::path(path).to_string(), reason }
}

/// What is wrong in a TOML text, with the line, and without its values.
pub(crate) fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", shown::without_values(error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'#'; MAX_LENGTH]).unwrap();
        assert_eq!(read(file.path(), "it").unwrap().len(), MAX_LENGTH);
        std::fs::write(file.path(), vec![b'#'; MAX_LENGTH + 1]).unwrap();
        assert!(read(file.path(), "it").unwrap_err().to_string().ends_with("it is longer than 1048576 bytes"));
        assert!(read(Path::new("/nonexistent"), "it").unwrap_err().to_string().starts_with("/nonexistent: it can't be read"));
    }

    #[test]
    fn a_file_that_others_could_change_is_not_used_where_it_decides_about_keys() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o646)).unwrap();
        let line = read_unexposed(file.path(), "the policy").unwrap_err().line();
        assert!(line.contains(": the policy is not used: its mode is 0646") && line.contains("chmod go-w /"), "{line}");
        assert!(read(file.path(), "the table").is_ok());
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(read_unexposed(file.path(), "the policy").is_ok() && read_unexposed(Path::new("/dev/null"), "it").is_ok());
    }
}
