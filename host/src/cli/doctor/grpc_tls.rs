//! `grpc-tls` in an entry of ocicrypt.json: members that clients know, and files that are there.

use std::fs::File;
use std::path::Path;

use ocicrypt_kms::error::printable;
use ocicrypt_kms::shown;
use serde_json::Value;

use super::members::REFUSED;

/// What clients know (`GrpcTLS` in config/keyprovider-config of the Go library ocicrypt, from 1.3.0 on), and whether it is a file.
const MEMBERS: [(&str, bool); 5] = [("root-ca-file", true), (CERTIFICATE, true), (KEY, true), ("server-name", false), (INSECURE, false)];
const CERTIFICATE: &str = "cert-file";
const KEY: &str = "key-file";
/// The one that is no string.
const INSECURE: &str = "insecure-skip-verify";
/// Which clients know none of it, by the `go.mod` of their releases (docs/server.md).
const OLD: &str = "skopeo before 1.23, and other clients with ocicrypt before 1.3, pass over `grpc-tls` and connect without TLS: \
                   see which it is: skopeo --version";

/// What is wrong with it, all in one line.
pub(super) fn check(tls: &Value) -> Result<String, String> {
    let members = tls.as_object().ok_or_else(|| format!("it is no object, {REFUSED}"))?;
    let mut problems: Vec<_> = members.iter().filter_map(|(name, value)| member(name, value).err()).collect();
    let named = |wanted: &str| members.iter().any(|(name, value)| name.eq_ignore_ascii_case(wanted) && text(value).is_some());
    if named(CERTIFICATE) != named(KEY) {
        problems.push(format!("`{CERTIFICATE}` and `{KEY}` belong together: clients show no certificate with one alone"));
    }
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let files = if MEMBERS.iter().any(|(name, is_file)| *is_file && named(name)) {
        "its files can be read; a client decides whether it takes what is in them"
    } else {
        "it names no files: clients trust the system's certificate authorities, and show no certificate"
    };
    Ok(format!("{files}; {OLD}"))
}

/// A string that counts: an empty one is none to clients.
fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn member(name: &str, value: &Value) -> Result<(), String> {
    // Go's JSON doesn't mind the case.
    let Some((known, is_file)) = MEMBERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
        let (name, known) = (printable(name, 64), MEMBERS.map(|(known, _)| known).join(", "));
        return Err(format!("`{name}` is none of its members, so that clients pass over it; they are {known}"));
    };
    let (is_right, right) = match *known {
        INSECURE => (value.is_boolean(), "neither true nor false"),
        _ => (value.is_string(), "no string"),
    };
    match text(value) {
        _ if !is_right && !value.is_null() => Err(format!("`{known}` is {right}, {REFUSED}")),
        Some(path) if *is_file => readable(Path::new(path)).map_err(|reason| format!("`{known}` {}: {reason}", shown::path(path))),
        _ => Ok(()),
    }
}

fn readable(path: &Path) -> Result<(), String> {
    // Before it is opened: to open a pipe waits for who writes to it.
    let data = path.metadata().map_err(|error| format!("{error}; correct the path"))?;
    if !data.is_file() {
        return Err("it is no file; correct the path".into());
    }
    File::open(path).map(drop).map_err(|error| format!("{error}; the client's user has to be able to read it"))
}
