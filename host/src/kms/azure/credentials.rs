//! Azure credentials, by Microsoft's own `azure_identity`: the chain of [`DefaultAzureCredential`], which that library doesn't have.
//!
//! The first of a client secret or certificate, a workload identity, a managed identity and the Azure CLI that is there is used. `AZURE_TOKEN_CREDENTIALS`
//! narrows the chain, as it does in other languages' libraries.
//!
//! [`DefaultAzureCredential`]: https://learn.microsoft.com/azure/developer/python/sdk/authentication/credential-chains

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions};
use azure_core::time::OffsetDateTime;
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use reqwest::Url;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::super::absurd::read_by_library;
use super::super::http::{Http, Unreached};
use super::az::Az;
use super::client_certificate::{self, Application};
use super::entra;
use super::transport::{LastFailure, Metadata, Transport};
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::Service;
use crate::trusted_file::{self, Trust, Untrusted};
use crate::{Environment, Error, count, shown};

const CHOICE: &str = "AZURE_TOKEN_CREDENTIALS";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
const CERTIFICATE: &str = "AZURE_CLIENT_CERTIFICATE_PATH";
const SENDS_CHAIN: &str = "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN";
const TENANT_ID: &str = "AZURE_TENANT_ID";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";

/// Where App Service and others like it have their managed identities; virtual machines have the metadata service.
const IDENTITY_ENDPOINTS: [&str; 2] = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"];

/// The most bytes of the file of a federated token.
const MAX_TOKEN: usize = 64 << 10;

/// What to do where there is no such token.
const PROJECTION: &str =
    "check the projected volume or the webhook that puts it there, or leave AZURE_FEDERATED_TOKEN_FILE unset to use other credentials";

/// A token that ends sooner is not used any more. Microsoft's libraries do the same.
const MARGIN: Duration = Duration::from_secs(300);

/// Credentials that are looked up when they are first needed.
pub(super) struct Credentials {
    http: Arc<Http>,
    environment: Environment,
    /// By domain: each has an audience of its own, and perhaps a cloud.
    sources: Mutex<HashMap<String, Arc<Slot>>>,
}

/// Where a source is kept. Whoever looks for it or asks it for a token holds the lock, so that nobody else does it as well.
type Slot = tokio::sync::Mutex<Option<Source>>;

/// Where tokens come from.
struct Source {
    kind: Kind,
    /// What was found of the credentials that would have been used before.
    instead: Option<String>,
    credential: Arc<dyn TokenCredential>,
    last: LastFailure,
    token: Option<Token>,
}

/// What is waited for.
type Asked = Mutex<Option<(Kind, LastFailure)>>;

/// A token as it is sent, and when it ends.
struct Token {
    header: HeaderValue,
    expires: OffsetDateTime,
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    ClientSecret,
    ClientCertificate,
    WorkloadIdentity,
    ManagedIdentity,
    AzureCli,
}

/// In the order in which they are looked for. A certificate is looked for where a secret is, and after it.
const CHAIN: [Kind; 4] = [Kind::ClientSecret, Kind::WorkloadIdentity, Kind::ManagedIdentity, Kind::AzureCli];

impl Credentials {
    pub(super) fn new(http: Arc<Http>, environment: Environment) -> Self {
        Self { http, environment, sources: Mutex::default() }
    }

    /// The `Authorization` header of one call for `key` at a host of `domain`.
    pub(super) async fn bearer(&self, key: &str, domain: &str, deadline: Instant) -> Result<HeaderValue, Error> {
        let asked = Mutex::new(None);
        let time = deadline.saturating_duration_since(Instant::now());
        let header = tokio::time::timeout(time, self.header(key, domain, &asked)).await;
        header.unwrap_or_else(|_| {
            let asked = asked.into_inner().unwrap_or_else(PoisonError::into_inner);
            let whom = asked.as_ref().map(|(kind, _)| format!("{} was asked: ", kind.described())).unwrap_or_default();
            let last = asked.as_ref().and_then(|(_, last)| last.take());
            if let Some(last) = last.clone().filter(|last| last.hint.is_some()) {
                return Err(Unreached { reason: format!("no Azure access token was given: {whom}{last}"), ..last }.error(key));
            }
            let last = last.map(|last| format!(", and before: {last}")).unwrap_or_default();
            let reason = format!("{whom}there was no answer within {:.1} seconds{last}", time.as_secs_f32());
            Err(late(key, asked.map(|(kind, _)| kind), &reason))
        })
    }

