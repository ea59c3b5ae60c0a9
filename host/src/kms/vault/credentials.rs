//! Where a token comes from: the environment, a file, or a login by [AppRole], [Kubernetes], [JWT] or a client's [certificate]. Or there is none:
//! an Agent or Proxy adds its own.
//!
//! [AppRole]: https://openbao.org/api-docs/auth/approle/#login-with-approle
//! [Kubernetes]: https://openbao.org/api-docs/auth/kubernetes/#login
//! [JWT]: https://openbao.org/api-docs/auth/jwt/#jwt-login
//! [certificate]: https://openbao.org/api-docs/auth/cert/#login-with-tls-certificate-method

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ocicrypt_kms_protocol::json::Object;
use reqwest::header::HeaderValue;
use serde::Serialize;
use zeroize::Zeroizing;

use super::super::answer::Answer;
use super::answer::{Auth, auth};
use super::refusal::{self, errors, is_busy};
use super::settings::{Settings, variable, variable_name};
use crate::error::printable;
use crate::key_uri::VaultFlavour;
use crate::trusted_file::{self, Trust};
use crate::{Environment, Error, config, shown};

/// The most bytes of a token, a secret id or a JWT.
const MAX_LENGTH: usize = 64 << 10;
/// Where `vault login` and `bao login` put the token, below the home folder.
const WELL_KNOWN: &str = ".vault-token";
/// Where a pod finds its service account's token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A token for the server: printable ASCII without spaces, and without the quotes that some files keep around it.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Token(Zeroizing<Vec<u8>>);

impl Token {
    fn new(text: Zeroizing<Vec<u8>>) -> Option<Self> {
        let is_quoted = text.starts_with(b"\"") || text.starts_with(b"'");
        (!text.is_empty() && !is_quoted && text.iter().all(u8::is_ascii_graphic)).then_some(Self(text))
    }

    /// The token as a header's value, which is wiped with it.
    pub fn header(&self) -> HeaderValue {
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(self.0.clone()));
        let mut value = value.expect("a token is printable ASCII");
        value.set_sensitive(true);
        value
    }
}

/// Where to look for a token.
pub(super) struct Credentials {
    flavour: VaultFlavour,
    environment: Environment,
    configured: Result<Option<Configured>, Error>,
}

/// What there is to get in with.
pub(super) enum Found {
    Token(Token),
    Login(Login),
    /// A token is for whoever passes the request on to add.
    Nothing,
}

#[derive(Clone)]
enum Configured {
    TokenFile(PathBuf),
    Login(Login),
    Nothing,
}

impl Credentials {
    pub fn new(settings: &Settings<'_>) -> Self {
        let Settings { flavour, environment, config } = settings;
        Self { flavour: *flavour, environment: (*environment).clone(), configured: Configured::choose(config) }
    }

    /// A token, or the login that gives one. Where neither is set and what is asked may add a token, that is for it to do.
    pub fn find(&self, key: &str, may_be_added: bool) -> Result<Found, Error> {
        let configured = self.configured.clone()?;
        if matches!(configured, Some(Configured::Nothing)) {
            return Ok(Found::Nothing);
        }
        if let Some((name, value)) = variable(self.flavour, &self.environment, "TOKEN") {
            let value = Zeroizing::new(value.into_encoded_bytes());
            return Token::new(value.trim_ascii().to_vec().into()).map(Found::Token).ok_or_else(|| no_token(&name));
        }
        match (configured, self.well_known()) {
            (Some(Configured::TokenFile(path)), _) => read_token(&path).map(Found::Token),
            (Some(Configured::Login(login)), _) => Ok(Found::Login(login)),
            (_, Some(path)) => read_token(&path).map(Found::Token),
            _ if may_be_added => Ok(Found::Nothing),
            _ => Err(self.missing(key)),
        }
    }

    /// The file of the last login, unless there is none. One that can't be looked at is there: it may be meant.
    fn well_known(&self) -> Option<PathBuf> {
        let path = PathBuf::from(self.environment.get("HOME")?).join(WELL_KNOWN);
        let is_absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        std::fs::metadata(&path).err().is_none_or(|error| !is_absent(&error)).then_some(path)
    }

