//! A file that another one replaces keeps its owner, group and mode, so that who could use it before can use it after.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ocicrypt_kms_testing::program::{answer, refusal};

use super::stage::Stage;

/// A user and a group that no file here has.
const SERVICE: (u32, u32) = (12_345, 12_346);

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn owned(path: &Path) -> (u32, u32, u32) {
    let data = path.metadata().unwrap();
    (data.uid(), data.gid(), data.mode() & 0o7777)
}

fn key(stage: &Stage) -> PathBuf {
    stage.user.home().join("keys/team.jwks")
}

#[test]
fn a_key_that_root_rotates_stays_the_services() {
    let stage = Stage::new();
    let (path, before) = (key(&stage), std::fs::read(key(&stage)).unwrap());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    let owner = if is_root() { SERVICE } else { (owned(&path).0, owned(&path).1) };
    chown(&path, Some(owner.0), Some(owner.1)).unwrap();
    answer(stage.user.run(&["keygen", "--rotate", "team"], b""));
    assert_ne!(std::fs::read(&path).unwrap(), before);
    assert_eq!(owned(&path), (owner.0, owner.1, 0o400));
}

#[test]
fn a_key_that_root_makes_in_a_services_keystore_is_the_services() {
    let stage = Stage::new();
    let folder = stage.user.home().join("keys");
    let owner = if is_root() { SERVICE } else { (owned(&folder).0, owned(&folder).1) };
    chown(&folder, Some(owner.0), Some(owner.1)).unwrap();
    answer(stage.user.run(&["keygen", "other"], b""));
    assert_eq!(owned(&folder.join("other.jwks")), (owner.0, owner.1, 0o600));
}

#[test]
fn a_key_that_can_not_be_given_back_to_its_owner_is_not_rotated() {
    if !is_root() {
        // Somebody else has no file that isn't his own, and can read it.
        return;
    }
    let stage = Stage::new();
    let path = key(&stage);
    chown(&path, Some(SERVICE.0), Some(SERVICE.1)).unwrap();
    let before = std::fs::read(&path).unwrap();
    // Root that may do all but give files away: in a namespace where that owner has no number.
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set", "-chown", "--inh-caps", "-chown"]).arg(ocicrypt_kms_testing::program::path());
    stage.user.as_user(command.args(["keygen", "--rotate", "team"]));
    let output = ocicrypt_kms_testing::program::piped(command.env("PATH", "/usr/bin:/bin"), b"");
    let (_, line) = refusal(&output);
    assert!(line.contains("it can't be given to its owner, user 12345 and group 12346"), "{line}");
    assert_eq!((std::fs::read(&path).unwrap(), owned(&path)), (before, (SERVICE.0, SERVICE.1, 0o600)));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else stays behind");
}

#[test]
fn a_log_that_is_rotated_keeps_its_group_and_mode() {
    let stage = Stage::new();
    stage.wrap();
    let (user, group, _) = owned(&stage.path());
    let group = if is_root() { SERVICE.1 } else { group };
    chown(stage.path(), None, Some(group)).unwrap();
    std::fs::set_permissions(stage.path(), PermissionsExt::from_mode(0o640)).unwrap();
    stage.printed(&["rotate"]);
    assert_eq!(owned(&stage.path()), (user, group, 0o640));
    stage.wrap();
    stage.is_whole();
}

#[test]
fn a_log_that_is_rotated_by_an_exchange_keeps_its_mode() {
    let stage = Stage::new();
    stage.wrap();
    std::fs::set_permissions(stage.path(), PermissionsExt::from_mode(0o640)).unwrap();
    // An exchange's process may change no modes: it makes the file as it has to be.
    stage.printed(&["rotate"]);
    std::fs::remove_file(stage.path()).unwrap();
    stage.wrap();
    assert_eq!(owned(&stage.path()).2, 0o640);
    stage.is_whole();
}