    /// Forgets the token for `domain` and where it came from.
    pub(super) fn forget(&self, domain: &str) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).remove(domain);
    }

    /// Notes in `asked` what it waits for.
    async fn header(&self, key: &str, domain: &str, asked: &Asked) -> Result<HeaderValue, Error> {
        let slot = self.sources.lock().unwrap_or_else(PoisonError::into_inner).entry(domain.to_owned()).or_default().clone();
        let mut found = slot.lock().await;
        let source = match &mut *found {
            Some(source) => source,
            None => found.insert(self.find(domain).await?),
        };
        if let Some(token) = source.token.as_ref().filter(|token| token.expires > OffsetDateTime::now_utc() + MARGIN) {
            return Ok(token.header.clone());
        }
        *asked.lock().unwrap_or_else(PoisonError::into_inner) = Some((source.kind, source.last.clone()));
        // The library reads it anew for each token.
        self.check_values(source.kind)?;
        let scope = format!("https://{domain}/.default");
        tracing::debug!(key, scope, credential = source.kind.as_str(), "asking for a token");
        let token = match read_by_library(source.credential.get_token(&[&scope], None)).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => Err(source.failed(key, &error)),
            Err(absurd) => Err(unavailable(key, &format!("{}: {absurd}", source.asked()))),
        };
        count::token(Service::Azure, token.is_ok());
        match token {
            Ok(token) => Ok(source.token.insert(Token::new(key, &token)?).header.clone()),
            Err(error) => {
                // The next exchange looks whether they were mended, or others came.
                *found = None;
                Err(error)
            }
        }
    }

    async fn find(&self, domain: &str) -> Result<Source, Error> {
        let (kind, instead) = self.choose().await?;
        let last = LastFailure::default();
        let credential = self.build(kind, domain, &last)?;
        Ok(Source { kind, instead, credential, last, token: None })
    }

    /// The first of the chain that is there, and what was found of those before. One that was chosen by name is used whether it seems to be there
    /// or not.
    async fn choose(&self) -> Result<(Kind, Option<String>), Error> {
        let chain = self.chain()?;
        let by_name = chain.len() == 1;
        let mut instead = None;
        for kind in chain {
            let is_there = match kind {
                _ if by_name => true,
                Kind::ClientSecret | Kind::ClientCertificate => self.has(CLIENT_SECRET) || self.has(CERTIFICATE),
                Kind::WorkloadIdentity => self.has(TOKEN_FILE),
                Kind::ManagedIdentity if IDENTITY_ENDPOINTS.iter().any(|name| self.has(name)) => true,
                Kind::ManagedIdentity => {
                    instead = Metadata::find(&self.http).await.described();
                    instead.is_none()
                }
                Kind::AzureCli => true,
            };
            if is_there {
                return Ok((self.secret_or_certificate(*kind), instead));
            }
        }
        let reason = format!(
            "it rules the Azure CLI out, and there is no other credential{}; set {TENANT_ID}, {CLIENT_ID} and {CLIENT_SECRET}",
            instead.map(|found| format!(": {found}")).unwrap_or_default()
        );
        Err(wrong(CHOICE, reason))
    }

    fn secret_or_certificate(&self, kind: Kind) -> Kind {
        if kind == Kind::ClientSecret && !self.has(CLIENT_SECRET) && self.has(CERTIFICATE) { Kind::ClientCertificate } else { kind }
    }

    fn chain(&self) -> Result<&'static [Kind], Error> {
        let choice = self.text(CHOICE)?.unwrap_or_default().to_ascii_lowercase();
        let named = |kind: &&Kind| kind.as_str().eq_ignore_ascii_case(&choice);
        match choice.as_str() {
            "" => Ok(&CHAIN),
            "prod" => Ok(&CHAIN[..3]),
            "dev" => Ok(&CHAIN[3..]),
            _ => CHAIN.iter().find(named).map(std::slice::from_ref).ok_or_else(|| {
                let names = CHAIN.map(Kind::as_str).join(", ");
                wrong(CHOICE, format!("it is none of prod, dev, {names}"))
            }),
        }
    }

    fn build(&self, kind: Kind, domain: &str, last: &LastFailure) -> Result<Arc<dyn TokenCredential>, Error> {
        let client_options = self.client_options(domain, last)?;
        self.check_values(kind)?;
        let built: azure_core::Result<Arc<dyn TokenCredential>> = match kind {
            Kind::ClientSecret => {
                let (tenant, client) = (self.required(TENANT_ID, kind)?, self.required(CLIENT_ID, kind)?);
                let secret = Secret::new(self.required(CLIENT_SECRET, kind)?);
                ClientSecretCredential::new(&tenant, client, secret, Some(ClientSecretCredentialOptions { client_options }))
                    .map(|it| it as _)
            }
            Kind::ClientCertificate => {
                let (tenant, client) = (self.required(TENANT_ID, kind)?, self.required(CLIENT_ID, kind)?);
                let application = Application {
                    endpoint: self.token_endpoint(domain, &tenant)?,
                    client: client.clone(),
                    file: self.required(CERTIFICATE, kind)?.into(),
                    sends_chain: self.text(SENDS_CHAIN)?.is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true")),
                };
                let options = ClientAssertionCredentialOptions { client_options };
                ClientAssertionCredential::new(tenant, client, application, Some(options)).map(|it| it as _)
            }
            Kind::WorkloadIdentity => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: Some(self.required(CLIENT_ID, kind)?),
                tenant_id: Some(self.required(TENANT_ID, kind)?),
                token_file_path: Some(self.required(TOKEN_FILE, kind)?.into()),
            }))
            .map(|it| it as _),
            Kind::ManagedIdentity => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: self.text(CLIENT_ID)?.map(UserAssignedId::ClientId),
                client_options,
            }))
            .map(|it| it as _),
            Kind::AzureCli => AzureCliCredential::new(Some(AzureCliCredentialOptions {
                tenant_id: self.text(TENANT_ID)?,
                executor: Some(Arc::new(Az::new(self.environment.clone()))),
                ..AzureCliCredentialOptions::default()
            }))
            .map(|it| it as _),
        };
        built.map_err(|error| wrong(&format!("the credentials of {}", kind.described()), format!("{}; {}", told(&error).0, kind.hint())))
    }

    fn client_options(&self, domain: &str, last: &LastFailure) -> Result<ClientOptions, Error> {
        let retry = RetryOptions::exponential(ExponentialRetryOptions { max_retries: 4, ..ExponentialRetryOptions::default() });
        let transport = azure_core::http::Transport::new(Arc::new(Transport { http: self.http.clone(), last: last.clone() }));
        let cloud = Some(Arc::new(self.cloud(domain)?));
        Ok(ClientOptions { retry, transport: Some(transport), cloud, ..ClientOptions::default() })
    }

    /// Who gives tokens out: `AZURE_AUTHORITY_HOST`, or whoever does in the cloud of the domain.
    fn cloud(&self, domain: &str) -> Result<CloudConfiguration, Error> {
        let Some(host) = self.text(AUTHORITY)? else {
            return Ok(match domain {
                _ if domain.ends_with(".azure.cn") => CloudConfiguration::AzureChina,
                _ if domain.ends_with(".usgovcloudapi.net") => CloudConfiguration::AzureGovernment,
                _ => CloudConfiguration::AzurePublic,
            });
        };
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = if host.contains("://") { host } else { format!("https://{host}") };
        // A user and a password in it would stand in errors of the library.
        match cloud.authority_host.starts_with("https://")
            && shown::address(&cloud.authority_host).is_harmless()
            && Url::parse(&cloud.authority_host).is_ok()
        {
            true => Ok(cloud.into()),
            false => Err(wrong(AUTHORITY, "it is not an https address, such as https://login.microsoftonline.com".into())),
        }
    }

    /// Where the library asks for a tenant's tokens: whom an assertion is for.
    fn token_endpoint(&self, domain: &str, tenant: &str) -> Result<Url, Error> {
        let authority = match self.cloud(domain)? {
            CloudConfiguration::Custom(custom) => custom.authority_host,
            CloudConfiguration::AzureChina => "https://login.chinacloudapi.cn".to_owned(),
            CloudConfiguration::AzureGovernment => "https://login.microsoftonline.us".to_owned(),
            _ => "https://login.microsoftonline.com".to_owned(),
        };
        let endpoint = Url::parse(&authority).and_then(|url| url.join(&format!("/{tenant}/oauth2/v2.0/token")));
        endpoint.map_err(|_| wrong(TENANT_ID, "it holds something that is not an id".into()))
    }

    /// What the library is given: it may quote what isn't what it should be, and would wait for a pipe.
    fn check_values(&self, kind: Kind) -> Result<(), Error> {
        for id in [TENANT_ID, CLIENT_ID] {
            if self.text(id)?.is_some_and(|value| !shown::name(&value).is_harmless()) {
                return Err(wrong(id, "it holds something that is not an id".into()));
            }
        }
        match kind {
            Kind::ClientCertificate => client_certificate::check(&PathBuf::from(self.required(CERTIFICATE, kind)?)),
            Kind::WorkloadIdentity => self.check_token(&PathBuf::from(self.required(TOKEN_FILE, kind)?)),
            _ => Ok(()),
        }
    }

    fn check_token(&self, file: &Path) -> Result<(), Error> {
        let unusable = |reason: String| wrong(TOKEN_FILE, format!("the token in {} is not used: {reason}", shown::path(file)));
        match trusted_file::read(file, Trust::Credential, MAX_TOKEN) {
            Ok(token) if token.trim_ascii().is_empty() => Err(unusable(format!("the file is empty; {PROJECTION}"))),
            Ok(_) => Ok(()),
            Err(Untrusted::System(error)) => Err(unusable(format!("{error}; {PROJECTION}"))),
            Err(untrusted) => Err(unusable(untrusted.line(file))),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.environment.get(name).is_some()
    }

    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let text = self.environment.get(name).map(|value| value.into_string());
        text.transpose().map_err(|_| wrong(name, "it is not UTF-8".into()))
    }

    fn required(&self, name: &str, kind: Kind) -> Result<String, Error> {
        self.text(name)?.ok_or_else(|| wrong(name, format!("it is not set, which {} needs; {}", kind.described(), kind.whole())))
    }
}

