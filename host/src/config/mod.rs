//! The configuration: one TOML file. `docs/configuration.md` describes it.

mod audit;
mod component;
mod http_kms;
mod server;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use self::audit::{Audit, AuditSink};
pub use self::component::Component;
pub use self::http_kms::{HttpKms, HttpKmsHeader, HttpKmsRule, HttpKmsUsage};
#[cfg(feature = "server")]
pub(crate) use self::server::three_quarters;
pub use self::server::{LogFormat, LogLevel, Server};
use crate::{Error, shown, text_file};

/// What the configuration file says. Unknown keys are errors: a misspelled restriction must not pass as none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// The provider's name in `ocicrypt.json`, under which messages hold its parameters. Without it, it is found from the message.
    pub provider: Option<String>,
    /// Key URIs to wrap for when a message names none.
    pub default_recipients: Vec<String>,
    /// Which keys an image may choose by itself: key URIs, or prefixes of canonical ones that end with `/*`, of services that
    /// [`Builder::service`](crate::Builder::service) adds, too.
    ///
    /// It restricts unwraps for which the caller names no key, so that the annotation does. Keys that the caller,
    /// [`Builder::key`](crate::Builder::key) or `default_recipients` name are lent without it, unless the provider is
    /// [for clients](crate::Builder::for_clients): then no others are lent, whoever names them. `None`: an image may choose any `local://`
    /// and any `gcpkms://` key, and of other services none. An empty list: none at all.
    pub keys: Option<Vec<String>>,
    /// The policy's file, in place of `keys`: then every key, whoever names it, needs a rule that permits it.
    pub policy: Option<PathBuf>,
    /// The folder of JWK sets; `OCICRYPT_KMS_KEYSTORE` comes before it.
    pub keystore: Option<PathBuf>,
    /// How long one exchange may take, KMS calls and retries included; 1 to 300.
    pub deadline_seconds: u16,
    /// Settings that are handed to the component.
    pub options: BTreeMap<String, String>,
    /// Which component is run.
    pub component: Component,
    /// Whether the program, started by a container tool, gives up what its exchange doesn't need.
    pub hardening: bool,
    /// Google Cloud KMS.
    pub gcp: Gcp,
    /// The transit engine of Vault and OpenBao.
    pub vault: Vault,
    /// AWS KMS.
    pub aws: Aws,
    /// Azure Key Vault and Managed HSM.
    pub azure: Azure,
    /// Endpoints of services that only a component knows, by name.
    pub http_kms: BTreeMap<String, HttpKms>,
    /// `ocicrypt-kms serve`.
    pub server: Server,
    /// What is written down of each use.
    pub audit: Audit,
}

/// Settings of Google Cloud KMS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Gcp {
    /// Another address than `https://cloudkms.googleapis.com`; `CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS` comes before it.
    pub endpoint: Option<String>,
    /// A credential file, in place of Application Default Credentials; `--adc` comes before it.
    pub credentials: Option<PathBuf>,
}

/// Settings of the transit engine of HashiCorp Vault and OpenBao. At most one of `auth`, `token-file`, `approle`, `kubernetes`, `jwt` and `cert`
/// is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Vault {
    /// The server's address, `https`, `http` to loopback or `unix:///PATH`; `VAULT_ADDR` and `BAO_ADDR` come before it.
    pub address: Option<String>,
    /// The addresses of the cluster's servers that a standby's redirect (307) is followed to, once, with the token. None by default.
    pub standby_redirects: Vec<String>,
    /// Certificate authorities in PEM, in place of the system's; `VAULT_CACERT` and `BAO_CACERT` come before it.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate in PEM, with the certificates between it and its root; `VAULT_CLIENT_CERT` and `BAO_CLIENT_CERT` come before it.
    pub client_certificate: Option<PathBuf>,
    /// The certificate's private key in PEM; `VAULT_CLIENT_KEY` and `BAO_CLIENT_KEY` come before it.
    pub client_key: Option<PathBuf>,
    /// The namespace of mounts; `VAULT_NAMESPACE` and `BAO_NAMESPACE` come before it.
    pub namespace: Option<String>,
    /// Whether a token is sent at all; with [`VaultAuth::None`], `VAULT_TOKEN` and `BAO_TOKEN` aren't looked at.
    pub auth: Option<VaultAuth>,
    /// A file that holds a token; `VAULT_TOKEN` and `BAO_TOKEN` come before it and what follows.
    pub token_file: Option<PathBuf>,
    /// Log in by AppRole.
    pub approle: Option<VaultAppRole>,
    /// Log in with the token of a pod's service account.
    pub kubernetes: Option<VaultKubernetes>,
    /// Log in with a JWT.
    pub jwt: Option<VaultJwt>,
    /// Log in with the client's certificate.
    pub cert: Option<VaultCert>,
}