    fn missing(&self, key: &str) -> Error {
        let (variable, program) = (variable_name(self.flavour, "TOKEN"), refusal::program(self.flavour));
        Error::Kms {
            key: key.to_owned(),
            // No KMS has answered: hence no status.
            status: 0,
            code: "CREDENTIALS".into(),
            message: "there is no token for Vault".into(),
            hint: format!(
                "set {variable}, log in (`{program} login`), or configure `token-file` or a login below `[vault]`; if an Agent or Proxy with \
                 auto-auth listens there, write `auth = \"none\"` there, and it adds its own token"
            ),
        }
    }
}

impl Configured {
    fn choose(config: &config::Vault) -> Result<Option<Self>, Error> {
        let mount = |mount: &Option<String>, default: &str| mount.clone().unwrap_or_else(|| default.to_owned());
        let token_file = config.token_file.clone().map(|path| ("token-file", Self::TokenFile(path)));
        let approle = config.approle.clone().map(|config::VaultAppRole { role_id, secret_id_file, mount: at }| {
            let method = Method::AppRole { role_id, secret_id_file };
            ("approle", Self::Login(Login { method, mount: mount(&at, "approle") }))
        });
        let kubernetes = config.kubernetes.clone().map(|config::VaultKubernetes { role, token_file, mount: at }| {
            let method = Method::Jwt { name: "kubernetes", role, file: token_file.unwrap_or_else(|| SERVICE_ACCOUNT.into()) };
            ("kubernetes", Self::Login(Login { method, mount: mount(&at, "kubernetes") }))
        });
        let jwt = config.jwt.clone().map(|config::VaultJwt { role, token_file, mount: at }| {
            let method = Method::Jwt { name: "jwt", role, file: token_file };
            ("jwt", Self::Login(Login { method, mount: mount(&at, "jwt") }))
        });
        let cert = config.cert.clone().map(|config::VaultCert { role, mount: at }| {
            ("cert", Self::Login(Login { method: Method::Certificate { role }, mount: mount(&at, "cert") }))
        });
        let auth = config.auth.map(|config::VaultAuth::None| ("auth", Self::Nothing));
        let wrong = |reason: String| Error::Configuration { place: "vault".into(), reason };
        let mut set = [auth, token_file, approle, kubernetes, jwt, cert].into_iter().flatten();
        let Some((first, chosen)) = set.next() else { return Ok(None) };
        if let Some((second, _)) = set.next() {
            return Err(wrong(format!("`{first}` and `{second}` are both configured; leave one of them")));
        }
        match &chosen {
            Self::Login(login) if !is_path(&login.mount) || !shown::name(&login.mount).is_harmless() => {
                Err(wrong(format!("`mount` of `{first}` is not the path of a mount")))
            }
            _ => Ok(Some(chosen)),
        }
    }
}

/// Whether it stays in its place in a URL: names without `.` and `..`, and a slash between them.
fn is_path(mount: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    mount.split('/').all(|name| !matches!(name, "" | "." | "..") && name.bytes().all(allowed))
}

/// How to get a token from the server.
#[derive(Clone)]
pub(super) struct Login {
    method: Method,
    mount: String,
}

#[derive(Clone)]
enum Method {
    AppRole {
        role_id: String,
        secret_id_file: Option<PathBuf>,
    },
    /// A JWT in a file: that of a service account, or of anybody.
    Jwt {
        name: &'static str,
        role: String,
        file: PathBuf,
    },
    /// The client's certificate, which the connection has.
    Certificate {
        role: Option<String>,
    },
}

/// What a login gave.
pub(super) struct LoggedIn {
    pub token: Token,
    /// How long it lasts, if not for ever.
    pub lease: Option<Duration>,
    /// Whether it may be used more than once.
    pub reusable: bool,
}

