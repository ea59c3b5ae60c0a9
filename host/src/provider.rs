//! The key provider as a library: a message in, an answer out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocicrypt_kms_protocol::json::{Object, string};
use ocicrypt_kms_protocol::{Answer, MAX_ANNOTATION, Operation, compose};
use zeroize::Zeroizing;

use crate::audit::{Audit, Ledger};
use crate::caller::Caller;
use crate::component::Choice;
use crate::config::{Config, Environment};
use crate::count::Counted;
use crate::error::printable;
use crate::exchange::{DEFAULT_NAME, Exchange, Settings};
use crate::key_uri::{Addresses, KeyUri, Service};
use crate::kms::{KeyService, Services, request_id};
use crate::lending::{Lender, Lending};
use crate::policy::{KeyList, Policy};
use crate::sandbox::{End, Instances, Sandbox};
use crate::{Digest, Error, PacketInfo};

/// How much later the sandbox stops waiting than a service, which can say what it waited for.
const GRACE: Duration = Duration::from_millis(200);

/// A key provider: a sandboxed component, and the keys, policy and services that it is lent from.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let keystore = folder.path().join("keys");
/// use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
/// use ocicrypt_kms::{Config, KeyProvider};
///
/// Keystore::new(keystore.clone()).create("team", Existing::Refuse, &Jwk::generate_symmetric()?)?;
/// let config = Config { keystore: Some(keystore), ..Config::default() };
/// let provider = KeyProvider::builder(config).build()?;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let opts_data = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;
/// let annotation = provider.wrap(opts_data, &["local://team"]).await?;
/// assert_eq!(provider.unwrap(&annotation, &["local://team"]).await?.as_slice(), opts_data);
/// # Ok::<(), ocicrypt_kms::Error>(())
/// # })?;
/// # Ok::<(), ocicrypt_kms::Error>(())
/// ```
pub struct KeyProvider {
    sandbox: Arc<Sandbox>,
    lender: Arc<Lender>,
    name: Option<String>,
    default_name: &'static str,
    key: Option<KeyUri>,
    default_recipients: Vec<KeyUri>,
    options: Vec<(String, String)>,
    deadline: Duration,
}

/// Who asks for an exchange, and until when.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Who asks.
    pub caller: Caller,
    /// When it must be done; the configured deadline holds anyhow.
    pub deadline: Option<Instant>,
}

/// Makes a [`KeyProvider`].
pub struct Builder {
    config: Config,
    environment: Environment,
    name: Option<String>,
    default_name: &'static str,
    key: Option<String>,
    credentials: Option<PathBuf>,
    instances: Instances,
    services: Option<Services>,
    added: Vec<(Service, Arc<dyn KeyService>)>,
    policy: Option<Arc<dyn Policy>>,
    audit: Option<Arc<Audit>>,
    sandbox: Option<Arc<Sandbox>>,
    component: Option<Vec<u8>>,
    for_clients: bool,
}