impl Token {
    fn new(key: &str, token: &AccessToken) -> Result<Self, Error> {
        let text = Zeroizing::new(format!("Bearer {}", token.token.secret()));
        let mut header = HeaderValue::from_str(&text).map_err(|_| unavailable(key, "what was given can't be sent in a header"))?;
        header.set_sensitive(true);
        Ok(Self { header, expires: token.expires_on })
    }
}

impl Kind {
    /// The name that `AZURE_TOKEN_CREDENTIALS` has for it.
    fn as_str(self) -> &'static str {
        match self {
            Self::ClientSecret | Self::ClientCertificate => "EnvironmentCredential",
            Self::WorkloadIdentity => "WorkloadIdentityCredential",
            Self::ManagedIdentity => "ManagedIdentityCredential",
            Self::AzureCli => "AzureCliCredential",
        }
    }

    /// What it is, in sentences.
    fn described(self) -> &'static str {
        match self {
            Self::ClientSecret => "a client secret (AZURE_CLIENT_SECRET)",
            Self::ClientCertificate => "a client certificate (AZURE_CLIENT_CERTIFICATE_PATH)",
            Self::WorkloadIdentity => "a workload identity (AZURE_FEDERATED_TOKEN_FILE)",
            Self::ManagedIdentity => "a managed identity",
            Self::AzureCli => "the Azure CLI",
        }
    }

    /// What to do where a part of its settings is missing.
    fn whole(self) -> &'static str {
        match self {
            Self::WorkloadIdentity => {
                "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE, or leave AZURE_FEDERATED_TOKEN_FILE unset to use \
                 other credentials"
            }
            Self::ClientCertificate => {
                "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_CERTIFICATE_PATH, or leave AZURE_CLIENT_CERTIFICATE_PATH unset to use \
                 other credentials"
            }
            _ => {
                "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or leave AZURE_CLIENT_SECRET unset to use other credentials"
            }
        }
    }

    /// What to do after a refusal of which no more is known.
    fn hint(self) -> &'static str {
        match self {
            Self::ClientSecret => "check AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_AUTHORITY_HOST",
            Self::ClientCertificate => {
                "check AZURE_TENANT_ID and AZURE_CLIENT_ID, and which certificates the application has: az ad app credential list --cert --id CLIENT_ID"
            }
            Self::WorkloadIdentity => {
                "check AZURE_TENANT_ID and AZURE_CLIENT_ID, and what the application trusts: az ad app federated-credential list --id CLIENT_ID"
            }
            Self::ManagedIdentity => {
                "assign an identity to this machine (az vm identity assign) and name it in AZURE_CLIENT_ID if it is a user-assigned one, \
                 or use the Azure CLI's log-in: AZURE_TOKEN_CREDENTIALS=AzureCliCredential"
            }
            Self::AzureCli => "log in (az login), or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET",
        }
    }
}

