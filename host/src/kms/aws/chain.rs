//! Credentials and region by AWS's [default chains], as `aws-config` has them, over this program's HTTP.
//!
//! `aws-config` knows only the process's environment. Of another [`Environment`] only what is read here and in `places.rs` counts: the
//! access key, the region, the addresses.
//!
//! [default chains]: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::sync::OnceCell;

use super::connector::OurHttp;
use super::files;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::Service;
use crate::kms::absurd::{AbsurdAnswer, read_by_library};
use crate::kms::http::Http;
use crate::{Environment, Error, count, shown};

/// How long before they expire credentials are renewed, if that works.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// How long before they expire they are no longer used: a call and its repetitions take that long.
const MARGIN: Duration = Duration::from_secs(15);
/// How long renewing may take while the old ones are still good.
const RENEWAL: Duration = Duration::from_secs(5);

const HINT: &str = "log in (aws sso login), name a profile in AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// Looks up what isn't said by a key's URI, when it is first needed.
pub(super) struct Chain {
    http: Arc<Http>,
    environment: Environment,
    fips: bool,
    region: OnceCell<String>,
    found: Mutex<Option<Credentials>>,
    /// Held while looking, so that one exchange at a time asks. It keeps what it has read of profiles.
    chain: tokio::sync::Mutex<Option<DefaultCredentialsChain>>,
}

impl Chain {
    pub fn new(http: Arc<Http>, environment: Environment, fips: bool) -> Self {
        Self { http, environment, fips, region: OnceCell::new(), found: Mutex::default(), chain: tokio::sync::Mutex::default() }
    }

    /// The region of keys that don't say theirs: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, that of the EC2 instance.
    pub async fn region(&self, key: &str, deadline: Instant) -> Result<String, Error> {
        if self.region.get().is_none() && self.named_region().is_none() {
            files::check(&Environment::process())?;
        }
        let find = || async { read_by_library(self.find_region()).await.ok().flatten().ok_or(()) };
        let found = self.region.get_or_try_init(find);
        match tokio::time::timeout(deadline.saturating_duration_since(Instant::now()), found).await {
            Ok(Ok(region)) => Ok(region.clone()),
            Ok(Err(())) | Err(_) => {
                let profile =
                    self.profile().map_or_else(|| "the profile".into(), |name| format!("the profile `{name}` (if it is defined)"));
                Err(Error::InvalidInput {
                    reason: format!("{key}: it isn't known in which AWS region the key is"),
                    hint: format!("set AWS_REGION, or `region` in {profile}, or name the key by its ARN, which says its region"),
                })
            }
        }
    }

    async fn find_region(&self) -> Option<String> {
        let config = self.config();
        let profile = ProfileFileRegionProvider::builder().configure(&config).build();
        let instance = ImdsRegionProvider::builder().configure(&config).build();
        let chain = RegionProviderChain::first_try(self.named_region()).or_else(profile).or_else(instance);
        Some(chain.region().await?.as_ref().to_owned())
    }

