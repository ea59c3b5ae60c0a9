//! The configuration: one TOML file. `docs/configuration.md` describes it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::Error;

/// The most bytes of a configuration file.
const MAX_LENGTH: u64 = 1 << 20;

/// What the configuration file says. Unknown keys are errors: a misspelled restriction must not pass as none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// The provider's name in `ocicrypt.json`, under which messages hold its parameters. Without it, it is found from the message.
    pub provider: Option<String>,
    /// Key URIs to wrap for when a message names none.
    pub default_recipients: Vec<String>,
    /// Which keys an image may choose by itself: key URIs, or prefixes of canonical ones that end with `/*`.
    pub keys: Option<Vec<String>>,
    /// The folder of JWK sets.
    pub keystore: Option<PathBuf>,
    /// How long one exchange may take, KMS calls and retries included; 1 to 300.
    pub deadline_seconds: u16,
    /// Settings that are handed to the component.
    pub options: BTreeMap<String, String>,
    /// Google Cloud KMS.
    pub gcp: Gcp,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: None,
            default_recipients: Vec::new(),
            keys: None,
            keystore: None,
            deadline_seconds: 30,
            options: BTreeMap::new(),
            gcp: Gcp::default(),
        }
    }
}

impl Config {
    /// Reads the file `explicit`, else the one that `OCICRYPT_KMS_CONFIG` names, else the first that exists of
    /// `$XDG_CONFIG_HOME/ocicrypt-kms/config.toml` and `/etc/ocicrypt-kms/config.toml`, else nothing.
    ///
    /// # Errors
    /// If a file that was named can't be read, or if it isn't a configuration.
    pub fn load(explicit: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        let named = explicit.map(Path::to_owned).or_else(|| environment.get("OCICRYPT_KMS_CONFIG").map(PathBuf::from));
        if let Some(path) = named {
            return Self::read(&path);
        }
        let user = environment.base_directory("XDG_CONFIG_HOME", ".config").map(|base| base.join("ocicrypt-kms/config.toml"));
        let system = PathBuf::from("/etc/ocicrypt-kms/config.toml");
        match user.into_iter().chain([system]).find(|path| path.exists()) {
            Some(path) => Self::read(&path),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Configuration { place: path.display().to_string(), reason };
        let unreadable = |error: std::io::Error| wrong(format!("the configuration can't be read: {error}"));
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > MAX_LENGTH {
            return Err(wrong(format!("the file is longer than {MAX_LENGTH} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(wrong)
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// A sentence that names the line and what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: {}", error.message())
        })?;
        config.deadline()?;
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

/// The process's environment variables, or a test's.
#[derive(Clone, Debug, Default)]
pub struct Environment(Option<BTreeMap<OsString, OsString>>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn process() -> Self {
        Self(None)
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
        let config = Config::parse(include_str!("../../example/config.toml")).unwrap();
        assert_eq!(config.provider.as_deref(), Some("kmscrypt"));
        assert!(config.keys.is_some() && config.keystore.is_some() && config.gcp.endpoint.is_some());
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_line() {
        let error = Config::parse("provider = 'p'\nkey = []\n").unwrap_err();
        assert!(error.starts_with("line 2: unknown field `key`"), "{error}");
        let error = Config::parse("[gcp]\nendpont = 'x'\n").unwrap_err();
        assert!(error.starts_with("line 2: unknown field `endpont`"), "{error}");
    }

    #[test]
    fn a_deadline_outside_its_range_is_an_error() {
        for seconds in ["0", "301"] {
            assert!(Config::parse(&format!("deadline-seconds = {seconds}")).unwrap_err().contains("1 to 300"));
        }
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let environment = Environment::of([("OCICRYPT_KMS_CONFIG", "/nonexistent/config.toml")]);
        let error = Config::load(None, &environment).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/config.toml: "), "{error}");
        let nowhere = Environment::of([("XDG_CONFIG_HOME", "/nonexistent")]);
        assert!(Config::load(None, &nowhere).is_ok());
    }
}