/// Who adds the token to a request to Vault, if it isn't this program.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VaultAuth {
    /// Requests are sent without a token: an Agent or Proxy with auto-auth adds its own.
    None,
}

/// How to log in to Vault by [AppRole](https://openbao.org/api-docs/auth/approle/).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VaultAppRole {
    /// The role's id.
    pub role_id: String,
    /// A file that holds the secret id. A role need not have one.
    pub secret_id_file: Option<PathBuf>,
    /// Where the method is mounted: `approle` by default.
    pub mount: Option<String>,
}

/// How to log in to Vault with the token of a pod's [service account](https://openbao.org/api-docs/auth/kubernetes/).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VaultKubernetes {
    /// The role's name.
    pub role: String,
    /// A file that holds the token: `/var/run/secrets/kubernetes.io/serviceaccount/token` by default.
    pub token_file: Option<PathBuf>,
    /// Where the method is mounted: `kubernetes` by default.
    pub mount: Option<String>,
}

/// How to log in to Vault with a [JWT](https://openbao.org/api-docs/auth/jwt/).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VaultJwt {
    /// The role's name.
    pub role: String,
    /// A file that holds the JWT. Read for each login, so that something else may renew it.
    pub token_file: PathBuf,
    /// Where the method is mounted: `jwt` by default.
    pub mount: Option<String>,
}

/// How to log in to Vault with the [client's certificate](https://openbao.org/api-docs/auth/cert/).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct VaultCert {
    /// The role's name. Without, the server looks for one that fits the certificate.
    pub role: Option<String>,
    /// Where the method is mounted: `cert` by default.
    pub mount: Option<String>,
}

/// Settings of AWS KMS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Aws {
    /// Another address than those of the regions; `AWS_ENDPOINT_URL_KMS` and `AWS_ENDPOINT_URL` override it, and it overrides the profile.
    pub endpoint: Option<String>,
}

/// Settings of Azure Key Vault and Managed HSM.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Azure {
    /// One address for all vaults and HSMs, in place of the hosts that key URIs name.
    pub endpoint: Option<String>,
    /// Domains of further clouds below which vaults are, such as `vault.example.cloud`; those of HSMs begin with `managedhsm.`.
    pub suffixes: Vec<String>,
}

impl Azure {
    /// With the longest names of a vault and a key, a key identifier then still has at most the 256 bytes that are looked at of a `kid`.
    const MAX_SUFFIX: usize = 56;

    /// The further domains.
    ///
    /// # Errors
    /// If one is no domain, or a top-level one: tokens go to whatever host is below it.
    pub fn suffixes(&self) -> Result<Vec<String>, String> {
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_domain = |suffix: &&String| suffix.contains('.') && suffix.len() <= Self::MAX_SUFFIX && suffix.split('.').all(is_label);
        match self.suffixes.iter().find(|suffix| !is_domain(suffix)) {
            Some(wrong) => {
                Err(format!("{} is no domain such as `vault.example.cloud`, of at most {} bytes", shown::name(wrong), Self::MAX_SUFFIX))
            }
            None => Ok(self.suffixes.iter().map(|suffix| suffix.to_ascii_lowercase()).collect()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: None,
            default_recipients: Vec::new(),
            keys: None,
            policy: None,
            keystore: None,
            deadline_seconds: 30,
            options: BTreeMap::new(),
            component: Component::default(),
            hardening: true,
            gcp: Gcp::default(),
            vault: Vault::default(),
            aws: Aws::default(),
            azure: Azure::default(),
            http_kms: BTreeMap::new(),
            server: Server::default(),
            audit: Audit::default(),
        }
    }
}

impl Config {
    /// Reads the file that [`Config::locate`] finds; the defaults if there is none.
    ///
    /// # Errors
    /// If a file that was named, or is there, can't be read, or if it isn't a configuration.
    pub fn load(explicit: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        Self::locate(explicit, environment)?.map_or_else(|| Ok(Self::default()), |path| Self::read(&path))
    }

