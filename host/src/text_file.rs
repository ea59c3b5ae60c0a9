//! Files that people write: the configuration, policies and their tables of cases.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::Error;
use crate::permissions::check_unexposed;

/// The most bytes of one file.
pub(crate) const MAX_LENGTH: u64 = 1 << 20;

/// Reads a file; `what` is what an error calls it.
#[cfg(any(feature = "cedar", test))]
pub(crate) fn read(path: &Path, what: &str) -> Result<String, Error> {
    let file = File::open(path).map_err(|error| unreadable(path, what, &error))?;
    read_whole(file, path, what)
}

/// Reads a file that decides who gets which key: it is not used if others than this user and root could change it.
pub(crate) fn read_unexposed(path: &Path, what: &str) -> Result<String, Error> {
    let failed = |error| unreadable(path, what, &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // `/dev/null` says what an empty file does, and nobody can change that.
    if !metadata.file_type().is_char_device() {
        check_unexposed(&metadata).map_err(|exposed| wrong(path, format!("{what} is not used: {exposed}; {}", exposed.remedy(path))))?;
    }
    read_whole(file, path, what)
}

fn read_whole(file: File, path: &Path, what: &str) -> Result<String, Error> {
    let wrong = |reason| wrong(path, reason);
    let mut text = String::new();
    match file.take(MAX_LENGTH + 1).read_to_string(&mut text) {
        Err(error) => Err(unreadable(path, what, &error)),
        Ok(length) if length as u64 > MAX_LENGTH => Err(wrong(format!("{what} is longer than {MAX_LENGTH} bytes"))),
        Ok(_) => Ok(text),
    }
}

fn unreadable(path: &Path, what: &str, error: &std::io::Error) -> Error {
    wrong(path, format!("{what} can't be read: {error}"))
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::Configuration { place: path.display().to_string(), reason }
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