impl KeyProvider {
    /// A provider with this configuration.
    #[must_use]
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            environment: Environment::process(),
            name: None,
            default_name: DEFAULT_NAME,
            key: None,
            credentials: None,
            instances: Instances::default(),
            services: None,
            added: Vec::new(),
            policy: None,
            audit: None,
            sandbox: None,
            component: None,
            for_clients: false,
        }
    }

    /// Answers one message of the key provider protocol. Runs on a tokio runtime with time (and, for services that are reached by HTTP,
    /// with I/O) enabled; all exchanges of one provider on the same one, where its connections and tokens live.
    ///
    /// # Errors
    /// If the message is malformed, a key is not lent or can't be used, or the component fails.
    pub async fn exchange(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.exchange_for(message, Call::default()).await
    }

    /// Wraps opts data, the key of an image layer as container tools spell it, for these keys; without any, for the configured default
    /// recipients. Answers the decoded annotation: in base64, it stands in the manifest.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn wrap(&self, opts_data: &[u8], recipients: &[&str]) -> Result<Vec<u8>, Error> {
        Ok(std::mem::take(&mut *self.call(Operation::Wrap, recipients, opts_data).await?))
    }

    /// Unwraps one decoded annotation with one of these keys; without any, with a key that the annotation names, as far as the policy
    /// allows images to choose.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn unwrap(&self, annotation: &[u8], keys: &[&str]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.call(Operation::Unwrap, keys, annotation).await
    }

    async fn call(&self, operation: Operation, keys: &[&str], payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let name = self.name.as_deref().unwrap_or(self.default_name);
        let answer = self.exchange(&compose(operation, name, keys, payload)).await?;
        let answer = Answer::parse(operation, &answer).map_err(|error| Error::Component { reason: error.to_string() })?;
        Ok(answer.result)
    }

    /// The same as [`KeyProvider::exchange`], for somebody else than this process.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn exchange_for(&self, message: &[u8], call: Call) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.exchange_until(message, call, End::Instance).await
    }

    /// The longest time that an exchange may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// [`KeyProvider::exchange`] as the last thing of this process but to write the answer: nothing that the end of the process takes apart is taken apart
    /// before.
    ///
    /// # Errors
    /// Those of [`KeyProvider::exchange`].
    pub async fn last_exchange(self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let outcome = self.exchange_until(message, Call::default(), End::Process).await;
        std::mem::forget(self);
        outcome
    }

    async fn exchange_until(&self, message: &[u8], call: Call, end: End) -> Result<Zeroizing<Vec<u8>>, Error> {
        let Call { caller, deadline } = call;
        let configured = Instant::now() + self.deadline;
        let deadline = deadline.map_or(configured, |deadline| deadline.min(configured));
        let mut counted = Counted::begin();
        let mut ledger = Ledger::new(self.lender.audit.as_ref(), &caller, self.lender.component, deadline);
        let exchange = match self.ready().and_then(|()| self.read(message)) {
            Ok(exchange) => exchange,
            Err(error) => {
                counted.finish::<()>(None, &Err(error.clone()));
                tracing::warn!(%caller, error = error.line(), "refused");
                return ledger.conclude(Err(error), |_: &Answer| None).await.map(|answer| answer.write());
            }
        };
        let operation = exchange.operation;
        counted.operation(operation);
        ledger.about(operation, &exchange.name, || exchange.annotation_digest());
        tracing::debug!(%operation, provider = exchange.name, named = exchange.named.len(), origin = exchange.origin.as_str(), "exchange");
        let defaults: Vec<_> = self.default_recipients.iter().map(|key| key.canonical().to_owned()).collect();
        let lending = Lending::new(self.lender.clone(), exchange, caller, deadline, ledger);
        let exchange = self.sandbox.exchange(lending, &defaults, &self.options, deadline + GRACE, end);
        let (mut lending, answer) = request_id::noting(exchange).await;
        let outcome = lending.conclude(answer.and_then(|answer| check(operation, &answer)), counted.elapsed()).await;
        counted.finish(lending.service(), &outcome);
        outcome.map(|answer| answer.write())
    }

    /// Whether an exchange can be written down, where it has to be.
    fn ready(&self) -> Result<(), Error> {
        self.lender.audit.as_ref().map_or(Ok(()), |audit| audit.ready())
    }

    /// The services whose keys an exchange of this message could open, each once; none if it can't be read.
    #[must_use]
    pub fn services_of(&self, message: &[u8]) -> Vec<Service> {
        self.read(message).map(|exchange| exchange.services(&self.lender.addresses)).unwrap_or_default()
    }

    /// The component that this provider runs.
    #[must_use]
    pub fn component(&self) -> Digest {
        self.lender.component
    }

    fn read(&self, message: &[u8]) -> Result<Exchange, Error> {
        let settings = Settings {
            name: self.name.as_deref(),
            default_name: self.default_name,
            key: self.key.as_ref(),
            default_recipients: &self.default_recipients,
            addresses: &self.lender.addresses,
        };
        Exchange::read(message, &settings)
    }

    /// Who may use which key.
    #[cfg(feature = "server")]
    pub(crate) fn policy(&self) -> &Arc<dyn Policy> {
        &self.lender.policy
    }

    /// Lists the packets of one decoded annotation. Needs no key.
    ///
    /// # Errors
    /// If the annotation is malformed, or the component fails.
    pub async fn inspect(&self, annotation: &[u8]) -> Result<Vec<PacketInfo>, Error> {
        self.sandbox.inspect(annotation, Instant::now() + self.deadline).await
    }
}

