//! What `~/.aws/config` and `~/.aws/credentials` say of the profile in use, apart from credentials: those are `aws-config`'s to read.
//!
//! The format is the [SDKs'], read by their own parser. Nothing that is kept is a secret.
//!
//! [SDKs']: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html

use std::collections::{BTreeMap, HashMap};

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::env_config::property::PropertiesKey;
use aws_runtime::env_config::section::{EnvConfigSections, Profile as Section};
use aws_runtime::env_config::source;
use aws_types::os_shim_internal::{Env, Fs};

use super::files::{self, CONFIG, CREDENTIALS};
use crate::{Environment, Error, shown};

/// The settings that are kept.
const SETTINGS: [&str; 6] =
    ["ca_bundle", "endpoint_url", "ignore_configured_endpoint_urls", "services", "use_dualstack_endpoint", "use_fips_endpoint"];
/// The most profiles that refer to one another by `source_profile`.
const MAX_SOURCES: usize = 16;

/// The profile in use.
#[derive(Debug)]
pub(super) struct Profile {
    /// What `AWS_PROFILE` says, else `default`.
    pub name: String,
    /// Whether a file has it.
    pub defined: bool,
    /// Where its credentials come from.
    pub source: Source,
    /// Its region or that of the profile that it refers to, with the profile's name.
    pub region: Option<(String, String)>,
    /// `endpoint_url` for KMS in the `services` section that it names.
    pub kms_endpoint: Option<String>,
    settings: BTreeMap<&'static str, String>,
}

/// What credentials come from, of the kinds that need a word in errors.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// The profile says nothing of credentials, or isn't there.
    Nothing,
    /// `credential_process`: its program.
    Program { profile: String, program: String },
    /// `web_identity_token_file`.
    TokenFile { profile: String, file: String },
    /// `login_session`, of `aws login`.
    LoginSession { profile: String },
    /// Anything else.
    Other,
}

impl Profile {
    /// Reads both files, where they are.
    pub async fn read(environment: &Environment) -> Result<Self, Error> {
        let name = environment.get("AWS_PROFILE").and_then(|name| name.into_string().ok()).unwrap_or_else(|| "default".into());
        let mut files = EnvConfigFiles::builder();
        for (file, kind) in [(CONFIG, EnvConfigFileKind::Config), (CREDENTIALS, EnvConfigFileKind::Credentials)] {
            let Some((path, text)) = file.read(environment)? else { continue };
            let wrong = |reason: String| Error::Configuration { place: shown::path(&path).to_string(), reason };
            let text = std::str::from_utf8(&text).map_err(|_| wrong("it is not text in UTF-8".into()))?;
            // Alone, so that an error is one of this file.
            parse(&name, EnvConfigFiles::builder().with_contents(kind, text).build()).await.map_err(wrong)?;
            files = files.with_contents(kind, text);
        }
        // Without any file the builder would panic.
        let sections = parse(&name, files.with_contents(EnvConfigFileKind::Config, "").build()).await;
        let sections = sections.map_err(|reason| Error::Configuration { place: "the profiles of AWS".into(), reason })?;
        Ok(Self::of(name, &sections))
    }

    pub(super) fn of(name: String, sections: &EnvConfigSections) -> Self {
        let setting = |key: &'static str| Some((key, sections.get(key)?.to_owned()));
        let settings: BTreeMap<_, _> = SETTINGS.into_iter().filter_map(setting).collect();
        let kms_endpoint = settings.get("services").and_then(|services| kms_endpoint(services, sections));
        Self {
            defined: sections.get_profile(&name).is_some(),
            source: source_of(&name, sections),
            region: region(&name, sections),
            kms_endpoint,
            settings,
            name,
        }
    }

    /// One of the settings that are kept.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// What an error calls a setting of it.
    pub fn place(&self, key: &str) -> String {
        place(&self.name, key)
    }
}

/// What an error calls a setting of a profile.
pub(super) fn place(profile: &str, key: &str) -> String {
    format!("`{key}` of the profile {}", shown::name(profile))
}

