//! What clients in Go know of ocicrypt.json (`KeyProviderConfig` in config/keyprovider-config of the library ocicrypt): where a member has
//! another type than they know it by, they refuse the whole file, and what they don't know they pass over.

use ocicrypt_kms::error::printable;
use ocicrypt_kms::shown;
use serde_json::Value;

/// The members of an entry: those of Go `cmd`, `grpc` and `grpc-tls`, ocicrypt-rs all but the last.
const ENTRY: [&str; 5] = ["cmd", "grpc", "grpc-tls", "ttrpc", "native"];
/// Those of its `cmd`.
const CMD: [&str; 2] = ["path", "args"];
/// What clients do where a member has another type than they know it by.
pub(super) const REFUSED: &str = "so that clients refuse the whole of ocicrypt.json";

/// A member by its name. Go's JSON doesn't mind the case.
pub(super) fn get<'a>(value: &'a Value, name: &str) -> &'a Value {
    let mut members = value.as_object().into_iter().flatten();
    members.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(&Value::Null, |(_, value)| value)
}

/// What makes clients refuse the file, in the entry of whichever provider.
pub(super) fn refused(providers: &Value) -> Result<(), String> {
    if !providers.is_object() && !providers.is_null() {
        return Err(format!("`key-providers` is no object, {REFUSED}"));
    }
    providers.as_object().into_iter().flatten().try_for_each(|(name, entry)| {
        let wrong = |what: &str, right: &str| {
            let name = printable(name, 64);
            Err(format!("{what} of the entry `{name}` is {right}, {REFUSED}"))
        };
        if !entry.is_object() && !entry.is_null() {
            let name = printable(name, 64);
            return Err(format!(
                "the entry `{name}` is no object, {REFUSED}; write \"{name}\": {{\"cmd\": {{\"path\": \"ocicrypt-kms\"}}}}"
            ));
        }
        let cmd = get(entry, "cmd");
        let (path, args) = (get(cmd, "path"), get(cmd, "args"));
        if !cmd.is_object() && !cmd.is_null() {
            return wrong("`cmd`", "no object; write {\"path\": \"ocicrypt-kms\", \"args\": []}");
        }
        if !path.is_string() && !path.is_null() {
            return wrong("`path` in `cmd`", "no string");
        }
        if let Some(text) = args.as_str() {
            let words: Vec<_> = text.split_whitespace().collect();
            // It may be anything, a secret in a wrong place too.
            let is_harmless = text.len() <= 128 && words.iter().all(|word| shown::name(word).is_harmless());
            let right = if is_harmless { Value::from(words).to_string() } else { "[\"--config\", \"FILE\"]".into() };
            return wrong("`args` in `cmd`", &format!("no list; write {right}"));
        }
        if !args.is_null() && !args.as_array().is_some_and(|args| args.iter().all(Value::is_string)) {
            return wrong("`args` in `cmd`", "no list of strings; write [\"--config\", \"FILE\"]");
        }
        match ["grpc", "ttrpc"].into_iter().find(|way| !get(entry, way).is_null() && !get(entry, way).is_string()) {
            Some(way) => wrong(&format!("`{way}`"), "no string; write \"unix:///run/ocicrypt-kms/kms.sock\""),
            None => Ok(()),
        }
    })
}

/// Whether all that an entry says is known to clients.
pub(super) fn unknown(entry: &Value) -> Result<(), String> {
    known(entry, &ENTRY, "its members")?;
    known(get(entry, "cmd"), &CMD, "the members of `cmd`")
}

fn known(value: &Value, all: &[&str], what: &str) -> Result<(), String> {
    let mut names = value.as_object().into_iter().flat_map(|members| members.keys());
    names.find(|name| !all.iter().any(|known| known.eq_ignore_ascii_case(name))).map_or(Ok(()), |name| {
        let name = printable(name, 64);
        Err(format!("`{name}` is none of {what}, so that clients pass over it; they are {}", all.join(", ")))
    })
}
