//! Who else could change a file. What others could change is not used, as ssh does not use such a file either.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
#[cfg(feature = "compile")]
use std::os::unix::fs::PermissionsExt;
#[cfg(feature = "compile")]
use std::path::Path;

/// The user of this process.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A file is this user's or root's.
pub(crate) fn check_owner(metadata: &Metadata) -> Result<(), String> {
    let user = user();
    match metadata.uid() {
        owner if owner == user || owner == 0 => Ok(()),
        owner => Err(format!("it belongs to user {owner}, not to you ({user})")),
    }
}

/// A file or folder is this user's alone.
#[cfg(feature = "compile")]
pub(crate) fn check_private(metadata: &Metadata) -> Result<(), String> {
    check_owner(metadata)?;
    match metadata.mode() & 0o777 {
        mode if mode & 0o077 == 0 => Ok(()),
        mode => Err(format!("its mode is {mode:04o}, so others could use it")),
    }
}

/// A folder is this user's alone, and nobody but this user and root can put another one in its place.
#[cfg(feature = "compile")]
pub(crate) fn check_private_folder(folder: &Path) -> Result<(), String> {
    let at = |path: &Path, reason: String| format!("{}: {reason}", path.display());
    let folder = folder.canonicalize().map_err(|error| at(folder, error.to_string()))?;
    for (level, path) in folder.ancestors().enumerate() {
        let metadata = path.symlink_metadata().map_err(|error| at(path, error.to_string()))?;
        let check = if level == 0 { check_private } else { check_passage };
        check(&metadata).map_err(|reason| at(path, reason))?;
    }
    Ok(())
}

/// What is in a folder can be replaced only by this user and root. In a sticky one (`/tmp`), everybody replaces only what is theirs.
#[cfg(feature = "compile")]
fn check_passage(metadata: &Metadata) -> Result<(), String> {
    const STICKY: u32 = 0o1000;
    check_owner(metadata)?;
    match metadata.permissions().mode() & 0o7777 {
        mode if mode & 0o022 == 0 || mode & STICKY != 0 => Ok(()),
        mode => Err(format!("its mode is {mode:04o}, so others could replace what is in it")),
    }
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions};

    use super::*;

    #[test]
    fn a_folder_that_others_could_replace_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let (above, folder) = (top.path().join("above"), top.path().join("above/folder"));
        create_dir(&above).unwrap();
        create_dir(&folder).unwrap();
        let checked = |above_mode, mode| {
            set_permissions(&above, Permissions::from_mode(above_mode)).unwrap();
            set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            check_private_folder(&folder)
        };
        assert_eq!(checked(0o755, 0o700), Ok(()));
        assert_eq!(checked(0o1777, 0o700), Ok(()));
        for mode in [0o775, 0o757, 0o777] {
            assert!(checked(mode, 0o700).unwrap_err().contains("could replace"), "{mode:o}");
        }
        for mode in [0o750, 0o701, 0o1777] {
            assert!(checked(0o755, mode).unwrap_err().contains("others could use it"), "{mode:o}");
        }
    }
}
