//! Credentials and region by AWS's [default chains], as `aws-config` has them, over this program's HTTP.
//!
//! `aws-config` knows only the process's environment. Of another [`Environment`] only what is read here, in `profile.rs` and in `places.rs` counts:
//! the access key, the region, the addresses.
//!
//! [default chains]: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::sync::OnceCell;

use super::connector::OurHttp;
use super::files::{self, Named};
use super::places::Places;
use super::profile::{self, Profile, Source};
use super::region::Region;
use crate::error::{MAX_OUTSIDE_TEXT, printable};
use crate::key_uri::Service;
use crate::kms::absurd::{AbsurdAnswer, read_by_library};
use crate::kms::http::{Http, Unreached};
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
    http: OurHttp,
    environment: Environment,
    profile: Profile,
    fips: bool,
    dual_stack: bool,
    region: OnceCell<Region>,
    found: Mutex<Option<Credentials>>,
    failed: AtomicBool,
    /// Held while looking, so that one exchange at a time asks. It keeps what it has read of profiles.
    chain: tokio::sync::Mutex<Option<DefaultCredentialsChain>>,
}

impl Chain {
    pub fn new(http: Arc<Http>, environment: Environment, profile: Profile, places: &Places) -> Self {
        Self {
            http: OurHttp::new(http),
            environment,
            profile,
            fips: places.fips,
            dual_stack: places.dual_stack,
            region: OnceCell::new(),
            found: Mutex::default(),
            failed: AtomicBool::default(),
            chain: tokio::sync::Mutex::default(),
        }
    }

    /// The region of keys that don't say theirs: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, that of the EC2 instance.
    pub async fn region(&self, key: &str, deadline: Instant) -> Result<Region, Error> {
        if self.region.get().is_none() && self.named_region().is_none() {
            files::check(&Environment::process())?;
        }
        let find = || async { read_by_library(self.find_region()).await.ok().flatten().ok_or(()) };
        let found = self.region.get_or_try_init(find);
        match tokio::time::timeout(deadline.saturating_duration_since(Instant::now()), found).await {
            Ok(Ok(region)) => Ok(region.clone()),
            Ok(Err(())) | Err(_) => Err(self.fail(Error::InvalidInput {
                reason: format!("{key}: it isn't known in which AWS region the key is"),
                hint: format!(
                    "set AWS_REGION, or `region` in {}, or name the key by its ARN, which says its region{}",
                    self.described_profile(),
                    self.http.metadata_advice()
                ),
            })),
        }
    }

    async fn find_region(&self) -> Option<Region> {
        if let Some(named) = self.named_region() {
            return Some(named);
        }
        let instance = ImdsRegionProvider::builder().configure(&self.config()).build();
        let region = instance.region().await?;
        Some(Region { name: region.as_ref().to_owned(), place: "the EC2 instance's metadata service".into() })
    }

    /// The caller's credentials: those found before, unless they expire soon. If credentials need a region to be got, and the environment
    /// has none, it is `region`, that of the key.
    pub async fn credentials(&self, key: &str, region: &str, deadline: Instant) -> Result<Credentials, Error> {
        if let Some(good) = self.good_for(EARLY) {
            return Ok(good);
        }
        let usable = self.good_for(MARGIN);
        let named = self.named_credentials(key).map_err(|error| self.fail(error))?;
        if usable.is_none() && named.is_none() {
            files::check(&Environment::process())?;
            self.check_profile(key).map_err(|error| self.fail(error))?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let time = if usable.is_some() { RENEWAL.min(left / 2) } else { left };
        let renewed = tokio::time::timeout(time, self.renew(region, usable.as_ref(), named)).await;
        match (renewed, usable) {
            (Ok(Ok(credentials)), _) => Ok(credentials),
            (_, Some(usable)) => {
                tracing::warn!(key, "the AWS credentials expire soon and can't be renewed");
                Ok(usable)
            }
            (Ok(Err(error)), None) => Err(self.fail(self.failed(key, &error))),
            (Err(_), None) => Err(self.fail(self.late(key, time))),
        }
    }

    /// Whether it found nothing, or what AWS refused: files that were mended since have to be read anew.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Error) -> Error {
        self.failed.store(true, Ordering::Relaxed);
        error
    }