impl Source {
    /// Whom tokens were asked of, and why not somebody else.
    fn asked(&self) -> String {
        let instead = self.instead.iter().map(|found| format!("{found}, and ")).collect::<String>();
        format!("{instead}{} was asked", self.kind.described())
    }

    fn failed(&self, key: &str, error: &azure_core::Error) -> Error {
        let chain = || std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        // Of this program: what it says is whole.
        if let Some(own) = chain().find_map(|error| error.downcast_ref::<Error>()) {
            return own.clone();
        }
        if let Some(unreached) = Unreached::among(error) {
            let reason = format!("no Azure access token was given: {}: {unreached}", self.asked());
            return Unreached { reason, ..unreached.clone() }.error(key);
        }
        let (reason, passes) = told(error);
        let reason = format!("{}: {reason}", self.asked());
        let is_late = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
        if chain().filter_map(|error| error.downcast_ref()).any(is_late) {
            return late(key, Some(self.kind), &reason);
        }
        if passes { unavailable(key, &reason) } else { refused(key, self.kind, &reason) }
    }
}

/// Nobody answered in time.
fn late(key: &str, asked: Option<Kind>, reason: &str) -> Error {
    let hint = match asked {
        Some(Kind::AzureCli) => {
            "see what it waits for (az account get-access-token --resource https://vault.azure.net), or set AZURE_TENANT_ID, AZURE_CLIENT_ID and \
             AZURE_CLIENT_SECRET"
        }
        Some(_) => "check the network and AZURE_AUTHORITY_HOST, then try again",
        None => "if this machine has no managed identity, name the credential to use in AZURE_TOKEN_CREDENTIALS; else try again",
    };
    no_credentials(key, reason, hint)
}