    /// The caller's credentials: those found before, unless they expire soon. If credentials need a region to be got, and the environment
    /// has none, it is `region`, that of the key.
    pub async fn credentials(&self, key: &str, region: &str, deadline: Instant) -> Result<Credentials, Error> {
        if let Some(good) = self.good_for(EARLY) {
            return Ok(good);
        }
        let usable = self.good_for(MARGIN);
        if usable.is_none() && self.named_credentials().is_none() {
            files::check(&Environment::process())?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let time = if usable.is_some() { RENEWAL.min(left / 2) } else { left };
        let renewed = tokio::time::timeout(time, self.renew(region, usable.as_ref())).await;
        match (renewed, usable) {
            (Ok(Ok(credentials)), _) => Ok(credentials),
            (_, Some(usable)) => {
                tracing::warn!(key, "the AWS credentials expire soon and can't be renewed");
                Ok(usable)
            }
            (Ok(Err(error)), None) => Err(failed(key, &error, self.profile().as_deref())),
            (Err(_), None) => Err(unavailable(key, &format!("there were none within {:.1} seconds", time.as_secs_f32()))),
        }
    }

    /// Forgets credentials that AWS refused.
    pub fn forget(&self) {
        // Where another exchange is looking already, what it finds is new.
        if let Ok(mut chain) = self.chain.try_lock() {
            *chain = None;
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What was found last, if it is good for so long.
    fn good_for(&self, time: Duration) -> Option<Credentials> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        found.expiry().is_none_or(|expiry| SystemTime::now() + time < expiry).then_some(found)
    }

    /// Looks credentials up. With `usable` ones in hand nobody waits for another exchange that does it already.
    async fn renew(&self, region: &str, usable: Option<&Credentials>) -> Result<Credentials, CredentialsError> {
        let mut chain = match usable {
            None => self.chain.lock().await,
            Some(usable) => match self.chain.try_lock() {
                Ok(chain) => chain,
                Err(_) => return Ok(usable.clone()),
            },
        };
        if let Some(found_meanwhile) = self.good_for(EARLY) {
            return Ok(found_meanwhile);
        }
        let looked = match self.named_credentials() {
            Some(named) => Ok(named),
            None => self.look(&mut chain, region).await,
        };
        count::token(Service::Aws, looked.is_ok());
        match &looked {
            Ok(found) => *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found.clone()),
            // It would say the same for ever; the next exchange looks whether the files were mended.
            Err(_) => *chain = None,
        }
        looked
    }

    /// Asks the library's chain.
    async fn look(&self, chain: &mut Option<DefaultCredentialsChain>, region: &str) -> Result<Credentials, CredentialsError> {
        let looking = async {
            match chain {
                Some(chain) => chain.provide_credentials().await,
                None => chain.insert(self.build(region).await).provide_credentials().await,
            }
        };
        read_by_library(looking).await.unwrap_or_else(|absurd| Err(CredentialsError::provider_error(absurd)))
    }

    async fn build(&self, region: &str) -> DefaultCredentialsChain {
        let config = self.config();
        let profile = ProfileFileRegionProvider::builder().configure(&config).build();
        let region = RegionProviderChain::first_try(self.named_region()).or_else(profile).or_else(Region::new(region.to_owned()));
        DefaultCredentialsChain::builder().configure(config).region(region).build().await
    }

    fn config(&self) -> ProviderConfig {
        ProviderConfig::without_region().with_http_client(OurHttp(self.http.clone())).with_use_fips(Some(self.fips))
    }

    fn named_region(&self) -> Option<Region> {
        self.text("AWS_REGION").or_else(|| self.text("AWS_DEFAULT_REGION")).map(Region::new)
    }

    /// The first place of the chain, here for environments other than the process's.
    fn named_credentials(&self) -> Option<Credentials> {
        let (id, secret) = (self.text("AWS_ACCESS_KEY_ID")?, self.text("AWS_SECRET_ACCESS_KEY")?);
        Some(Credentials::new(id, secret, self.text("AWS_SESSION_TOKEN"), None, "environment"))
    }

    /// The profile that was asked for by name.
    fn profile(&self) -> Option<String> {
        self.text("AWS_PROFILE").filter(|name| !name.is_empty()).filter(|name| shown::name(name).is_harmless())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.environment.get(name)?.into_string().ok()
    }
}

/// `named` is the profile that was asked for by name.
fn failed(key: &str, error: &CredentialsError, named: Option<&str>) -> Error {
    let reason = told(error);
    // No KMS has answered: hence no status.
    let lasting = |message, hint: String| Error::Kms { key: key.to_owned(), status: 0, code: "CREDENTIALS".into(), message, hint };
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            tracing::debug!(key, reason, "no AWS credentials");
            let profile = of_profile(&reason);
            if let Some(name) = named.filter(|name| is_missing(name, profile)) {
                return lasting(
                    format!(
                        "AWS_PROFILE names the profile `{name}`, and ~/.aws/config and ~/.aws/credentials have no credentials of that name"
                    ),
                    format!("define it (aws configure --profile {name}), or name one of `aws configure list-profiles`"),
                );
            }
            let profile = profile.map(|reason| format!(" (the profile: {reason})")).unwrap_or_default();
            let nowhere = "there are no AWS credentials in the environment, a profile, a web identity, a container or an EC2 instance";
            lasting(format!("{nowhere}{profile}"), HINT.into())
        }
        _ if is_transient(error) => unavailable(key, &reason),
        _ => lasting(format!("no AWS credentials were given: {reason}"), HINT.into()),
    }
}

