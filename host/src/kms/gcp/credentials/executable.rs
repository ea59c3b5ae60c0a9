//! Subject tokens that a program prints ([AIP-4117], executable-sourced credentials).
//!
//! [AIP-4117]: https://google.aip.dev/auth/4117

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ocicrypt_kms_protocol::json::{Object, string};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::fields::Fields;
use super::file::MAX_LENGTH;
use super::token_service::TokenService;
use crate::error::printable;
use crate::trusted_file::{self, Trust};
use crate::{Error, shown};

const ALLOWED: &str = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES";
/// How long a program may take unless the file says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest message of a program that is shown, in bytes.
const MAX_MESSAGE: usize = 512;
const SAML: &str = "urn:ietf:params:oauth:token-type:saml2";

/// A program that prints a token.
pub(super) struct Executable {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
    /// Where it keeps its answer.
    output_file: Option<PathBuf>,
    /// The account that is impersonated with the token.
    account: Option<String>,
}

/// Why a program's answer gives no token.
enum Flaw {
    /// It is not what AIP-4117 says.
    Malformed(&'static str),
    /// It says that it failed.
    Failed(String),
    /// Its token has ended.
    Expired,
}

impl Executable {
    pub fn read(fields: Fields<'_>, account: Option<String>) -> Result<Self, String> {
        let mut words =
            words(&fields.required("command")?).ok_or_else(|| fields.malformed("command", "a command line: a quote is left open"))?;
        if words.is_empty() {
            return Err(fields.missing("command"));
        }
        let program = words.remove(0);
        let timeout = fields.number("timeout_millis")?.map_or(TIMEOUT, Duration::from_millis);
        Ok(Self { program, arguments: words, timeout, output_file: fields.text("output_file")?.map(PathBuf::from), account })
    }

    /// The token that it kept and that is still good, or that it prints.
    pub async fn run(&self, service: &TokenService<'_>, audience: &str, token_type: &str) -> Result<Zeroizing<String>, Error> {
        if service.environment.get(ALLOWED).is_none_or(|value| value != "1") {
            let reason = format!(
                "the credential file names a program to run, {}, and executables need to be explicitly allowed",
                shown::path(&self.program)
            );
            return Err(service.refused(&reason, &format!("if you know who made the file, set {ALLOWED}=1")));
        }
        if let Some(token) = self.kept(service)? {
            return Ok(token);
        }
        let (output, succeeded) = self.output(service, audience, token_type).await?;
        match token(&output) {
            Ok((token, _)) if succeeded => Ok(token),
            Err(Flaw::Failed(message)) => Err(self.failed(service, &format!("said: {message}"))),
            _ if !succeeded => Err(self.failed(service, "ended with an error")),
            Err(Flaw::Malformed(what)) => Err(self.failed(service, &format!("printed {what}"))),
            _ => Err(self.failed(service, "printed a token that has ended")),
        }
    }

    /// The token in the output file. What says when its token ends may be kept; what failed is run again.
    fn kept(&self, service: &TokenService<'_>) -> Result<Option<Zeroizing<String>>, Error> {
        let Some(path) = self.output_file.as_ref().filter(|path| path.exists()) else { return Ok(None) };
        let place = "the output in";
        let text = trusted_file::read(path, Trust::Credential, MAX_LENGTH).map_err(|untrusted| untrusted.error(place, path))?;
        match token(&text) {
            Ok((token, true)) => Ok(Some(token)),
            Ok((_, false)) | Err(Flaw::Failed(_) | Flaw::Expired) => Ok(None),
            Err(Flaw::Malformed(what)) => {
                let reason = format!("the file {} holds {what}", shown::path(path));
                Err(service.refused(&reason, "delete it, so that the program writes it anew"))
            }
        }
    }

    /// What it prints, and whether it ends well. Its standard error is nobody's business: it may hold anything.
    async fn output(&self, service: &TokenService<'_>, audience: &str, token_type: &str) -> Result<(Zeroizing<Vec<u8>>, bool), Error> {
        let mut command = Command::new(&self.program);
        if let Some(variables) = service.environment.variables() {
            command.env_clear().envs(variables);
        }
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        command.env("GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE", audience).env("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", token_type);
        command.env("GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE", "0");
        command.envs(self.account.iter().map(|account| ("GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL", account)));
        command.envs(self.output_file.iter().map(|file| ("GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE", file)));
        let broken = |error: std::io::Error| self.failed(service, &format!("can't be run: {error}"));
        let time = self.timeout.min(service.deadline.saturating_duration_since(Instant::now()));
        let run = async {
            let mut child = command.spawn().map_err(broken)?;
            let mut output = Zeroizing::new(Vec::with_capacity(MAX_LENGTH + 1));
            let stdout = child.stdout.take().expect("it is piped");
            stdout.take(MAX_LENGTH as u64 + 1).read_to_end(&mut output).await.map_err(broken)?;
            if output.len() > MAX_LENGTH {
                return Err(self.failed(service, &format!("printed more than {MAX_LENGTH} bytes")));
            }
            Ok((output, child.wait().await.map_err(broken)?.success()))
        };
        let late = |_| Err(self.failed(service, &format!("did not end within {:.1} seconds", time.as_secs_f32())));
        tokio::time::timeout(time, run).await.unwrap_or_else(late)
    }

