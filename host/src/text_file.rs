//! Files that people write: the configuration, policies and their tables of cases.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::Error;

/// The most bytes of one file.
pub(crate) const MAX_LENGTH: u64 = 1 << 20;

/// Reads a file; `what` is what an error calls it.
pub(crate) fn read(path: &Path, what: &str) -> Result<String, Error> {
    let wrong = |reason: String| Error::Configuration { place: path.display().to_string(), reason };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_LENGTH + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(wrong(format!("{what} can't be read: {error}"))),
        Ok(length) if length as u64 > MAX_LENGTH => Err(wrong(format!("{what} is longer than {MAX_LENGTH} bytes"))),
        Ok(_) => Ok(text),
    }
}

/// What is wrong in a TOML text, with the line.
pub(crate) fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'#'; MAX_LENGTH as usize]).unwrap();
        assert_eq!(read(file.path(), "it").unwrap().len() as u64, MAX_LENGTH);
        std::fs::write(file.path(), vec![b'#'; MAX_LENGTH as usize + 1]).unwrap();
        assert!(read(file.path(), "it").unwrap_err().to_string().ends_with("it is longer than 1048576 bytes"));
        assert!(read(Path::new("/nonexistent"), "it").unwrap_err().to_string().starts_with("/nonexistent: it can't be read"));
    }
}