impl Login {
    /// What it is called in the configuration.
    pub fn method(&self) -> &'static str {
        match self.method {
            Method::AppRole { .. } => "approle",
            Method::Jwt { name, .. } => name,
            Method::Certificate { .. } => "cert",
        }
    }

    /// Whether what it needs besides its body is there.
    pub fn check(&self, has_client_certificate: bool) -> Result<(), Error> {
        if has_client_certificate || !matches!(self.method, Method::Certificate { .. }) {
            return Ok(());
        }
        let reason = "there is no client certificate to log in with; set VAULT_CLIENT_CERT and VAULT_CLIENT_KEY (or BAO_…), or \
                      `client-certificate` and `client-key` below `[vault]`";
        Err(Error::Configuration { place: "vault.cert".into(), reason: reason.into() })
    }

    /// The path to post to.
    pub fn path(&self) -> String {
        format!("auth/{}/login", self.mount)
    }

    /// What to post. Files are read now: something else may renew them.
    pub fn body(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        match &self.method {
            Method::AppRole { role_id, secret_id_file } => {
                let secret_id = secret_id_file.as_deref().map(read_secret).transpose()?;
                Ok(json(&AppRole { role_id, secret_id: secret_id.as_ref().map(|text| text.as_str()) }))
            }
            Method::Jwt { role, file, .. } => Ok(json(&Jwt { role, jwt: &read_secret(file)? })),
            Method::Certificate { role } => Ok(json(&Certificate { name: role.as_deref() })),
        }
    }

    /// The token in the answer.
    pub fn read(&self, key: &str, answer: &Answer) -> Result<LoggedIn, Error> {
        if !answer.status.is_success() {
            return Err(self.refused(key, answer));
        }
        let Auth { token, lease, reusable } = auth(&answer.body);
        let token = token.and_then(Token::new).ok_or_else(|| Error::Damaged {
            key: key.to_owned(),
            reason: format!("Vault's answer to the login at {} holds no token", self.path()),
        })?;
        Ok(LoggedIn { token, lease, reusable })
    }

    fn refused(&self, key: &str, answer: &Answer) -> Error {
        let (status, code) = refusal::status(answer);
        let message = format!("the login at {} failed: {}", self.path(), errors(&answer.body));
        if is_busy(answer) {
            return refusal::busy(key, answer, &message);
        }
        if Object::parse(&answer.body).is_err() {
            return refusal::not_of_vault(key, answer);
        }
        let hint = match &self.method {
            Method::AppRole { .. } => {
                "check `role-id`, the secret id and `mount` below `[vault.approle]`; a secret id can expire or be used up".into()
            }
            Method::Jwt { name, role, file } => format!(
                "check that the role {} is bound to the token in {} (its subject, audience and issuer), and `mount` below `[vault.{name}]`",
                shown::name(role),
                shown::path(file)
            ),
            Method::Certificate { .. } => {
                "check that a role of the method trusts the client certificate (its authority and its names), and `role` and `mount` below \
                 `[vault.cert]`"
                    .into()
            }
        };
        Error::Kms { key: key.to_owned(), status, code, message, hint }
    }
}

#[derive(Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Certificate<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Jwt<'a> {
    role: &'a str,
    jwt: &'a str,
}

fn json(body: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Sized beforehand, so that no copy of a secret is left behind by a buffer that grew.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MAX_LENGTH));
    serde_json::to_writer(&mut *text, body).expect("strings serialise");
    text
}

fn read_token(path: &Path) -> Result<Token, Error> {
    let text = Zeroizing::new(read_secret(path)?.as_bytes().to_vec());
    Token::new(text).ok_or_else(|| no_token(&shown::path(path).to_string()))
}

fn no_token(place: &str) -> Error {
    Error::Configuration {
        place: place.to_owned(),
        reason: "it does not hold a token, which is one word of printable ASCII without quotes".into(),
    }
}

/// The text of a file without the white space around it.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    let unusable = |reason: String| Error::Configuration {
        place: format!("the credentials in {}", shown::path(path)),
        reason: format!("{}; see `[vault]` in the configuration", printable(&reason, 1024)),
    };
    let text = trusted_file::read(path, Trust::Credential, MAX_LENGTH).map_err(|untrusted| unusable(untrusted.line(path)))?;
    match std::str::from_utf8(text.trim_ascii()) {
        Ok("") => Err(unusable("the file is empty".into())),
        Ok(secret) => Ok(Zeroizing::new(secret.to_owned())),
        Err(_) => Err(unusable("the file is not text".into())),
    }
}