async fn parse(name: &str, files: EnvConfigFiles) -> Result<EnvConfigSections, String> {
    let environment = Env::from(HashMap::from([("AWS_PROFILE".to_owned(), name.to_owned())]));
    let source = source::load(&environment, &Fs::real(), &files).await.map_err(|error| error.to_string())?;
    EnvConfigSections::parse(source).map_err(|error| {
        // `error parsing PATH on line N:`, without a path here. The line itself isn't quoted.
        let text = error.to_string().replace('\n', " ");
        text.replace("error parsing  on ", "").split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// The `endpoint_url` of KMS in a `services` section ([service-specific endpoints]).
///
/// [service-specific endpoints]: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
fn kms_endpoint(services: &str, sections: &EnvConfigSections) -> Option<String> {
    let key = PropertiesKey::builder().section_key("services").section_name(services).property_name("kms");
    sections.other_sections().get(&key.sub_property_name("endpoint_url").build().ok()?).cloned()
}

/// As `aws-config` looks for it: in the profile, else in those that it refers to.
fn region(name: &str, sections: &EnvConfigSections) -> Option<(String, String)> {
    let mut name = name;
    for _ in 0..MAX_SOURCES {
        let profile = sections.get_profile(name)?;
        if let Some(region) = profile.get("region") {
            return Some((region.to_owned(), name.to_owned()));
        }
        name = profile.get("source_profile").filter(|source| *source != name)?;
    }
    None
}

/// Where `aws-config` takes credentials from: what a profile has, and for a role those of the profile that it refers to.
fn source_of(name: &str, sections: &EnvConfigSections) -> Source {
    let mut name = name;
    for depth in 0..MAX_SOURCES {
        let Some(profile) = sections.get_profile(name) else { return if depth == 0 { Source::Nothing } else { Source::Other } };
        if depth > 0 && profile.get("aws_access_key_id").is_some() {
            return Source::Other;
        }
        let role = profile.get("role_arn").filter(|_| profile.get("web_identity_token_file").is_none());
        match (role, profile.get("source_profile")) {
            (Some(_), Some(source)) if source != name => name = source,
            (Some(_), None) => return Source::Other,
            _ => return own_source(name, profile),
        }
    }
    Source::Other
}

fn own_source(name: &str, profile: &Section) -> Source {
    let (has, name) = (|key: &str| profile.get(key).is_some_and(|value| !value.is_empty()), name.to_owned());
    if has("credential_source") {
        return Source::Other;
    }
    if let Some(file) = profile.get("web_identity_token_file") {
        return Source::TokenFile { profile: name, file: file.to_owned() };
    }
    if ["sso_session", "sso_account_id", "sso_region", "sso_role_name", "sso_start_url"].into_iter().any(has) {
        return Source::Other;
    }
    if has("login_session") {
        return Source::LoginSession { profile: name };
    }
    match profile.get("credential_process") {
        Some(command) => Source::Program { profile: name, program: first_word(command) },
        None if has("aws_access_key_id") || has("aws_secret_access_key") => Source::Other,
        None => Source::Nothing,
    }
}

/// The program of a command line: arguments may hold secrets.
fn first_word(command: &str) -> String {
    let command = command.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| command.strip_prefix(quote)?.split(quote).next());
    quoted.or_else(|| command.split_whitespace().next()).unwrap_or_default().to_owned()
}

/// The file of web identity tokens that a profile or a variable names and that can't be read, with what says so.
pub(super) fn unreadable_token(profile: &Profile, environment: &Environment) -> Option<String> {
    let of_profile = match &profile.source {
        Source::TokenFile { profile, file } => Some((place(profile, "web_identity_token_file"), file.into())),
        _ => None,
    };
    let of_variables = files::TOKENS.iter().filter_map(|file| Some((file.variable.to_owned(), file.path(environment)?)));
    of_profile.into_iter().chain(of_variables).find_map(|(place, path)| {
        let error = files::check_token(&path).err()?;
        Some(format!("{place} names {}, which can't be read: {error}", shown::path(&path)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(config: &str, credentials: &str, name: &str) -> Profile {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        let environment = Environment::of([("HOME", home.path().to_str().unwrap()), ("AWS_PROFILE", name)]);
        block_on(Profile::read(&environment)).unwrap()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn settings_are_those_of_the_profile_in_use_and_of_its_services() {
        let config = "[default]\nuse_fips_endpoint = false\n[profile a]\nuse_fips_endpoint = true\nservices = local\n\
                      [services local]\nkms =\n  endpoint_url = https://kms.example\nsts =\n  endpoint_url = https://sts.example\n";
        let a = profile(config, "[a]\nendpoint_url = https://all.example\n", "a");
        assert_eq!((a.get("use_fips_endpoint"), a.kms_endpoint.as_deref()), (Some("true"), Some("https://kms.example")));
        assert_eq!(a.get("endpoint_url"), Some("https://all.example"));
        let default = profile(config, "", "");
        assert_eq!((default.name.as_str(), default.get("use_fips_endpoint")), ("default", Some("false")));
        assert_eq!(default.kms_endpoint, None);
        let missing = profile(config, "", "missing");
        assert!(!missing.defined && missing.source == Source::Nothing && missing.get("use_fips_endpoint").is_none());
    }

    #[test]
    fn the_region_may_be_that_of_the_source() {
        let config = "[profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nregion = eu-west-1\n[profile c]\nsource_profile = c\n";
        assert_eq!(profile(config, "", "a").region, Some(("eu-west-1".into(), "b".into())));
        assert_eq!(profile(config, "", "c").region, None);
        assert_eq!(profile("[profile a]\nsource_profile = b\n[profile b]\nsource_profile = a\n", "", "a").region, None);
    }

    #[test]
    fn where_credentials_come_from_is_told_apart() {
        let program = |program: &str| Source::Program { profile: "a".into(), program: program.into() };
        for (lines, source) in [
            ("credential_process = /opt/give me", program("/opt/give")),
            ("credential_process = \"/opt/my tools/give\" --for me", program("/opt/my tools/give")),
            ("web_identity_token_file = /token\nrole_arn = r", Source::TokenFile { profile: "a".into(), file: "/token".into() }),
            ("login_session = arn:aws:iam::111122223333:user/x", Source::LoginSession { profile: "a".into() }),
            ("sso_session = s\nlogin_session = x", Source::Other),
            ("aws_access_key_id = id", Source::Other),
            ("role_arn = r\nsource_profile = a\ncredential_process = p", program("p")),
            ("role_arn = r\nsource_profile = b", Source::Program { profile: "b".into(), program: "q".into() }),
            ("role_arn = r\ncredential_source = Environment", Source::Other),
            ("output = json", Source::Nothing),
        ] {
            let config = format!("[profile a]\n{lines}\n[profile b]\ncredential_process = q\n");
            assert_eq!(profile(&config, "", "a").source, source, "{lines}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_told_with_the_line() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config");
        std::fs::write(&file, "[default]\nhunter2\n").unwrap();
        let environment = Environment::of([("AWS_CONFIG_FILE", file.to_str().unwrap())]);
        let line = block_on(Profile::read(&environment)).unwrap_err().line();
        assert!(line.contains("/config: line 2: Expected an '=' sign") && !line.contains("hunter2"), "{line}");
    }
}