    /// Forgets credentials that AWS refused.
    pub fn forget(&self) {
        self.failed.store(true, Ordering::Relaxed);
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
    async fn renew(&self, region: &str, usable: Option<&Credentials>, named: Option<Credentials>) -> Result<Credentials, CredentialsError> {
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
        let looked = match named {
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
        let region = self.named_region().map_or_else(|| region.to_owned(), |named| named.name);
        let builder = DefaultCredentialsChain::builder().configure(self.config()).region(aws_config::Region::new(region));
        builder.profile_name(&self.profile.name).build().await
    }

    fn config(&self) -> ProviderConfig {
        let config = ProviderConfig::without_region().with_http_client(self.http.clone());
        config.with_use_fips(Some(self.fips)).with_use_dual_stack(Some(self.dual_stack))
    }

    /// The region that somebody named.
    fn named_region(&self) -> Option<Region> {
        let variable = |name: &str| Some(Region { name: self.text(name)?, place: name.to_owned() });
        let of_profile = || {
            let (name, profile) = self.profile.region.as_ref()?;
            Some(Region { name: name.clone(), place: profile::place(profile, "region") })
        };
        variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).or_else(of_profile)
    }

    /// The first place of the chain. The library passes over half a pair, and may find credentials that were not meant.
    fn named_credentials(&self, key: &str) -> Result<Option<Credentials>, Error> {
        let [id, secret] = ACCESS_KEY.map(|name| self.text(name));
        let half = |set: &str, missing: &str| {
            Err(lasting(key, format!("{set} is set, and {missing} is missing or empty"), "set both, or unset both to use a profile".into()))
        };
        match (id, secret) {
            (Some(id), Some(secret)) => Ok(Some(Credentials::new(id, secret, self.text("AWS_SESSION_TOKEN"), None, "environment"))),
            (None, None) => Ok(None),
            (Some(_), None) => half(ACCESS_KEY[0], ACCESS_KEY[1]),
            (None, Some(_)) => half(ACCESS_KEY[1], ACCESS_KEY[0]),
        }
    }

    /// What the library can't do with the profile, or says without the profile's name.
    fn check_profile(&self, key: &str) -> Result<(), Error> {
        let Source::LoginSession { profile } = &self.profile.source else { return Ok(()) };
        let (shown, name) = (shown::name(profile), plain(profile));
        Err(lasting(
            key,
            format!("the profile {shown} has a `login_session` (aws login), which isn't supported"),
            format!(
                "have the AWS CLI hand its credentials over: `credential_process = aws configure export-credentials --profile {name} --format \
                 process` in another profile, and name that one in AWS_PROFILE"
            ),
        ))
    }

    fn described_profile(&self) -> String {
        let name = shown::name(&self.profile.name);
        match (self.asked_for(), name.is_harmless()) {
            (true, true) => format!("the profile {name} (if it is defined)"),
            _ => "the profile".into(),
        }
    }

    /// Whether somebody chose the profile.
    fn asked_for(&self) -> bool {
        self.environment.get("AWS_PROFILE").is_some()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.environment.get(name)?.into_string().ok()
    }

    fn failed(&self, key: &str, error: &CredentialsError) -> Error {
        let reason = told(error);
        if let Some(unreached) = Unreached::among(error) {
            let reason = format!("no AWS credentials were given: {unreached}");
            return Unreached { reason, ..unreached.clone() }.error(key);
        }
        match error {
            CredentialsError::CredentialsNotLoaded(_) => {
                tracing::debug!(key, reason, "no AWS credentials");
                self.nowhere(key, &reason)
            }
            _ if is_transient(error) => unavailable(key, &reason),
            _ if is_of_file(error)
                && let Some(named) = profile::unreadable_token(&self.profile, &self.environment) =>
            {
                lasting(key, named, "correct the path, or see why the token isn't there: the kubelet or the CI system writes it".into())
            }
            _ => match &self.profile.source {
                Source::Program { profile, program } if reason.contains(OF_PROGRAM) => lasting(
                    key,
                    format!("no AWS credentials were given: {}: {}", described(program, profile), reason.replace(OF_PROGRAM, "")),
                    "run it by hand as this user: it has to end with success and print the credentials as JSON".into(),
                ),
                _ => lasting(key, format!("no AWS credentials were given: {reason}"), HINT.into()),
            },
        }
    }

    /// No place has any.
    fn nowhere(&self, key: &str, reason: &str) -> Error {
        let (name, Profile { defined, source, .. }) = (shown::name(&self.profile.name), &self.profile);
        let empty = *source == Source::Nothing;
        if self.asked_for() && empty {
            let (config, credentials) = (self.shown(&files::CONFIG), self.shown(&files::CREDENTIALS));
            let (says, remedy) =
                if *defined { ("have a profile without credentials", "add some to it") } else { ("have none", "define it") };
            return lasting(
                key,
                format!("AWS_PROFILE names the profile {name}, and {config} and {credentials} {says} of that name"),
                format!("{remedy} (aws configure --profile {}), or name one of `aws configure list-profiles`", plain(&self.profile.name)),
            );
        }
        if let [Some(set), None] | [None, Some(set)] = WEB_IDENTITY.map(|name| self.environment.get(name).map(|_| name)) {
            let missing = WEB_IDENTITY.into_iter().find(|name| *name != set).unwrap_or_default();
            return lasting(key, format!("there are no AWS credentials: {set} is set, and {missing} isn't"), format!("set {missing}, too"));
        }
        let profile = match of_profile(reason) {
            Some(reason) => format!(" (the profile: {reason})"),
            None if *defined && empty => format!(" (the profile {name} has none)"),
            None => self.missing_file().unwrap_or_default(),
        };
        let nowhere = "there are no AWS credentials in the environment, a profile, a web identity, a container or an EC2 instance";
        lasting(key, format!("{nowhere}{profile}"), format!("{HINT}{}", self.http.metadata_advice()))
    }

    /// What was asked gave nothing in time.
    fn late(&self, key: &str, time: Duration) -> Error {
        let seconds = time.as_secs_f32();
        match &self.profile.source {
            Source::Program { profile, program } => Error::NoCredentials {
                key: key.to_owned(),
                reason: format!("no AWS credentials were given: {} did not end within {seconds:.1} seconds", described(program, profile)),
                hint: "run it by hand as this user, without a terminal: it may wait for somebody to type or to log in".into(),
            },
            _ if !self.http.metadata_advice().is_empty() => Error::NoCredentials {
                key: key.to_owned(),
                reason: format!("no AWS credentials were given: there were none within {seconds:.1} seconds"),
                hint: format!("{HINT}{}", self.http.metadata_advice()),
            },
            _ => unavailable(key, &format!("there were none within {seconds:.1} seconds")),
        }
    }

    /// A file with profiles that a variable names and that isn't there: the SDKs pass over it.
    fn missing_file(&self) -> Option<String> {
        let named = [files::CONFIG, files::CREDENTIALS].into_iter().filter(|file| self.environment.get(file.variable).is_some());
        let missing = |file: Named| Some((file.path(&self.environment).filter(|path| !path.exists())?, file.variable));
        named.filter_map(missing).next().map(|(path, variable)| format!(" ({variable} names {}, which isn't there)", shown::path(&path)))
    }

    /// The path of a file with profiles.
    fn shown(&self, file: &Named) -> String {
        let usual = if file.variable == files::CONFIG.variable { "~/.aws/config" } else { "~/.aws/credentials" };
        match self.environment.get(file.variable) {
            Some(path) => format!("{} ({})", shown::path(&std::path::PathBuf::from(path)), file.variable),
            None => usual.to_owned(),
        }
    }
}

/// The two halves of an access key.
const ACCESS_KEY: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
/// What a web identity needs.
const WEB_IDENTITY: [&str; 2] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"];
/// How the library begins what it says of a `credential_process`.
const OF_PROGRAM: &str = "Error retrieving credentials";

/// The name of a profile as a command has it.
fn plain(profile: &str) -> &str {
    if shown::name(profile).is_harmless() { profile } else { "NAME" }
}

fn described(program: &str, profile: &str) -> String {
    format!("the program {}, {},", shown::path(program), profile::place(profile, "credential_process"))
}

/// No KMS has answered: hence no status.
fn lasting(key: &str, message: String, hint: String) -> Error {
    Error::Kms { key: key.to_owned(), status: 0, code: "CREDENTIALS".into(), message, hint }
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

/// Whether a file could not be read.
fn is_of_file(error: &CredentialsError) -> bool {
    causes(error).any(|cause| cause.is::<std::io::Error>() || cause.to_string().contains("(os error "))
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
            chain(Duration::ZERO).failed("awskms:///alias/a", &error).line()
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
        let profile = Profile::of("default".into(), &Default::default());
        let places = Places::new(&environment, None, &profile).unwrap();
        let chain = Chain::new(Arc::default(), environment, profile, &places);
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