    /// The file `explicit`, else the one that `OCICRYPT_KMS_CONFIG` names, else the first that exists of
    /// `$XDG_CONFIG_HOME/ocicrypt-kms/config.toml` and `/etc/ocicrypt-kms/config.toml`.
    ///
    /// # Errors
    /// If it can't be told whether one of them exists: what it restricts must not give way to the next one, or to the defaults.
    pub fn locate(explicit: Option<&Path>, environment: &Environment) -> Result<Option<PathBuf>, Error> {
        let named = explicit.map(Path::to_owned).or_else(|| environment.get("OCICRYPT_KMS_CONFIG").map(PathBuf::from));
        if named.is_some() {
            return Ok(named);
        }
        let user = environment.base_directory("XDG_CONFIG_HOME", ".config").map(|base| base.join("ocicrypt-kms/config.toml"));
        let system = PathBuf::from("/etc/ocicrypt-kms/config.toml");
        for path in user.into_iter().chain([system]) {
            if is_there(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let text = text_file::read_unexposed(path, "the configuration")?;
        Self::parse(&text).map_err(|reason| Error::Configuration { place: shown::path(path).to_string(), reason })
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// A sentence that names the line and what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| text_file::toml_error(text, &error))?;
        config.deadline()?;
        config.component.check()?;
        Ok(config)
    }

    /// How long one exchange may take.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn deadline(&self) -> Result<Duration, String> {
        match self.deadline_seconds {
            1..=300 => Ok(Duration::from_secs(self.deadline_seconds.into())),
            _ => Err("`deadline-seconds` is not from 1 to 300".into()),
        }
    }
}

/// Whether there is something at this path, be it a link that leads nowhere: reading it then tells.
fn is_there(path: &Path) -> Result<bool, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(Error::Configuration {
            place: shown::path(path).to_string(),
            reason: format!(
                "whether there is a configuration can't be told: {error}; let this user look into its folder, or name a file by --config or \
                 OCICRYPT_KMS_CONFIG"
            ),
        }),
    }
}

