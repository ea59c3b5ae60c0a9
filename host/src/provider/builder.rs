//! How a provider is put together.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ocicrypt_kms_protocol::MAX_PACKETS;

use super::KeyProvider;
use crate::audit::{Audit, Sink};
use crate::component::Choice;
use crate::config::{Config, Environment};
use crate::embedding::Host;
use crate::error::printable;
use crate::exchange::{DEFAULT_NAME, provider_name};
use crate::key_uri::{Addresses, KeyUri, Service};
use crate::kms::{KeyService, Services};
use crate::lending::Lender;
use crate::policy::{KeyList, Policy};
use crate::sandbox::{Instances, Sandbox};
use crate::{Digest, Error};

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
    sinks: Vec<Arc<dyn Sink>>,
    sandbox: Option<Arc<Sandbox>>,
    component: Option<Vec<u8>>,
    for_clients: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("for_clients", &self.for_clients).finish_non_exhaustive()
    }
}

/// What a component is chosen by, and keys are lent by.
struct Rules {
    services: Services,
    addresses: Addresses,
    policy: Arc<dyn Policy>,
}

impl Builder {
    pub(super) fn new(config: Config) -> Self {
        Self {
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
            sinks: Vec::new(),
            sandbox: None,
            component: None,
            for_clients: false,
        }
    }

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

    /// Lends only the configured [`keys`](Config::keys) (or the one of [`Builder::key`]), whoever names them: for callers that are others than whoever runs
    /// this process. Without any, and without a policy, [`Builder::build`] fails.
    #[must_use]
    pub fn for_clients(mut self) -> Self {
        self.for_clients = true;
        self
    }

    /// The environment to read settings from, in place of the process's: its variables come before the configuration (`docs/configuration.md`
    /// lists them). With [`Environment::empty`] the configuration alone counts.
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

    /// One more that gets each record, besides what the configuration names. Who gives an audit log of its own ([`Builder::audit`]) names
    /// sinks in [`audit::Settings::sinks`](crate::audit::Settings::sinks): both together are an error of [`Builder::build`].
    #[must_use]
    pub fn audit_sink(mut self, sink: Arc<dyn Sink>) -> Self {
        self.sinks.push(sink);
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
        let rules = self.rules()?;
        let sandbox = match self.sandbox.take() {
            Some(sandbox) => sandbox,
            None => Arc::new(self.choice(&rules).sandbox()?),
        };
        let host = self.host(rules, sandbox.component_digest())?;
        Ok(KeyProvider { sandbox, host })
    }

    /// Makes what begins and ends the exchanges of a component that the program runs itself: the one of [`Builder::component`], the configured or the
    /// built-in one ([`BUILT_IN`](crate::sandbox::BUILT_IN)). Its bytes are looked at for their digest alone, which has to be promised as for
    /// [`Builder::build`]. Nothing is set up for running it, so that [`Builder::instances`] and a configured component's limits count for nothing.
    ///
    /// # Errors
    /// If the configuration is wrong, or the component isn't the one that was promised.
    pub fn build_host(mut self) -> Result<Host, Error> {
        let rules = self.rules()?;
        let component = match &self.sandbox {
            Some(sandbox) => sandbox.component_digest(),
            None => self.choice(&rules).digest()?,
        };
        self.host(rules, component)
    }

    fn rules(&self) -> Result<Rules, Error> {
        let services = self.all_services();
        let addresses = self.addresses_with(&services)?;
        let policy = match &self.policy {
            Some(policy) => policy.clone(),
            None => self.configured_policy(&addresses)?,
        };
        Ok(Rules { services, addresses, policy })
    }

    fn choice<'a>(&'a mut self, rules: &'a Rules) -> Choice<'a> {
        Choice {
            bytes: self.component.take(),
            settings: &self.config.component,
            policy: rules.policy.as_ref(),
            instances: self.instances,
            environment: &self.environment,
        }
    }

    fn host(self, rules: Rules, component: Digest) -> Result<Host, Error> {
        let Rules { services, addresses, policy } = rules;
        let parse = |place: &'static str, text: &str| {
            KeyUri::parse(text, &addresses).map_err(|error| wrong(place, format!("{error}; {}", error.hint())))
        };
        let deadline = self.config.deadline().map_err(|reason| wrong("the configuration", reason))?;
        let key = self.key.as_deref().filter(|uri| !uri.is_empty()).map(|uri| parse("--kmsURI", uri)).transpose()?;
        let recipients = self.config.default_recipients.iter().map(|uri| parse("default-recipients", uri));
        let default_recipients = recipients.collect::<Result<Vec<_>, _>>()?;
        if default_recipients.iter().collect::<BTreeSet<_>>().len() > MAX_PACKETS {
            return Err(wrong("default-recipients", format!("they are more than {MAX_PACKETS} different keys")));
        }
        // Entries of the list were parsed for the policy; a pattern names no key.
        let listed = self.config.keys.iter().flatten().filter_map(|entry| KeyUri::parse(entry, &addresses).ok());
        let multi_region = listed.chain(default_recipients.iter().cloned()).filter(KeyUri::is_multi_region).collect();
        let name = self.name.or(self.config.provider);
        if let Some(name) = &name {
            provider_name(name).map_err(|error| wrong("provider", error.line()))?;
        }
        let audit = match self.audit {
            Some(_) if !self.sinks.is_empty() => {
                let reason = "it has no effect beside `audit`; put the sink into `audit::Settings::sinks`";
                return Err(wrong("audit_sink", reason.into()));
            }
            Some(audit) => Some(audit),
            None => Audit::of(&self.config.audit, self.for_clients, self.sinks)?.map(Arc::new),
        };
        Ok(Host {
            lender: Arc::new(Lender {
                services,
                #[cfg(feature = "http-kms")]
                endpoints: crate::kms::endpoint::Endpoints::new(&self.config.http_kms, &self.environment)?,
                policy,
                addresses,
                component,
                audit,
            }),
            name,
            default_name: self.default_name,
            key,
            default_recipients,
            multi_region,
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
        let wrong = |reason: &str| wrong("policy", reason.into());
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
        let wrong = |reason: String| wrong("keys", reason);
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

    /// What configuration, environment and added services add to the built-in addresses of key URIs.
    ///
    /// # Errors
    /// If the configuration names no address.
    pub fn addresses(&self) -> Result<Addresses, Error> {
        self.addresses_with(&self.all_services())
    }

    fn addresses_with(&self, services: &Services) -> Result<Addresses, Error> {
        let azure_suffixes = self.config.azure.suffixes().map_err(|reason| wrong("azure.suffixes", reason))?;
        let addresses = Addresses { azure_suffixes, services: services.others().collect(), ..Addresses::default() };
        #[cfg(feature = "vault")]
        let addresses = Addresses { vault_host: crate::kms::vault::host(&self.environment, &self.config.vault), ..addresses };
        Ok(addresses)
    }

    /// Each service of this build. None of them looks anything up before one of its keys is opened.
    fn built_in_services(&self) -> Services {
        #[cfg(any(feature = "azure", feature = "gcp"))]
        let http = Arc::new(crate::kms::http::Http::new(&self.environment));
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
            let aws = crate::kms::aws::Aws::new(&self.environment, self.config.aws.endpoint.as_deref());
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

fn wrong(place: &str, reason: String) -> Error {
    Error::Configuration { place: place.to_owned(), reason }
}