fn no_credentials(key: &str, reason: &str, hint: &str) -> Error {
    Error::NoCredentials { key: key.to_owned(), reason: format!("no Azure access token was given: {reason}"), hint: hint.to_owned() }
}

fn unavailable(key: &str, reason: &str) -> Error {
    Error::Unavailable { key: key.to_owned(), reason: format!("no Azure access token was given: {reason}") }
}

fn refused(key: &str, kind: Kind, reason: &str) -> Error {
    let message = format!("no Azure access token was given: {reason}");
    let hint = entra::remedy(reason).unwrap_or_else(|| kind.hint());
    // No KMS has answered: hence no status.
    Error::Kms { key: key.to_owned(), status: 0, code: "CREDENTIALS".into(), message, hint: hint.into() }
}

fn wrong(place: &str, reason: String) -> Error {
    Error::Configuration { place: place.to_owned(), reason }
}

/// What Azure's library says where it knows most, and whether it may pass. A token service's answer is among it: shown, but as text of outside
/// origin. What can't be read is not shown at all: it may be a token.
fn told(error: &azure_core::Error) -> (String, bool) {
    let chain = || std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let innermost = chain().filter_map(|error| error.downcast_ref::<azure_core::Error>()).last().unwrap_or(error);
    let root = || chain().last().map(ToString::to_string).unwrap_or_default();
    let (reason, passes) = match innermost.kind() {
        ErrorKind::HttpResponse { status, .. } => {
            let code = u16::from(*status);
            (format!("it answered {code}: {innermost}"), code == 429 || code >= 500)
        }
        ErrorKind::DataConversion => ("its answer can't be read".to_owned(), true),
        ErrorKind::Io | ErrorKind::Connection => (root(), true),
        _ => (root(), false),
    };
    (printable(&reason, MAX_OUTSIDE_TEXT), passes)
}

