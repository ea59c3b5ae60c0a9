//! Who else could change a file. What others could change is not used, as ssh does not use such a file either.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
#[cfg(feature = "compile")]
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::shown;

/// Who owns a file, for a process in a user namespace, whose owner outside has no number in it (`/proc/sys/kernel/overflowuid`).
const UNMAPPED: u32 = 65534;

/// Why a file is not used that decides about keys: others than this user and root could change it.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Exposed {
    #[error("{0}")]
    Owner(String),
    #[error("its mode is {mode:04o}, so others could change it")]
    Writable { mode: u32, owner: u32, group: u32 },
    #[error("its mode is {mode:04o}, so others could read the secret in it")]
    Readable { mode: u32, owner: u32, group: u32 },
}

impl Exposed {
    /// What to do about it.
    pub fn remedy(&self, path: &Path) -> String {
        let name = shown::path(path);
        match self {
            Self::Owner(_) => format!("run this as that user, or {}", make_it_yours(path)),
            Self::Writable { owner, group, .. } => format!(
                "if nobody else has changed it, take away what others than its owner (user {owner}, group {group}) may: {}chmod go-w {name}",
                outside(*owner)
            ),
            Self::Readable { owner, group, .. } => format!(
                "if nobody else has read it, take away what others than its owner (user {owner}, group {group}) may: {}chmod go-rwx {name}",
                outside(*owner)
            ),
        }
    }
}

/// The remedy for a file of somebody else. In a user namespace nobody can give away what belongs to a user who has no number there.
pub(crate) fn make_it_yours(path: &Path) -> String {
    let is_unmapped = std::fs::metadata(path).is_ok_and(|metadata| metadata.uid() == UNMAPPED) && is_in_namespace();
    let name = shown::path(path);
    if is_unmapped {
        return format!(
            "if you know who put it there, give it outside of this user namespace to the user who has the number {} here, or copy it: \
             cp {name} {name}.copy && mv {name}.copy {name}",
            user()
        );
    }
    format!("if you know who put it there, make it yours: chown {} {name}", user())
}

/// Where a command has to be run: nobody in a user namespace can change a file of a user who has no number there.
fn outside(owner: u32) -> &'static str {
    if is_of_another_namespace(owner) { "outside of this user namespace, as its owner: " } else { "" }
}

/// Anybody may put things into a folder, and take away only what is theirs (`/tmp`).
#[cfg(any(feature = "compile", feature = "vault"))]
const STICKY: u32 = 0o1000;

/// The user of this process.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A file is this user's or root's, be it root outside of this user namespace.
pub(crate) fn check_owner(metadata: &Metadata) -> Result<(), String> {
    let user = user();
    match metadata.uid() {
        owner if owner == user || owner == 0 || is_of_another_namespace(owner) => Ok(()),
        owner => Err(format!("it belongs to user {owner}, not to you ({user})")),
    }
}

/// Only this user and root can change a file.
pub(crate) fn check_unexposed(metadata: &Metadata) -> Result<(), Exposed> {
    check_owner(metadata).map_err(Exposed::Owner)?;
    let (mode, owner, group) = (metadata.mode() & 0o777, metadata.uid(), metadata.gid());
    if others_can_write(mode, owner, group) { Err(Exposed::Writable { mode, owner, group }) } else { Ok(()) }
}

/// Only this user and root can change a file, and nobody else can read it but a group that root lets: so come secrets of Kubernetes with an
/// `fsGroup` and those of systemd's `LoadCredential`, and PostgreSQL takes its key so.
pub(crate) fn check_secret(metadata: &Metadata) -> Result<(), Exposed> {
    check_unexposed(metadata)?;
    let (mode, owner, group) = (metadata.mode() & 0o777, metadata.uid(), metadata.gid());
    let others = if owner == 0 || is_of_another_namespace(owner) { 0o007 } else { 0o077 };
    if mode & others != 0 { Err(Exposed::Readable { mode, owner, group }) } else { Ok(()) }
}

/// Many systems give each user a group of the same number, and a umask that lets it write: that group is no other.
fn others_can_write(mode: u32, owner: u32, group: u32) -> bool {
    let others = if owner != 0 && owner == group { 0o002 } else { 0o022 };
    mode & others != 0
}

/// In a user namespace (podman and buildah without root), root's files outside of it, such as those in `/etc`, are nobody's.
fn is_of_another_namespace(owner: u32) -> bool {
    owner == UNMAPPED && !maps_root()
}