/// Whether the profile that was asked for isn't there or says nothing of credentials. About no profiles at all the library gives no reason;
/// about another one that this one refers to, one with the other's name.
fn is_missing(name: &str, reason: Option<&str>) -> bool {
    reason.is_none_or(|reason| reason.starts_with(&format!("profile `{name}` was not defined: could not find source profile")))
}

/// Of the places where credentials aren't, only a profile is one that somebody wrote by hand: what is wrong with it, as [`told`] has it.
fn of_profile(reason: &str) -> Option<&str> {
    let (_, reason) = reason.split_once("Profile: ")?;
    let (reason, _) = reason.split_once("; WebIdentityToken: ")?;
    // Without a reason: there is none.
    (!NOT_THERE.starts_with(reason)).then_some(reason)
}

fn unavailable(key: &str, reason: &str) -> Error {
    Error::Unavailable { key: key.to_owned(), reason: format!("no AWS credentials were given: {reason}") }
}

fn causes(error: &CredentialsError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source())
}

/// Whether a service that gives credentials could not be reached, or answered nonsense. That there is no metadata server is no such failure.
fn is_transient(error: &CredentialsError) -> bool {
    let unreached = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<ConnectorError>().is_some_and(|error| error.is_io() || error.is_timeout())
    };
    match error {
        CredentialsError::CredentialsNotLoaded(_) => false,
        CredentialsError::ProviderTimedOut(_) => true,
        _ => causes(error).any(|cause| unreached(cause) || cause.is::<AbsurdAnswer>()),
    }
}

/// What the library says of the causes, but for its own general words. Services' answers are among it: shown, but as text of outside
/// origin. What a program of the user (`credential_process`) says isn't: it may hold a secret.
fn told(error: &CredentialsError) -> String {
    let mut told: Vec<String> = Vec::new();
    for cause in causes(error).skip(1) {
        // Where nothing was found, each place has a line.
        let lines = cause.to_string().replace(NOT_THERE, "");
        let text = lines.lines().map(str::trim).collect::<Vec<_>>().join("; ").replace("Attempted:; ", "");
        let text = text.split(" Stderr: ").next().unwrap_or_default().trim_end_matches(['.', ' ']).to_owned();
        let is_new = !told.iter().any(|before| before.contains(&text));
        if is_new && !GENERAL.contains(&text.as_str()) {
            told.push(text);
        }
    }
    match told.is_empty() {
        true => error.to_string(),
        false => printable(&told.join(": "), MAX_OUTSIDE_TEXT),
    }
}

/// What the library says of each place where credentials aren't, before it says why.
const NOT_THERE: &str = "the credential provider was not enabled: ";