    fn failed(&self, service: &TokenService<'_>, what: &str) -> Error {
        let reason = format!("the program {} of the credential file {what}", shown::path(&self.program));
        service.refused(&reason, "run it by hand, as this user, or correct `executable` below `credential_source` in the credential file")
    }
}

/// The token in a program's answer, and whether it says until when it is good.
fn token(answer: &[u8]) -> Result<(Zeroizing<String>, bool), Flaw> {
    let answer = Object::parse(answer).map_err(|_| Flaw::Malformed("something else than a JSON object"))?;
    let text = |name| answer.get(name).and_then(string);
    match answer.get("success").map(|value| value.text()) {
        Some("true") => {}
        Some("false") => {
            let said = [text("code"), text("message")].into_iter().flatten().collect::<Vec<_>>().join(": ");
            return Err(Flaw::Failed(printable(&said, MAX_MESSAGE)));
        }
        _ => return Err(Flaw::Malformed("an answer without `success`")),
    }
    let ends = answer.get("expiration_time").map(|value| value.text().parse::<i64>());
    match ends {
        Some(Ok(ends)) if ends <= Timestamp::now().as_second() => return Err(Flaw::Expired),
        Some(Err(_)) => return Err(Flaw::Malformed("an `expiration_time` that is no number of seconds")),
        _ => {}
    }
    let name = if text("token_type").is_some_and(|kind| kind == SAML) { "saml_response" } else { "id_token" };
    let token = text(name).filter(|token| !token.is_empty()).ok_or(Flaw::Malformed("an answer without a token"))?;
    Ok((Zeroizing::new(token.into_owned()), ends.is_some()))
}

/// The words of a command line, as a shell takes them apart that knows only quotes and backslashes. None if a quote is left open.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().push(rest.next()?),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_taken_apart_as_by_a_shell() {
        let table: [(&str, &[&str]); 7] = [
            ("/bin/get --a b", &["/bin/get", "--a", "b"]),
            (r#""/opt/my tools/get" --x='a "b" c' "#, &["/opt/my tools/get", r#"--x=a "b" c"#]),
            (r#"get "a\"b" a\ b '' "#, &["get", "a\"b", "a b", ""]),
            (r"get 'a\b'", &["get", r"a\b"]),
            ("  ", &[]),
            ("$HOME/x `y` ;z|", &["$HOME/x", "`y`", ";z|"]),
            ("a\tb", &["a", "b"]),
        ];
        for (line, expected) in table {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for open in [r#""a"#, "'a", r#"a "b' c"#, "a\\"] {
            assert_eq!(words(open), None, "{open}");
        }
    }

    #[test]
    fn an_answer_gives_a_token_or_says_why_not() {
        let read = |text: &str| match token(text.as_bytes()) {
            Ok((token, dated)) => format!("{} {dated}", *token),
            Err(Flaw::Malformed(what)) => what.to_owned(),
            Err(Flaw::Failed(message)) => format!("failed {message}"),
            Err(Flaw::Expired) => "expired".into(),
        };
        assert_eq!(read(r#"{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:jwt","id_token":"t"}"#), "t false");
        assert_eq!(read(r#"{"success":true,"id_token":"t","expiration_time":99999999999}"#), "t true");
        assert_eq!(read(&format!(r#"{{"success":true,"token_type":"{SAML}","saml_response":"s","id_token":"t"}}"#)), "s false");
        assert_eq!(read(r#"{"success":false,"code":"401","message":"log in\u001b[2J"}"#), "failed 401: log in [2J");
        assert_eq!(read(r#"{"success":true,"id_token":"t","expiration_time":1}"#), "expired");
        assert_eq!(read(r#"{"success":true,"id_token":"t","expiration_time":1e400}"#), "an `expiration_time` that is no number of seconds");
        for none in ["{\"success\":true}", r#"{"success":true,"id_token":7}"#, r#"{"success":true,"id_token":""}"#] {
            assert_eq!(read(none), "an answer without a token", "{none}");
        }
        assert_eq!(read("secret"), "something else than a JSON object");
    }
}