#[cfg(test)]
mod tests {
    use azure_core::credentials::TokenRequestOptions;

    use super::*;

    fn credentials(variables: &[(&str, &str)]) -> Credentials {
        Credentials::new(Arc::default(), Environment::of(variables.iter().copied()))
    }

    fn choice(variables: &[(&str, &str)]) -> Result<Kind, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(credentials(variables).choose()).map(|(kind, _)| kind)
    }

    /// A library that panics when it is asked for the first time.
    #[derive(Debug, Default)]
    struct Startled(std::sync::atomic::AtomicBool);

    #[async_trait::async_trait]
    impl TokenCredential for Startled {
        async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
            assert!(self.0.swap(true, std::sync::atomic::Ordering::Relaxed), "a secret");
            Ok(AccessToken::new("token", OffsetDateTime::now_utc() + 2 * MARGIN))
        }
    }

    #[test]
    fn a_panic_of_the_library_costs_one_exchange() {
        let credentials = credentials(&[]);
        let credential: Arc<dyn TokenCredential> = Arc::new(Startled::default());
        let ask = || {
            let source = Source {
                kind: Kind::ManagedIdentity,
                instead: None,
                credential: credential.clone(),
                last: LastFailure::default(),
                token: None,
            };
            let slot = Arc::new(Slot::new(Some(source)));
            credentials.sources.lock().unwrap().insert("vault.azure.net".to_owned(), slot.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            (runtime.block_on(credentials.header("azurekms://team.vault.azure.net/k", "vault.azure.net", &Mutex::default())), slot)
        };
        let (outcome, slot) = ask();
        let line = outcome.unwrap_err().line();
        assert!(
            line.contains("a managed identity was asked: the token service's answer is absurd") && !line.contains("a secret"),
            "{line}"
        );
        assert!(slot.try_lock().unwrap().is_none(), "the next exchange makes the library anew");
        assert!(ask().0.is_ok());
    }

    #[test]
    fn the_first_of_the_chain_that_is_there_is_chosen() {
        let secret = (CLIENT_SECRET, "s");
        let file = (TOKEN_FILE, "/nonexistent");
        let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token");
        let certificate = (CERTIFICATE, "/c.pem");
        assert_eq!(choice(&[secret, certificate, file, endpoint]).unwrap(), Kind::ClientSecret);
        assert_eq!(choice(&[certificate, file, endpoint]).unwrap(), Kind::ClientCertificate);
        assert_eq!(choice(&[file, endpoint]).unwrap(), Kind::WorkloadIdentity);
        assert_eq!(choice(&[endpoint]).unwrap(), Kind::ManagedIdentity);
    }

    #[test]
    fn a_choice_by_name_holds() {
        for kind in CHAIN {
            assert_eq!(choice(&[(CHOICE, &kind.as_str().to_ascii_uppercase()), (CLIENT_SECRET, "s")]).unwrap(), kind);
        }
        assert_eq!(choice(&[(CHOICE, "dev"), (CLIENT_SECRET, "s")]).unwrap(), Kind::AzureCli);
        assert_eq!(choice(&[(CHOICE, "prod"), (TOKEN_FILE, "f")]).unwrap(), Kind::WorkloadIdentity);
        let line = choice(&[(CHOICE, "VisualStudioCredential")]).unwrap_err().line();
        assert!(line.starts_with("AZURE_TOKEN_CREDENTIALS: it is none of prod, dev, EnvironmentCredential, "), "{line}");
    }

    #[test]
    fn tokens_are_given_out_by_the_cloud_of_the_domain_unless_it_is_said() {
        let cloud = |variables: &[(&str, &str)], domain| credentials(variables).cloud(domain);
        assert_eq!(cloud(&[], "vault.azure.net").unwrap(), CloudConfiguration::AzurePublic);
        assert_eq!(cloud(&[], "managedhsm.azure.cn").unwrap(), CloudConfiguration::AzureChina);
        assert_eq!(cloud(&[], "vault.usgovcloudapi.net").unwrap(), CloudConfiguration::AzureGovernment);
        for host in ["login.example", "https://login.example"] {
            let CloudConfiguration::Custom(custom) = cloud(&[(AUTHORITY, host)], "vault.azure.net").unwrap() else { panic!() };
            assert_eq!(custom.authority_host, "https://login.example");
        }
        for host in ["http://login.example", "http://127.0.0.1", "https://", "ftp://login.example"] {
            assert!(cloud(&[(AUTHORITY, host)], "vault.azure.net").unwrap_err().line().starts_with("AZURE_AUTHORITY_HOST: "), "{host}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (variables, missing) in [
            (
                &[(CLIENT_SECRET, "s"), (CLIENT_ID, "c")][..],
                "AZURE_TENANT_ID: it is not set, which a client secret (AZURE_CLIENT_SECRET) needs; set AZURE_TENANT_ID, AZURE_CLIENT_ID and",
            ),
            (&[(CLIENT_SECRET, "s"), (TENANT_ID, "t")], "AZURE_CLIENT_ID: it is not set"),
            (&[(TENANT_ID, "t"), (CLIENT_ID, "c")], "AZURE_CLIENT_SECRET: it is not set"),
        ] {
            let Err(error) = credentials(variables).build(Kind::ClientSecret, "vault.azure.net", &LastFailure::default()) else {
                panic!("{missing}")
            };
            assert!(error.line().starts_with(missing), "{}", error.line());
        }
        let Err(error) = credentials(&[(CERTIFICATE, "/c.pem"), (TENANT_ID, "t"), (CLIENT_ID, "c")]).build(
            Kind::ClientCertificate,
            "vault.azure.net",
            &LastFailure::default(),
        ) else {
            panic!()
        };
        assert!(error.line().starts_with("the client certificate in /c.pem: No such file"), "{}", error.line());
        let variables = [(TOKEN_FILE, "/nonexistent"), (TENANT_ID, "t"), (CLIENT_ID, "c")];
        let Err(error) = credentials(&variables).build(Kind::WorkloadIdentity, "vault.azure.net", &LastFailure::default()) else {
            panic!()
        };
        assert!(
            error.line().starts_with("AZURE_FEDERATED_TOKEN_FILE: the token in /nonexistent is not used: No such file"),
            "{}",
            error.line()
        );
    }
}