/// Reads a guest's answer, to be written anew: a client sees a result of the right operation and nothing else. Opts data that isn't opts
/// data is not answered: the provider is no decryption oracle for other ciphertexts of the same key.
fn check(operation: Operation, answer: &[u8]) -> Result<Answer, Error> {
    let failed = |reason: String| Error::Component { reason };
    let answer = Answer::parse(operation, answer).map_err(|error| failed(error.to_string()))?;
    match operation {
        Operation::Wrap if answer.result.is_empty() || answer.result.len() > MAX_ANNOTATION => {
            Err(failed(format!("its annotation is empty or longer than {MAX_ANNOTATION} bytes")))
        }
        Operation::Unwrap if !is_opts_data(&answer.result) => Err(Error::InvalidInput {
            reason: "what the annotation holds is not the key of an image layer, so it is not handed out".into(),
            hint: "the packet was not made for this use; check where the image comes from".into(),
        }),
        _ => Ok(answer),
    }
}

/// Opts data is a JSON object with a `symkey`.
fn is_opts_data(bytes: &[u8]) -> bool {
    let symkey = |object: Object<'_>| object.get("symkey").and_then(string).is_some_and(|key| !key.is_empty());
    Object::parse(bytes).is_ok_and(symkey)
}

impl Builder {
    /// Which provider of a message this is (`--provider`), in place of the configuration's.
    #[must_use]
    pub fn name(mut self, name: Option<String>) -> Self {
        self.name = name;
        self
    }

    /// Which provider of a message this is where neither the configuration nor the message tells it.
    #[must_use]
    pub fn default_name(mut self, name: &'static str) -> Self {
        self.default_name = name;
        self
    }

    /// The one key of every exchange (`--kmsURI`), in place of a message's parameter.
    #[must_use]
    pub fn key(mut self, uri: Option<String>) -> Self {
        self.key = uri;
        self
    }

    /// A Google credential file (`--adc`), in place of the configuration's.
    #[must_use]
    pub fn credentials(mut self, file: Option<PathBuf>) -> Self {
        self.credentials = file;
        self
    }

    /// Lends only the configured `keys` (or the one of [`Builder::key`]), whoever names them: for callers that are others than whoever runs
    /// this process. Without any, and without a policy, [`Builder::build`] fails.
    #[must_use]
    pub fn for_clients(mut self) -> Self {
        self.for_clients = true;
        self
    }

    /// The environment to read settings from, in place of the process's.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// How instances of the built-in component get their memory.
    #[must_use]
    pub fn instances(mut self, instances: Instances) -> Self {
        self.instances = instances;
        self
    }

    /// Other services than those that are built in.
    #[must_use]
    pub fn services(mut self, services: Services) -> Self {
        self.services = Some(services);
        self
    }

    /// One more service, or another implementation of one. A [`Service::Other`] brings its scheme of key URIs along.
    #[must_use]
    pub fn service(mut self, service: Service, implementation: Arc<dyn KeyService>) -> Self {
        self.added.push((service, implementation));
        self
    }

