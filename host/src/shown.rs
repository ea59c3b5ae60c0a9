//! How a value of the environment, the configuration or the command line is shown: only if it is known to be harmless.
//!
//! Who sets a variable or an option that names a file often gives the secret itself, in CI above all. So no such value is quoted as it is: a path
//! is shown if it looks like one, an address without a user, a name if it is short and no token. Everything else is described.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest path or address that is shown, in bytes.
const MAX_LENGTH: usize = 256;
/// The longest name that is shown, in bytes.
const MAX_NAME: usize = 128;
/// A word of so many bytes that mixes cases and digits is a token rather than a name.
const TOKEN: usize = 20;

/// How names of files end that are shown although no folder stands before them. Base64 has slashes, but no such end.
const ENDINGS: [&str; 28] = [
    "cedar",
    "cer",
    "cfg",
    "checkpoints",
    "conf",
    "crl",
    "crt",
    "ini",
    "json",
    "jsonl",
    "jwk",
    "jwks",
    "jwt",
    "key",
    "log",
    "md",
    "new",
    "pem",
    "pub",
    "sock",
    "test",
    "toml",
    "token",
    "txt",
    "wasm",
    "yaml",
    "yml",
    "oci",
];

/// The path of a file, in errors, logs and reports.
#[derive(Clone, Copy, Debug)]
pub struct ShownPath<'a>(&'a Path);

/// Another text, shown if it is harmless.
#[derive(Clone, Copy, Debug)]
pub struct ShownText<'a> {
    text: &'a str,
    harmless: bool,
    what: &'static str,
}

/// What a value is that should be the path of a file and isn't.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoPath {
    /// An object or an array.
    #[error("it holds JSON, not the path of a file")]
    Json,
    /// A private key.
    #[error("it holds a PEM private key, not the path of a file")]
    PrivateKey,
    /// A certificate, or something else in PEM.
    #[error("it holds PEM, not the path of a file")]
    Pem,
    /// Anything else.
    #[error("it holds something that is not the path of a file; if it is one, begin it with / or ./")]
    Other,
}

/// Shows a path.
#[must_use]
pub fn path<P: AsRef<Path> + ?Sized>(path: &P) -> ShownPath<'_> {
    ShownPath(path.as_ref())
}

/// Shows a name that somebody chose, in backticks: of a group, a profile, a role, a setting.
#[must_use]
pub fn name(text: &str) -> ShownText<'_> {
    // Hexadecimal digits, or base64 with its slashes: people put something between words.
    let drawn = text.len() >= 32 && !text.contains(['-', '.', ' ', ':', '@', '_']) && (mixes(text) || !text.contains('/'));
    // A user and a password in front of a host.
    let is_address = text.contains("://") || (text.contains(':') && text.contains('@'));
    let harmless = !is_address && is_word(text, b"._-/:@+ ") && text.len() <= MAX_NAME && !has_token(text) && !drawn;
    ShownText { text, harmless, what: "a name" }
}

/// Shows an address, in backticks: a URL without user and query, or HOST:PORT.
#[must_use]
pub fn address(text: &str) -> ShownText<'_> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let has_port = || rest.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let known =
        ["http", "https", "tcp", "unix", "ttrpc+unix", "dns", "grpc", "ttrpc"].contains(&scheme) || (scheme.is_empty() && has_port());
    let harmless = known && is_word(rest, b"._-/:[]") && text.len() <= MAX_LENGTH && !has_token(rest);
    ShownText { text, harmless, what: "an address" }
}

/// Whether a text may be the scheme of an address: a short word.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.len() < TOKEN && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

/// Whether a value may be the path of a file.
///
/// # Errors
/// Says what it is instead.
pub fn check_path(path: &Path) -> Result<(), NoPath> {
    let bytes = path.as_os_str().as_bytes();
    let text = String::from_utf8_lossy(bytes);
    if text.contains("-----BEGIN") && !text.contains('{') {
        return Err(if text.contains("PRIVATE KEY") { NoPath::PrivateKey } else { NoPath::Pem });
    }
    if text.contains('{') || text.trim_start().starts_with('[') {
        return Err(NoPath::Json);
    }
    let begins = ["/", "./", "../", "~/"].iter().any(|start| text.starts_with(start)) || ["~", ".", "..", "-"].contains(&&*text);
    let is_one = bytes.len() <= MAX_LENGTH && !text.contains(char::is_control) && !has_token(&text);
    match is_one && (begins || is_file_name(&text)) {
        true => Ok(()),
        false => Err(NoPath::Other),
    }
}

/// A relative path that ends as files' names do.
fn is_file_name(text: &str) -> bool {
    let ending = Path::new(text).extension().and_then(OsStr::to_str).unwrap_or_default();
    // The name of a file alone, of small letters: an image's folder, a log. Secrets mix.
    let plain = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_./".contains(&byte));
    is_word(text, b"._-/+@ ") && (plain || ENDINGS.contains(&ending))
}

fn is_word(text: &str, besides: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || besides.contains(&byte))
}

