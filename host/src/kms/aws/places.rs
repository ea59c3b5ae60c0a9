//! Where AWS KMS is: the address of a region, or the one that somebody configured. Nothing in a key URI but the region of an ARN, which
//! was checked against a table, has a say in it.

use std::path::PathBuf;

use reqwest::Url;

use super::profile::Profile;
use super::region::Region;
use crate::kms::http::parse_endpoint;
use crate::{Environment, Error, shown};

/// For one service before that for all, as in all SDKs ([service-specific endpoints]).
///
/// [service-specific endpoints]: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"];
/// Where the setting of this program stands.
const OWN_SETTING: &str = "aws.endpoint";

/// Settings that are true or false: a variable, and what it is called in a profile.
type Switch = (&'static str, &'static str);
const IGNORE: Switch = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls");
const FIPS: Switch = ("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
const DUAL_STACK: Switch = ("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
const CA_BUNDLE: Switch = ("AWS_CA_BUNDLE", "ca_bundle");

/// The addresses of AWS KMS, and what else is said of addresses.
pub(super) struct Places {
    named: Option<Url>,
    /// Whether FIPS endpoints are asked for.
    pub fips: bool,
    /// Whether endpoints with IPv6 addresses are asked for.
    pub dual_stack: bool,
    /// The certificate authorities to trust in place of the system's.
    pub authorities: Option<PathBuf>,
}

impl Places {
    /// What variables, `endpoint` of this program's configuration, and the profile say, in this order.
    ///
    /// # Errors
    /// If an address can't be used, a setting isn't true or false, or FIPS is asked for together with an address that a variable or the profile
    /// names: it isn't known to be one of FIPS.
    pub fn new(environment: &Environment, endpoint: Option<&str>, profile: &Profile) -> Result<Self, Error> {
        let fips = switch(environment, profile, FIPS)?;
        let dual_stack = switch(environment, profile, DUAL_STACK)?;
        let ignored = switch(environment, profile, IGNORE)?.is_some();
        let named = named(environment, endpoint, profile, ignored);
        if let Some((place, _)) = &named {
            for (asked, what) in [(&fips, "FIPS"), (&dual_stack, "dual-stack")] {
                asked.as_ref().map_or(Ok(()), |asked| may_be_named(place, asked, what))?;
            }
        }
        let named =
            named.map(|(place, text)| parse_endpoint(&text).map_err(|reason| Error::Configuration { place, reason })).transpose()?;
        let authorities = environment.get(CA_BUNDLE.0).map(PathBuf::from).or_else(|| profile.get(CA_BUNDLE.1).map(PathBuf::from));
        Ok(Self { named, fips: fips.is_some(), dual_stack: dual_stack.is_some(), authorities })
    }

    /// Whether it is of AWS's own addresses, by the region.
    pub fn are_aws(&self) -> bool {
        self.named.is_none()
    }

    /// The address for a region ([endpoints]; KMS's [rules]).
    ///
    /// [endpoints]: https://docs.aws.amazon.com/general/latest/gr/kms.html
    /// [rules]: https://github.com/boto/botocore/blob/develop/botocore/data/kms/2014-11-01/endpoint-rule-set-1.json
    pub fn url(&self, region: &Region) -> Result<Url, Error> {
        if let Some(named) = &self.named {
            return Ok(named.clone());
        }
        // It becomes a part of a host name.
        region.check()?;
        let service = if self.fips { "kms-fips" } else { "kms" };
        let url = format!("https://{service}.{}.{}/", region.name, region.domain(self.dual_stack));
        Url::parse(&url).map_err(|error| Error::Configuration { place: region.place.clone(), reason: error.to_string() })
    }
}

/// The address that somebody named, with what names it.
fn named(environment: &Environment, endpoint: Option<&str>, profile: &Profile, ignored: bool) -> Option<(String, String)> {
    let variable = |name: &&str| Some(((*name).to_owned(), environment.get(name)?.to_string_lossy().into_owned()));
    let of_services = || Some((profile.place("services"), profile.kms_endpoint.clone()?));
    let of_profile = || Some((profile.place("endpoint_url"), profile.get("endpoint_url")?.to_owned()));
    let variables = ENDPOINT_VARIABLES.iter().find_map(variable).filter(|_| !ignored);
    let own = || Some((OWN_SETTING.to_owned(), endpoint?.to_owned()));
    let profiles = || of_services().or_else(of_profile).filter(|_| !ignored);
    variables.or_else(own).or_else(profiles)
}

/// What says that an address is wanted that AWS's own rules don't combine with a named one. The setting of this program is used as it stands.
fn may_be_named(place: &str, asked: &str, what: &str) -> Result<(), Error> {
    if place == OWN_SETTING {
        return Ok(());
    }
    Err(Error::Configuration {
        place: asked.to_owned(),
        reason: format!(
            "{what} endpoints are asked for, and {place} names another address, which AWS's SDKs don't allow together; unset one of them, or, \
             if that address is the right one, name it as `endpoint` below `[aws]` in the configuration"
        ),
    })
}

/// What says yes, if something does; a variable before the profile.
fn switch(environment: &Environment, profile: &Profile, switch: Switch) -> Result<Option<String>, Error> {
    let Some((place, text)) = value(environment, profile, switch) else { return Ok(None) };
    if text.eq_ignore_ascii_case("true") {
        return Ok(Some(place));
    }
    if text.eq_ignore_ascii_case("false") {
        return Ok(None);
    }
    Err(Error::Configuration { place, reason: format!("{} is neither true nor false; write one of them", shown::name(&text)) })
}

fn value(environment: &Environment, profile: &Profile, (variable, key): Switch) -> Option<(String, String)> {
    let of_variable = environment.get(variable).map(|value| (variable.to_owned(), value.to_string_lossy().into_owned()));
    of_variable.or_else(|| Some((profile.place(key), profile.get(key)?.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these variables, this setting and this profile say. The profile is `p`.
    fn places(variables: &[(&str, &str)], endpoint: Option<&str>, lines: &str) -> Result<Places, Error> {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config");
        std::fs::write(&config, format!("[profile p]\n{lines}\n")).unwrap();
        let of_files = [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_PROFILE", "p")];
        let environment = Environment::of(variables.iter().copied().chain(of_files));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let profile = runtime.block_on(Profile::read(&environment))?;
        Places::new(&environment, endpoint, &profile)
    }

    fn region(name: &str) -> Region {
        Region { name: name.into(), place: "AWS_REGION".into() }
    }

    fn url(places: Result<Places, Error>, name: &str) -> String {
        places.unwrap().url(&region(name)).unwrap().to_string()
    }

    const FIPS: (&str, &str) = ("AWS_USE_FIPS_ENDPOINT", "true");
    const DUAL: (&str, &str) = ("AWS_USE_DUALSTACK_ENDPOINT", "TRUE");

    #[test]
    fn each_region_has_the_addresses_of_its_partition() {
        for (region, plain, dual_stack) in [
            ("eu-central-1", "amazonaws.com", "api.aws"),
            ("cn-north-1", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
            ("us-gov-west-1", "amazonaws.com", "api.aws"),
            ("eusc-de-east-1", "amazonaws.eu", "api.amazonwebservices.eu"),
            ("us-iso-east-1", "c2s.ic.gov", "api.aws.ic.gov"),
        ] {
            assert_eq!(url(places(&[], None, ""), region), format!("https://kms.{region}.{plain}/"));
            assert_eq!(url(places(&[FIPS], None, ""), region), format!("https://kms-fips.{region}.{plain}/"));
            assert_eq!(url(places(&[DUAL], None, ""), region), format!("https://kms.{region}.{dual_stack}/"));
            assert_eq!(url(places(&[FIPS, DUAL], None, ""), region), format!("https://kms-fips.{region}.{dual_stack}/"));
        }
    }

    #[test]
    fn a_variable_overrides_the_profile_in_what_kind_of_address_is_asked_for() {
        let both = "use_fips_endpoint = true\nuse_dualstack_endpoint = true";
        assert_eq!(url(places(&[], None, both), "us-east-1"), "https://kms-fips.us-east-1.api.aws/");
        let off = [("AWS_USE_FIPS_ENDPOINT", "false"), ("AWS_USE_DUALSTACK_ENDPOINT", "false")];
        assert_eq!(url(places(&off, None, both), "us-east-1"), "https://kms.us-east-1.amazonaws.com/");
    }

    #[test]
    fn what_is_neither_true_nor_false_is_not_taken_for_false() {
        for (variables, lines, place) in [
            (&[("AWS_USE_FIPS_ENDPOINT", "1")][..], "", "AWS_USE_FIPS_ENDPOINT: `1` is neither"),
            (&[], "use_fips_endpoint = yes", "`use_fips_endpoint` of the profile `p`: `yes` is neither"),
            (&[], "use_dualstack_endpoint = on", "`use_dualstack_endpoint` of the profile `p`: `on` is neither"),
        ] {
            let line = places(variables, None, lines).err().unwrap().line();
            assert!(line.starts_with(place), "{line}");
        }
    }

    #[test]
    fn the_nearest_setting_names_the_address() {
        let kms = ("AWS_ENDPOINT_URL_KMS", "https://kms.example");
        let all = ("AWS_ENDPOINT_URL", "https://all.example");
        let configured = Some("https://configured.example");
        let services =
            "endpoint_url = https://profile.example\nservices = s\n[services s]\nkms =\n  endpoint_url = https://services.example";
        let profile = "endpoint_url = https://profile.example";
        let ignore = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        for (variables, configured, lines, address) in [
            (&[kms, all][..], configured, services, "https://kms.example/"),
            (&[all], configured, services, "https://all.example/"),
            (&[], configured, services, "https://configured.example/"),
            (&[], None, services, "https://services.example/"),
            (&[], None, profile, "https://profile.example/"),
            (&[kms, all, ignore], None, services, "https://kms.eu-central-1.amazonaws.com/"),
            (&[kms, all, ignore], configured, services, "https://configured.example/"),
            (
                &[kms],
                None,
                &format!("{services}\n[profile p]\nignore_configured_endpoint_urls = true"),
                "https://kms.eu-central-1.amazonaws.com/",
            ),
        ] {
            assert_eq!(url(places(variables, configured, lines), "eu-central-1"), address, "{variables:?}");
        }
    }

    #[test]
    fn a_named_address_is_not_taken_for_one_of_fips() {
        let all = ("AWS_ENDPOINT_URL", "https://all.example");
        for (variables, lines) in [
            (&[all, FIPS][..], ""),
            (&[all], "use_fips_endpoint = true"),
            (&[FIPS], "endpoint_url = https://profile.example"),
            (&[DUAL], "endpoint_url = https://profile.example"),
        ] {
            let line = places(variables, None, lines).err().unwrap().line();
            assert!(line.contains("names another address, which AWS's SDKs don't allow together") && line.contains("`[aws]`"), "{line}");
        }
        assert_eq!(url(places(&[FIPS], Some("https://kms-fips.example"), ""), "us-east-1"), "https://kms-fips.example/");
    }

    #[test]
    fn an_address_that_may_not_be_used_is_told_with_its_setting() {
        for (variables, endpoint, lines, says) in [
            (&[("AWS_ENDPOINT_URL", "http://kms.example")][..], None, "", "AWS_ENDPOINT_URL: "),
            (&[], Some("http://kms.example"), "", "aws.endpoint: "),
            (&[], None, "endpoint_url = http://kms.example", "`endpoint_url` of the profile `p`: "),
            (&[], None, "services = s\n[services s]\nkms =\n  endpoint_url = http://kms.example", "`services` of the profile `p`: "),
        ] {
            let line = places(variables, endpoint, lines).err().unwrap().line();
            assert!(line.starts_with(says) && line.contains("use https"), "{line}");
        }
        assert!(places(&[], None, "").is_ok());
    }

    #[test]
    fn certificate_authorities_are_named_by_a_variable_or_the_profile() {
        let of = |variables: &[(&str, &str)]| places(variables, None, "ca_bundle = /profile.pem").unwrap().authorities;
        assert_eq!(of(&[("AWS_CA_BUNDLE", "/variable.pem")]), Some("/variable.pem".into()));
        assert_eq!(of(&[]), Some("/profile.pem".into()));
    }

    #[test]
    fn what_is_no_region_makes_no_address() {
        for name in ["", "a.example/", "eu-central-1.example", "a@b", "a b", "a#", &"x".repeat(64)] {
            let error = places(&[], None, "").unwrap().url(&region(name)).unwrap_err();
            assert!(error.line().contains("is not the name of an AWS region"), "{name}: {}", error.line());
        }
    }
}
