//! Checkpoints: signatures of a chain's end (Ed25519, RFC 8032), by which a log that was cut off is told from a short one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::obstacle::Obstacle;
use super::record::{Position, VERSION};
use super::{blank, file};
use crate::Error;
use crate::digest::Digest;
use crate::shown;
use crate::trusted_file::{self, Trust, Untrusted};

/// The most bytes of a file that holds a key.
const MAX_KEY_FILE: usize = 16 << 10;
/// The most bytes of a file of checkpoints: half a million of them.
const MAX_CHECKPOINTS: u64 = 256 << 20;
/// What stands between the text that is signed and its signature.
const SIGNATURE: &str = ",\"signature\":\"";
/// What stands after the signature.
const END: &str = "\"}";

/// A key that signs checkpoints.
pub struct PrivateKey(SigningKey);

/// A key that checks checkpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey(VerifyingKey);

/// Who had the key says: at this time, the chain had this record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The record.
    pub position: Position,
    /// When it was signed.
    pub time: String,
    /// The text: one line of JSON, without its end.
    pub line: String,
}

/// The members that matter for checking.
#[derive(Deserialize)]
struct Members {
    v: u32,
    seq: u64,
    hash: String,
    time: String,
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| Error::Internal { reason: format!("no random numbers: {error}") })?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Reads a key (PKCS #8 in PEM) that only its owner can read.
    ///
    /// # Errors
    /// If it can't be read, others can read it, or it isn't an Ed25519 key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_file(path, true)?;
        SigningKey::from_pkcs8_pem(&text).map(Self).map_err(|_| unusable(path, "it is no Ed25519 private key (PKCS #8 in PEM)"))
    }

    /// Writes the key to a new file (PKCS #8 in PEM) with mode 0600.
    ///
    /// # Errors
    /// If there is such a file, or it can't be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        // Without the public half, as OpenSSL writes it and each program reads it.
        let key = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let text = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| Error::Internal { reason: error.to_string() })?;
        write_new(path, text.as_bytes(), 0o600)
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

impl PublicKey {
    /// Reads a key (SubjectPublicKeyInfo in PEM).
    ///
    /// # Errors
    /// If it can't be read or isn't an Ed25519 key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_file(path, false)?;
        VerifyingKey::from_public_key_pem(&text).map(Self).map_err(|_| unusable(path, "it is no Ed25519 public key (PEM)"))
    }

    /// Writes the key to a new file (SubjectPublicKeyInfo in PEM).
    ///
    /// # Errors
    /// If there is such a file, or it can't be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = self.0.to_public_key_pem(LineEnding::LF).map_err(|error| Error::Internal { reason: error.to_string() })?;
        write_new(path, text.as_bytes(), 0o644)
    }

    /// The SHA-256 digest of its SubjectPublicKeyInfo: what checkpoints call it.
    #[must_use]
    pub fn id(&self) -> Digest {
        // An Ed25519 key always has an encoding.
        Digest::of(self.0.to_public_key_der().as_ref().map_or(&[], |der| der.as_bytes()))
    }

    /// Reads a checkpoint that this key's owner signed.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn check(&self, line: &str) -> Result<Checkpoint, String> {
        let whole = |line: &'_ str| line.strip_suffix(END)?.rsplit_once(SIGNATURE).map(|(text, end)| (text.to_owned(), end.to_owned()));
        let (text, signature) = whole(line).ok_or("it is no checkpoint")?;
        let signature = BASE64.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        let signature = signature.ok_or("its signature is malformed")?;
        self.0.verify_strict(text.as_bytes(), &signature).map_err(|_| "its signature is not of this key and this text")?;
        let members: Members = serde_json::from_str(line).map_err(|_| "it is no checkpoint of this version")?;
        match (members.v, members.hash.parse()) {
            (VERSION, Ok(hash)) => {
                let position = Position { sequence: members.seq, hash };
                Ok(Checkpoint { position, time: members.time, line: line.to_owned() })
            }
            _ => Err("it is no checkpoint of this version".into()),
        }
    }

    /// Reads a file of checkpoints. A half-written last line, which a crash left, is passed over.
    ///
    /// # Errors
    /// If the file can't be read, or one of its lines isn't a checkpoint that this key's owner signed.
    pub fn check_file(&self, path: &Path) -> Result<Vec<Checkpoint>, Error> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_CHECKPOINTS).read_to_string(&mut text));
        read.map_err(|error| unusable(path, &error.to_string()))?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let check = |(index, line)| self.check(line).map_err(|reason| unusable(path, &format!("line {}: {reason}", index + 1)));
        whole.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(check).collect()
    }
}