/// Whether it has small and capital letters and digits.
fn mixes(text: &str) -> bool {
    let has = |test: fn(&u8) -> bool| text.bytes().any(|byte| test(&byte));
    has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
}

/// Whether a part of it looks as if a machine had drawn it.
fn has_token(text: &str) -> bool {
    text.split(['/', '.', ' ', '-', '_', ':', '@']).any(|part| part.len() >= TOKEN && mixes(part))
}

impl ShownText<'_> {
    /// Whether it is shown.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        self.harmless
    }
}

impl fmt::Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match check_path(self.0) {
            Ok(()) => self.0.display().fmt(f),
            Err(why) => write!(f, "(not shown: {why})"),
        }
    }
}

impl fmt::Display for ShownText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.harmless {
            true => write!(f, "`{}`", self.text),
            false => write!(f, "(not shown: it holds something that is not {})", self.what),
        }
    }
}

/// What serde and TOML say of a text, without the values that they quote from it.
pub(crate) fn without_values(message: &str) -> String {
    // The last one: a value may have anything in it, and what was expected is this program's own text.
    let expected = || message.rfind(", expected ").map_or("", |at| &message[at..]);
    if let Some(rest) = ["invalid type: ", "invalid value: "].iter().find_map(|start| message.strip_prefix(start)) {
        let kind: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == ' ').collect();
        return format!("a value of the wrong type or range: {}{}", kind.trim(), expected());
    }
    if message.starts_with("unknown variant `") {
        return format!("a value that is not known{}", expected());
    }
    for start in ["unknown field `", "duplicate field `", "duplicate key `"] {
        if let Some((field, rest)) = message.strip_prefix(start).and_then(|rest| rest.split_once('`')) {
            return format!("{}{}{rest}", &start[..start.len() - 1], name(field));
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What people put in the place of a path.
    const SECRETS: [&str; 12] = [
        r#"{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nMIIEvQ"}"#,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQ\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIEvQ",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqb2IifQ.c2lnbmF0dXJl",
        "hvs.CAESIJlWn2bq0sVbGmNpgq3KkT8YkGh4KHGh2cy5",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "s.9xQ2mZk7Lr4TtVbn8Wc1Yp5d",
        "0b1946ba8f8a3d3cbd7a5cf1b5ce7b1a5a0a3c9eb8d6b7a1d3c5a7f9b1c3d5e7",
        "4cdb1b3c-7b0e-4fbc-9a1e-b4c4c9be0f61",
        "/jalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12",
        "https://user:hunter2@kms.example",
        "correct horse battery staple",
    ];

    #[test]
    fn nothing_is_shown_of_a_secret_in_place_of_a_path() {
        for secret in SECRETS {
            let shown = path(secret).to_string();
            assert!(shown.starts_with("(not shown: it holds ") && shown.contains("not the path of a file"), "{secret}: {shown}");
        }
        assert_eq!(check_path(Path::new(SECRETS[0])), Err(NoPath::Json));
        assert_eq!(check_path(Path::new(SECRETS[1])), Err(NoPath::PrivateKey));
        assert_eq!(check_path(Path::new(SECRETS[2])), Err(NoPath::Pem));
        assert!(check_path(Path::new(&format!("/{}", "x".repeat(256)))).is_err());
    }

    #[test]
    fn paths_are_shown_as_they_are() {
        for good in [
            "/etc/ocicrypt-kms/config.toml",
            "/tmp/.tmpA1b2C3/keys",
            "./x",
            "../adc",
            "~/.vault-token",
            "certs/client-ca.pem",
            "team.key",
            "image",
            "/var/lib/kubelet/pods/4cdb1b3c-7b0e-4fbc-9a1e-b4c4c9be0f61/volumes",
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
        ] {
            assert_eq!(path(good).to_string(), good);
        }
    }

    #[test]
    fn names_and_addresses_are_shown_if_they_can_hold_no_secret() {
        assert_eq!(name("web-admins").to_string(), "`web-admins`");
        assert_eq!(address("https://kms.example:8200/v1").to_string(), "`https://kms.example:8200/v1`");
        assert_eq!(address("127.0.0.1:9000").to_string(), "`127.0.0.1:9000`");
        for secret in SECRETS {
            assert!(address(secret).to_string().starts_with("(not shown: "), "{secret}");
        }
        for secret in [SECRETS[0], SECRETS[1], SECRETS[4], SECRETS[9]] {
            assert!(name(secret).to_string().starts_with("(not shown: "), "{secret}");
        }
    }

    #[test]
    fn what_serde_quotes_is_left_out() {
        let said = |text: &str| toml::from_str::<crate::Config>(text).unwrap_err().message().to_owned();
        for text in
            ["deadline-seconds = 'hunter2, expected x'", "server.log-level = 'hunter2'", "keys = 'hunter2'", "hardening = 'hunter2'"]
        {
            assert!(said(text).contains("hunter2"), "{text}: this is what has to be left out");
            let shown = without_values(&said(text));
            assert!(!shown.contains("hunter2") && shown.contains(", expected "), "{shown}");
        }
        assert!(without_values(&said("endpont = 1")).starts_with("unknown field `endpont`, expected"));
    }
}