/// Environment variables: the process's, or others.
#[derive(Clone, Debug)]
pub struct Environment(Option<BTreeMap<OsString, OsString>>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn process() -> Self {
        Self(None)
    }

    /// No variables: settings come from the configuration alone.
    ///
    /// What the libraries of a service look up by themselves they still do: the system's certificates, profiles of AWS.
    #[must_use]
    pub fn empty() -> Self {
        Self(Some(BTreeMap::new()))
    }

    /// These variables and no others.
    pub fn of<K: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Some(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }

    /// A variable, unless it is missing or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<OsString> {
        let value = match &self.0 {
            Some(variables) => variables.get(std::ffi::OsStr::new(name)).cloned(),
            None => std::env::var_os(name),
        };
        value.filter(|value| !value.is_empty())
    }

    /// Whether a variable is there and empty.
    #[cfg(feature = "http")]
    pub(crate) fn is_emptied(&self, name: &str) -> bool {
        match &self.0 {
            Some(variables) => variables.get(std::ffi::OsStr::new(name)).is_some_and(|value| value.is_empty()),
            None => std::env::var_os(name).is_some_and(|value| value.is_empty()),
        }
    }

    /// All variables, unless they are those of this process.
    #[cfg(any(feature = "azure", feature = "gcp"))]
    pub(crate) fn variables(&self) -> Option<&BTreeMap<OsString, OsString>> {
        self.0.as_ref()
    }

    /// A folder of the XDG base directory specification: the variable if it holds an absolute path, else below the home folder.
    #[must_use]
    pub fn base_directory(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let base = self.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        base.or_else(|| self.get("HOME").map(|home| PathBuf::from(home).join(below_home)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        let config = Config::parse("").unwrap();
        assert_eq!((config.deadline_seconds, config.keys), (30, None));
    }

    #[test]
    fn every_setting_reads() {
        // What can't stand beside other settings is a comment there.
        let text = include_str!("../../../example/config.toml").replace("# policy = ", "policy = ");
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.provider.as_deref(), Some("kmscrypt"));
        assert!(config.keys.is_some() && config.policy.is_some() && config.keystore.is_some() && config.gcp.endpoint.is_some());
        assert!(config.vault.address.is_some() && config.vault.approle.is_some() && !config.vault.standby_redirects.is_empty());
        assert!(config.vault.client_certificate.is_some() && config.vault.client_key.is_some());
        assert!(config.component.file.is_some() && config.component.sha256.is_some() && config.component.cache && config.hardening);
        assert!(config.aws.endpoint.is_some());
        assert!(config.azure.endpoint.is_some() && !config.azure.suffixes().unwrap().is_empty());
        let endpoint = &config.http_kms["fortanix"];
        assert!(
            endpoint.ca_file.is_some()
                && endpoint.bearer_file.is_some()
                && endpoint.allow.len() == 2
                && !endpoint.request_headers.is_empty()
        );
        assert!(config.audit.file.is_some() && config.audit.rotate_at().unwrap().is_some() && !config.audit.sinks.is_empty());
        assert!(config.audit.checkpoints().unwrap().is_some() && config.audit.checkpoint_file.is_some());
        assert!(!config.server.listen.is_empty() && config.server.group.is_some() && config.server.metrics.is_some());
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_line() {
        let error = Config::parse("provider = 'p'\nkey = []\n").unwrap_err();
        assert!(error.starts_with("line 2: unknown field `key`"), "{error}");
        let error = Config::parse("[gcp]\nendpont = 'x'\n").unwrap_err();
        assert!(error.starts_with("line 2: unknown field `endpont`"), "{error}");
        let error = Config::parse("[vault.jwt]\nrole = 'r'\ntoken-file = 'f'\nmonut = 'x'\n").unwrap_err();
        assert!(error.starts_with("line 4: unknown field `monut`"), "{error}");
    }

    #[test]
    fn a_suffix_that_is_no_domain_is_an_error() {
        let suffixes = |text: &str| Azure { suffixes: vec![text.into()], endpoint: None }.suffixes();
        assert_eq!(suffixes("Vault.Example.cloud").unwrap(), ["vault.example.cloud"]);
        for bad in [
            "",
            "net",
            ".azure.net",
            "azure..net",
            "azure.net.",
            "azure.net/x",
            "azure.net:443",
            "*.azure.net",
            "u@azure.net",
            &("a.".repeat(28) + "b"),
        ] {
            assert!(suffixes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_deadline_outside_its_range_is_an_error() {
        for seconds in ["0", "301"] {
            assert!(Config::parse(&format!("deadline-seconds = {seconds}")).unwrap_err().contains("1 to 300"));
        }
    }

    #[test]
    fn an_empty_environment_has_none_of_the_processes_variables() {
        assert!(Environment::process().get("PATH").is_some() && Environment::empty().get("PATH").is_none());
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let environment = Environment::of([("OCICRYPT_KMS_CONFIG", "/nonexistent/config.toml")]);
        let error = Config::load(None, &environment).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/config.toml: "), "{error}");
        let nowhere = Environment::of([("XDG_CONFIG_HOME", "/nonexistent")]);
        assert!(Config::load(None, &nowhere).is_ok());
    }

    #[test]
    fn a_file_that_can_not_be_looked_at_does_not_give_way_to_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let environment = |base: &Path| Environment::of([("XDG_CONFIG_HOME", base)]);
        let located = |base: &Path| Config::locate(None, &environment(base));
        let system = located(&folder.path().join("not/there")).unwrap();
        assert!(system.is_none_or(|path| path == Path::new("/etc/ocicrypt-kms/config.toml")));
        // A file where a folder should be is no configuration, either.
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(located(&folder.path().join("file")).is_ok());
        // What the kernel refuses to look at, root or not: links that lead to each other, and a name that is too long.
        for (link, to) in [("a", "b"), ("b", "a")] {
            std::os::unix::fs::symlink(to, folder.path().join(link)).unwrap();
        }
        for base in ["a", &"n".repeat(300)] {
            let base = folder.path().join(base);
            for error in [located(&base).unwrap_err(), Config::load(None, &environment(&base)).unwrap_err()] {
                assert!(error.line().contains(": whether there is a configuration can't be told: "), "{}", error.line());
            }
        }
        // A link that leads nowhere is there, and can't be read.
        std::fs::create_dir(folder.path().join("ocicrypt-kms")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("ocicrypt-kms/config.toml")).unwrap();
        assert!(
            Config::load(None, &environment(folder.path())).unwrap_err().line().contains("config.toml: the configuration can't be read")
        );
    }
}