/// What stands above a cause that says more.
const GENERAL: [&str; 6] = [
    "an error occurred while loading credentials",
    "the credentials provider was not properly configured",
    "unexpected credentials error",
    "service error",
    "dispatch failure",
    "unhandled error",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_its_causes_without_what_a_program_wrote() {
        let process = "Error retrieving credentials: external process exited with code exit status: 3. Stderr: hunter2";
        let error = CredentialsError::provider_error(process);
        assert_eq!(told(&error), "Error retrieving credentials: external process exited with code exit status: 3");
        let error = CredentialsError::invalid_configuration(CredentialsError::provider_error("the reason"));
        assert_eq!(told(&error), "the reason");
        let error = CredentialsError::not_loaded("none. Attempted:\n  A: the credential provider was not enabled: no a\n  B: no b");
        assert_eq!(told(&error), "none. A: no a; B: no b");
        assert_eq!(told(&CredentialsError::not_loaded_no_source()), "the credential provider was not enabled");
    }

    #[test]
    fn that_there_are_none_is_told_without_reasons_but_the_profiles() {
        let line = |profile: &str| {
            let attempts =
                format!("Environment: not set\n  Profile: the credential provider was not enabled{profile}\n  WebIdentityToken: no");
            let error = CredentialsError::not_loaded(format!("no credentials found in chain. Attempted:\n  {attempts}"));
            failed("awskms:///alias/a", &error, None).line()
        };
        let (nowhere, profile) = (line(""), line(": `absent` was not defined"));
        assert_eq!(
            nowhere,
            "awskms:///alias/a: there are no AWS credentials in the environment, a profile, a web identity, a container or an EC2 instance; \
             log in (aws sso login), name a profile in AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        );
        assert_eq!(profile, nowhere.replace("instance;", "instance (the profile: `absent` was not defined);"));
    }

    #[test]
    fn what_could_not_be_reached_may_be_tried_again() {
        let unreached = CredentialsError::provider_error(ConnectorError::io("no route".into()));
        assert!(is_transient(&unreached) && is_transient(&CredentialsError::provider_timed_out(Duration::from_secs(1))));
        assert!(!is_transient(&CredentialsError::not_loaded(ConnectorError::io("no metadata server".into()))));
        assert!(!is_transient(&CredentialsError::provider_error("refused")));
    }

    /// A chain whose environment has the key `new`, and which found `old` before, for so long.
    fn chain(old: Duration) -> Chain {
        let environment = Environment::of([("AWS_ACCESS_KEY_ID", "new"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
        let chain = Chain::new(Arc::default(), environment, false);
        let expiry = Some(SystemTime::now() + old);
        *chain.found.lock().unwrap() = Some(Credentials::new("old", "secret", None, expiry, "test"));
        chain
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn key_id(chain: &Chain) -> Result<String, Error> {
        let deadline = Instant::now() + Duration::from_millis(200);
        Ok(chain.credentials("awskms:///alias/a", "eu-central-1", deadline).await?.access_key_id().to_owned())
    }

    #[test]
    fn credentials_are_kept_until_shortly_before_they_expire() {
        block_on(async {
            assert_eq!(key_id(&chain(EARLY + Duration::from_secs(60))).await.unwrap(), "old");
            for left in [EARLY - Duration::from_secs(60), MARGIN - Duration::from_secs(5), Duration::ZERO] {
                let chain = chain(left);
                assert_eq!(key_id(&chain).await.unwrap(), "new", "{left:?}");
                assert!(chain.good_for(EARLY).is_some(), "they are kept in turn");
            }
        });
    }

    #[test]
    fn one_exchange_looks_at_a_time_and_the_others_use_what_is_still_good() {
        block_on(async {
            let good = chain(MARGIN + Duration::from_secs(60));
            let _looking = good.chain.lock().await;
            assert_eq!(key_id(&good).await.unwrap(), "old");
            let spent = chain(MARGIN - Duration::from_secs(5));
            let _looking = spent.chain.lock().await;
            let error = key_id(&spent).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{}", error.line());
        });
    }

    #[test]
    fn refused_credentials_are_looked_up_anew() {
        block_on(async {
            let chain = chain(EARLY * 2);
            chain.forget();
            assert_eq!(key_id(&chain).await.unwrap(), "new");
        });
    }
}