/// Signs a record's number and hash.
pub(super) fn sign(key: &Path, position: Position) -> Result<Checkpoint, Error> {
    let key = PrivateKey::read(key)?;
    let super::Entry { time, host, .. } = blank();
    let host = serde_json::Value::from(host);
    let Position { sequence, hash } = position;
    let id = key.public().id();
    let mut line =
        format!(r#"{{"v":{VERSION},"checkpoint":true,"seq":{sequence},"hash":"{hash}","time":"{time}","host":{host},"key":"{id}""#);
    let signature = BASE64.encode(key.0.sign(line.as_bytes()).to_bytes());
    line.push_str(SIGNATURE);
    line.push_str(&signature);
    line.push_str(END);
    Ok(Checkpoint { position, time, line })
}

/// Whether a checkpoint could be signed with this key and appended to this file, which isn't made.
pub(super) fn check(key: &Path, path: &Path) -> Result<(), Error> {
    PrivateKey::read(key)?;
    file::ready(path).and_then(|()| file::open_existing(path)).map(drop).map_err(|obstacle| obstacle.at(path))
}

/// Appends a checkpoint to a file, and returns when it is on the disk.
pub(super) fn append(path: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    let write = || {
        let mut file = file::open(path, 0o644)?;
        let torn = !ends_with_a_line_end(&file)?;
        // One write: what several processes append at once stands one behind the other.
        file.write_all(format!("{}{}\n", if torn { "\n" } else { "" }, checkpoint.line).as_bytes())?;
        Ok(file.sync_all()?)
    };
    write().map_err(|obstacle: Obstacle| obstacle.at(path))
}

fn ends_with_a_line_end(file: &File) -> std::io::Result<bool> {
    let mut last = [b'\n'];
    if let Some(at) = file.metadata()?.len().checked_sub(1) {
        std::os::unix::fs::FileExt::read_exact_at(file, &mut last, at)?;
    }
    Ok(last == *b"\n")
}

fn read_file(path: &Path, secret: bool) -> Result<Zeroizing<String>, Error> {
    // A public key is mostly the file of the user whose log it verifies.
    let trust = if secret { Trust::Secret } else { Trust::Nothing };
    let text = trusted_file::read(path, trust, MAX_KEY_FILE).map_err(|untrusted| match &untrusted {
        Untrusted::System(error) if secret && error.kind() == ErrorKind::NotFound => {
            unusable(path, &format!("{untrusted}; make it with `ocicrypt-kms audit keygen {}`", shown::path(path)))
        }
        _ => unusable(path, &untrusted.line(path)),
    })?;
    let text = std::str::from_utf8(&text).map_err(|_| unusable(path, "it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn write_new(path: &Path, text: &[u8], mode: u32) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => unusable(path, "there is such a file already, and a key is never overwritten; give another name"),
        _ => unusable(path, &error.to_string()),
    })
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::Configuration { place: shown::path(path).to_string(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (tempfile::TempDir, std::path::PathBuf, PublicKey) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = PrivateKey::generate().unwrap();
        key.write(&path).unwrap();
        (folder, path, key.public())
    }

    fn position() -> Position {
        Position { sequence: 7, hash: Digest::of(b"record") }
    }

    #[test]
    fn what_a_key_signed_its_public_half_checks() {
        let (folder, path, public) = key();
        let checkpoint = sign(&path, position()).unwrap();
        assert_eq!(public.check(&checkpoint.line), Ok(checkpoint.clone()));
        public.write(&folder.path().join("public.pem")).unwrap();
        assert_eq!(PublicKey::read(&folder.path().join("public.pem")).unwrap(), public);
        assert!(PrivateKey::generate().unwrap().public().check(&checkpoint.line).unwrap_err().contains("not of this key"));
    }

    #[test]
    fn no_byte_of_a_checkpoint_can_be_changed() {
        let (_folder, path, public) = key();
        let line = sign(&path, position()).unwrap().line;
        for at in 0..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(String::from_utf8(bytes).is_ok_and(|line| public.check(&line).is_err()), "byte {at}");
        }
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let (_folder, path, _) = key();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(PrivateKey::read(&path).err().unwrap().line().contains("chmod go-rwx"));
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let (_folder, path, public) = key();
        let line = PrivateKey::generate().unwrap().write(&path).unwrap_err().line();
        assert!(line.contains("there is such a file already, and a key is never overwritten"), "{line}");
        assert_eq!(PrivateKey::read(&path).unwrap().public(), public);
    }

    #[test]
    fn a_half_written_checkpoint_is_passed_over_and_loses_no_other() {
        let (folder, path, public) = key();
        let file = folder.path().join("checkpoints");
        let checkpoint = sign(&path, position()).unwrap();
        append(&file, &checkpoint).unwrap();
        std::fs::write(&file, format!("{}\n{}", checkpoint.line, &checkpoint.line[..40])).unwrap();
        assert_eq!(public.check_file(&file).unwrap(), std::slice::from_ref(&checkpoint));
    }
}
