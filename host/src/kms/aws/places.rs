//! Where AWS KMS is: the address of a region, or the one that somebody configured. Nothing in a key URI but the region of an ARN, which
//! was checked against a table, has a say in it.

use reqwest::Url;

use crate::kms::http::parse_endpoint;
use crate::{Environment, Error, shown};

/// For one service before that for all, as in all SDKs ([service-specific endpoints]).
///
/// [service-specific endpoints]: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"];
const IGNORE_VARIABLE: &str = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";
const FIPS_VARIABLE: &str = "AWS_USE_FIPS_ENDPOINT";

/// The addresses of AWS KMS.
pub(super) struct Places {
    named: Option<Result<Url, Error>>,
    fips: bool,
}

impl Places {
    /// The one that a variable or else `endpoint` names, else those of the regions.
    pub fn new(environment: &Environment, endpoint: Option<&str>) -> Self {
        let is_true = |name| environment.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let variable = |name: &&'static str| Some((*name, environment.get(name)?.to_string_lossy().into_owned()));
        let variables = if is_true(IGNORE_VARIABLE) { None } else { ENDPOINT_VARIABLES.iter().find_map(variable) };
        let named = variables.or_else(|| Some(("aws.endpoint", endpoint?.to_owned())));
        let parse = |(place, text): (&str, String)| {
            parse_endpoint(&text).map_err(|reason| Error::Configuration { place: place.to_owned(), reason })
        };
        Self { named: named.map(parse), fips: is_true(FIPS_VARIABLE) }
    }

    /// Whether the environment asks for FIPS endpoints.
    pub fn fips(&self) -> bool {
        self.fips
    }

    /// Whether a configured address can be used.
    pub fn check(&self) -> Result<(), Error> {
        self.named.clone().map_or(Ok(()), |named| named.map(drop))
    }

    /// The address of `region`, which is in a partition with this domain ([endpoints]).
    ///
    /// [endpoints]: https://docs.aws.amazon.com/general/latest/gr/kms.html
    pub fn url(&self, region: &str, dns_suffix: &str) -> Result<Url, Error> {
        if let Some(named) = &self.named {
            return named.clone();
        }
        let service = if self.fips { "kms-fips" } else { "kms" };
        let no_region = || Error::Configuration {
            place: "the AWS region".into(),
            reason: format!("{} is not the name of a region; check AWS_REGION and the profile", shown::name(region)),
        };
        // It becomes a part of a host name, so it is one label.
        let is_label = |text: &str| (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_label(region) {
            return Err(no_region());
        }
        Url::parse(&format!("https://{service}.{region}.{dns_suffix}/")).map_err(|_| no_region())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_uri::aws_dns_suffix;

    fn places(variables: &[(&str, &str)], endpoint: Option<&str>) -> Places {
        Places::new(&Environment::of(variables.iter().copied()), endpoint)
    }

    fn url(places: &Places, region: &str) -> String {
        places.url(region, aws_dns_suffix(region)).unwrap().to_string()
    }

    #[test]
    fn each_region_has_the_address_of_its_partition() {
        for (region, address) in [
            ("eu-central-1", "https://kms.eu-central-1.amazonaws.com/"),
            ("cn-north-1", "https://kms.cn-north-1.amazonaws.com.cn/"),
            ("us-gov-west-1", "https://kms.us-gov-west-1.amazonaws.com/"),
            ("eusc-de-east-1", "https://kms.eusc-de-east-1.amazonaws.eu/"),
            ("us-iso-east-1", "https://kms.us-iso-east-1.c2s.ic.gov/"),
        ] {
            assert_eq!(url(&places(&[], None), region), address);
        }
        assert_eq!(url(&places(&[("AWS_USE_FIPS_ENDPOINT", "true")], None), "us-east-1"), "https://kms-fips.us-east-1.amazonaws.com/");
    }

    #[test]
    fn what_is_no_region_makes_no_address() {
        for region in ["", "a.example/", "eu-central-1.example", "a@b", "a b", "a#", &"x".repeat(64)] {
            let error = places(&[], None).url(region, "amazonaws.com").unwrap_err();
            assert!(error.line().contains("is not the name of a region"), "{region}: {}", error.line());
        }
    }

    #[test]
    fn the_nearest_setting_names_the_address() {
        let kms = ("AWS_ENDPOINT_URL_KMS", "https://kms.example");
        let all = ("AWS_ENDPOINT_URL", "https://all.example");
        let configured = Some("https://configured.example");
        assert_eq!(url(&places(&[kms, all], configured), "eu-central-1"), "https://kms.example/");
        assert_eq!(url(&places(&[all], configured), "eu-central-1"), "https://all.example/");
        assert_eq!(url(&places(&[], configured), "eu-central-1"), "https://configured.example/");
        let ignored = places(&[kms, all, ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], None);
        assert_eq!(url(&ignored, "eu-central-1"), "https://kms.eu-central-1.amazonaws.com/");
    }

    #[test]
    fn an_address_that_may_not_be_used_is_told_with_its_setting() {
        let error = places(&[("AWS_ENDPOINT_URL", "http://kms.example")], None).check().unwrap_err();
        assert!(error.line().starts_with("AWS_ENDPOINT_URL: ") && error.line().contains("use https"), "{}", error.line());
        let error = places(&[], Some("kms.example")).check().unwrap_err();
        assert!(error.line().starts_with("aws.endpoint: "), "{}", error.line());
        assert!(places(&[], None).check().is_ok());
    }
}