/// Whether root of the whole system has a number here: the kernel's own settings are root's, in whichever namespace, also in one within another, whose
/// `uid_map` tells only the numbers of the next one outside.
fn maps_root() -> bool {
    std::fs::metadata("/proc/sys/kernel/overflowuid").map_or(true, |metadata| metadata.uid() != UNMAPPED)
}

/// Whether this is another user namespace than the system's: there, each number means itself.
fn is_in_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// On the way to something, no folder is shared by all users in which a stranger holds the name that was taken: there, whoever comes first has it.
///
/// Folders that all may write and that aren't sticky are not looked at: they are those of a container (`emptyDir`), or nothing would be safe anyway.
#[cfg(feature = "vault")]
pub(crate) fn check_place(path: &Path) -> Result<(), String> {
    let at = |path: &Path, reason: String| format!("{}: {reason}", shown::path(path));
    let path = path.canonicalize().map_err(|error| at(path, error.to_string()))?;
    for (taken, folder) in path.ancestors().zip(path.ancestors().skip(1)) {
        let look = |path: &Path| path.symlink_metadata().map_err(|error| at(path, error.to_string()));
        if is_shared(look(folder)?.mode()) {
            let strangers = |whose| at(taken, format!("{whose}, in a folder that everybody may put things into"));
            check_owner(&look(taken)?).map_err(strangers)?;
        }
    }
    Ok(())
}

#[cfg(feature = "vault")]
fn is_shared(mode: u32) -> bool {
    mode & STICKY != 0 && mode & 0o002 != 0
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
    let at = |path: &Path, reason: String| format!("{}: {reason}", shown::path(path));
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
    check_owner(metadata)?;
    match metadata.permissions().mode() & 0o7777 {
        mode if mode & 0o022 == 0 || mode & STICKY != 0 => Ok(()),
        mode => Err(format!("its mode is {mode:04o}, so others could replace what is in it")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_could_change_is_told_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let checked = |mode| {
            set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            check_unexposed(&file.path().metadata().unwrap())
        };
        for mode in [0o600, 0o644, 0o444, 0o755] {
            assert_eq!(checked(mode), Ok(()), "{mode:o}");
        }
        for mode in [0o602, 0o646, 0o666] {
            let exposed = checked(mode).unwrap_err();
            assert_eq!(exposed.to_string(), format!("its mode is {mode:04o}, so others could change it"));
            assert!(exposed.remedy(file.path()).ends_with(&format!("chmod go-w {}", file.path().display())));
        }
    }

    #[test]
    fn a_group_counts_as_others_unless_it_is_the_owners_own() {
        assert!(others_can_write(0o664, 1000, 100) && others_can_write(0o664, 0, 0) && others_can_write(0o620, 1000, 1001));
        assert!(!others_can_write(0o664, 1000, 1000) && others_can_write(0o666, 1000, 1000) && !others_can_write(0o644, 0, 0));
    }

    #[cfg(feature = "vault")]
    #[test]
    fn a_place_in_a_shared_folder_is_its_owners_who_has_to_be_known() {
        let top = tempfile::tempdir().unwrap();
        let (folder, file) = (top.path().join("folder"), top.path().join("folder/file"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, "").unwrap();
        let checked = |mode| {
            set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            check_place(&file)
        };
        for mode in [0o755, 0o777, 0o1755, 0o1777] {
            assert_eq!(checked(mode), Ok(()), "{mode:o}");
        }
        assert!(is_shared(0o41777) && !is_shared(0o40777) && !is_shared(0o41770) && !is_shared(0o40755));
        // Only root can give a file away.
        if user() == 0 {
            std::os::unix::fs::chown(&file, Some(1234), None).unwrap();
            let refused = checked(0o1777).unwrap_err();
            assert!(
                refused.ends_with("/file: it belongs to user 1234, not to you (0), in a folder that everybody may put things into"),
                "{refused}"
            );
            assert_eq!(checked(0o755), Ok(()));
            std::os::unix::fs::chown(&folder, Some(1234), None).unwrap();
            assert_eq!(checked(0o700), Ok(()));
            set_permissions(top.path(), Permissions::from_mode(0o1777)).unwrap();
            assert!(check_place(&file).unwrap_err().contains("/folder: it belongs to user 1234"));
        }
    }

    #[cfg(feature = "compile")]
    #[test]
    fn a_folder_that_others_could_replace_is_refused() {
        use std::fs::create_dir;
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