    /// Another policy than the configured `policy` or `keys`.
    #[must_use]
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Another audit log than the configured one; several providers can share one.
    #[must_use]
    pub fn audit(mut self, audit: Arc<Audit>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Another component than the configured or built-in one, as the bytes of its file, and its digest. Without a digest it is run only if the
    /// configuration or the policy ([`Policy::pins`]) has it. Whoever chooses the component can let it publish the keys of the images that it wraps; see
    /// SECURITY.md. Needs the feature `compile`.
    #[must_use]
    pub fn component(mut self, bytes: Vec<u8>, sha256: Option<Digest>) -> Self {
        self.component = Some(bytes);
        self.config.component.sha256 = sha256.or(self.config.component.sha256);
        self
    }

    /// Another sandbox than one of the built-in component: one that several providers share, or one of another component. Whoever chooses
    /// the component can let it publish the keys of the images that it wraps; see SECURITY.md.
    #[must_use]
    pub fn sandbox(mut self, sandbox: Arc<Sandbox>) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// Makes the provider. Touches no credential and no network.
    ///
    /// # Errors
    /// If the configuration is wrong, the component isn't the one that was promised, or the sandbox can't be set up.
    pub fn build(mut self) -> Result<KeyProvider, Error> {
        let wrong = |place: &str, reason: String| Error::Configuration { place: place.to_owned(), reason };
        let azure_suffixes = self.config.azure.suffixes().map_err(|reason| wrong("azure.suffixes", reason))?;
        let services = self.all_services();
        let addresses = Addresses { azure_suffixes, services: services.others().collect(), ..self.addresses() };
        let parse = |place: &'static str, text: &str| {
            KeyUri::parse(text, &addresses).map_err(|error| wrong(place, format!("{error}; {}", error.hint())))
        };
        #[cfg(feature = "http-kms")]
        let endpoints = crate::kms::endpoint::Endpoints::new(&self.config.http_kms)?;
        let deadline = self.config.deadline().map_err(|reason| wrong("the configuration", reason))?;
        let key = self.key.as_deref().filter(|uri| !uri.is_empty()).map(|uri| parse("--kmsURI", uri)).transpose()?;
        let recipients = self.config.default_recipients.iter().map(|uri| parse("default-recipients", uri));
        let default_recipients = recipients.collect::<Result<Vec<_>, _>>()?;
        let policy = match &self.policy {
            Some(policy) => policy.clone(),
            None => self.configured_policy(&addresses)?,
        };
        let audit = match &self.audit {
            Some(audit) => Some(audit.clone()),
            None => Audit::of(&self.config.audit, self.for_clients)?.map(Arc::new),
        };
        let sandbox = match self.sandbox {
            Some(sandbox) => sandbox,
            None => Arc::new(
                Choice {
                    bytes: self.component.take(),
                    settings: &self.config.component,
                    policy: policy.as_ref(),
                    instances: self.instances,
                    environment: &self.environment,
                }
                .sandbox()?,
            ),
        };
        let component = sandbox.component_digest();
        Ok(KeyProvider {
            sandbox,
            lender: Arc::new(Lender {
                services,
                #[cfg(feature = "http-kms")]
                endpoints,
                policy,
                addresses,
                component,
                audit,
            }),
            name: self.name.or(self.config.provider),
            default_name: self.default_name,
            key,
            default_recipients,
            options: self.config.options.into_iter().collect(),
            deadline,
        })
    }

    fn all_services(&self) -> Services {
        let services = self.services.clone().unwrap_or_else(|| self.built_in_services());
        self.added.iter().fold(services, |services, (service, implementation)| services.with(*service, implementation.clone()))
    }

    /// The policy's file, else the `keys` list.
    fn configured_policy(&self, addresses: &Addresses) -> Result<Arc<dyn Policy>, Error> {
        let wrong = |reason: &str| Error::Configuration { place: "policy".into(), reason: reason.into() };
        match (&self.config.policy, &self.config.keys) {
            (Some(_), Some(_)) => Err(wrong(
                "`keys` is set, too, and it would be unclear which of the two decides; permit the keys in the policy and take `keys` out",
            )),
            #[cfg(feature = "cedar")]
            (Some(file), None) => Ok(Arc::new(crate::policy::cedar::PolicyFile::load(file)?)),
            #[cfg(not(feature = "cedar"))]
            (Some(_), None) => Err(wrong("this program was built without the feature `cedar`, which reads policies")),
            (None, _) => Ok(Arc::new(self.key_list(addresses)?)),
        }
    }

    fn key_list(&self, addresses: &Addresses) -> Result<KeyList, Error> {
        let wrong = |reason: String| Error::Configuration { place: "keys".into(), reason };
        let parse = |keys: &[String]| {
            let list = KeyList::parse(keys.iter().map(String::as_str), addresses);
            list.map_err(|error| wrong(printable(&error.to_string(), 1024)))
        };
        match (&self.config.keys, &self.key) {
            (Some(keys), _) if self.for_clients => Ok(parse(keys)?.for_all()),
            (None, Some(key)) if self.for_clients => Ok(parse(std::slice::from_ref(key))?.for_all()),
            (None, None) if self.for_clients => {
                let reason = "a server lends only the keys that are listed, and none are; add `keys = [\"local://*\"]` or the like, or \
                              `policy = \"FILE\"`, to the configuration, or give --kmsURI";
                Err(wrong(reason.into()))
            }
            (Some(keys), _) => parse(keys),
            (None, _) => Ok(KeyList::default()),
        }
    }

    /// What configuration and environment add to the built-in addresses.
    fn addresses(&self) -> Addresses {
        let addresses = Addresses::default();
        #[cfg(feature = "vault")]
        let addresses = Addresses { vault_host: crate::kms::vault::host(&self.environment, &self.config.vault), ..addresses };
        addresses
    }

    /// Each service of this build. None of them looks anything up before one of its keys is opened.
    fn built_in_services(&self) -> Services {
        #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
        let http = Arc::new(crate::kms::http::Http::default());
        let services = Services::new();
        #[cfg(feature = "local")]
        let services = {
            let folder = crate::kms::keystore::default_folder(&self.environment, self.config.keystore.as_deref());
            services.with(Service::Local, Arc::new(crate::kms::local::Local::new(folder.map(crate::kms::keystore::Keystore::new))))
        };
        #[cfg(feature = "gcp")]
        let services = {
            let settings = &self.config.gcp;
            let credentials = self.credentials.clone().or_else(|| settings.credentials.clone());
            let gcp = crate::kms::gcp::Gcp::new(http.clone(), &self.environment, settings.endpoint.as_deref(), credentials);
            services.with(Service::Gcp, Arc::new(gcp))
        };
        #[cfg(feature = "vault")]
        let services = services.with(Service::Vault, Arc::new(crate::kms::vault::Vault::new(&self.environment, &self.config.vault)));
        #[cfg(feature = "aws")]
        let services = {
            let aws = crate::kms::aws::Aws::new(http.clone(), &self.environment, self.config.aws.endpoint.as_deref());
            services.with(Service::Aws, Arc::new(aws))
        };
        #[cfg(feature = "azure")]
        let services = {
            let azure = crate::kms::azure::Azure::new(http.clone(), &self.environment, self.config.azure.endpoint.as_deref());
            services.with(Service::Azure, Arc::new(azure))
        };
        services
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_opts_data_is_handed_out() {
        assert!(is_opts_data(br#"{"symkey":"a","digest":"b"}"#));
        for other in ["", "{}", "secret", "[]", r#"{"symkey":""}"#, r#"{"symkey":null}"#, r#"{"symkey":{}}"#, r#""symkey""#] {
            assert!(!is_opts_data(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_guests_answer_is_written_anew() {
        let answer = br#"{"x":1,"keywrapresults":{"annotation":"YQ==","y":2},"keyunwrapresults":{"optsdata":"c2VjcmV0"}}"#;
        assert_eq!(check(Operation::Wrap, answer).unwrap().write().as_slice(), br#"{"keywrapresults":{"annotation":[97]}}"#);
        let error = check(Operation::Unwrap, answer).err().unwrap();
        assert!(!error.line().contains("secret"), "{}", error.line());
    }

    #[test]
    fn an_annotation_that_no_client_would_store_is_refused() {
        for length in [0, MAX_ANNOTATION + 1] {
            let answer = Answer::new(Operation::Wrap, Zeroizing::new(vec![b'a'; length])).write();
            assert!(matches!(check(Operation::Wrap, &answer), Err(Error::Component { .. })), "{length}");
        }
    }
}
