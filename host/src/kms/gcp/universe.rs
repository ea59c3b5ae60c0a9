//! Which of Google's clouds is called ([AIP-4116]): `googleapis.com`, or a sovereign one with a domain of its own.
//!
//! As in Google's libraries, credentials alone don't choose it: they name who vouches for the caller, not who is handed keys.
//!
//! [AIP-4116]: https://google.aip.dev/auth/4116

use reqwest::Url;

use crate::{Environment, Error, shown};

const VARIABLE: &str = "GOOGLE_CLOUD_UNIVERSE_DOMAIN";
const USUAL: &str = "googleapis.com";

/// The universe that is called, by its domain.
#[derive(Clone, Debug)]
pub(super) struct Universe(String);

impl Universe {
    /// That of the environment, or the usual one.
    pub(super) fn new(environment: &Environment) -> Result<Self, Error> {
        let Some(domain) = environment.get(VARIABLE) else { return Ok(Self(USUAL.into())) };
        let domain = domain.to_string_lossy().to_ascii_lowercase();
        if is_domain(&domain) {
            return Ok(Self(domain));
        }
        let reason = format!("{} is not the domain of a universe, such as {USUAL}; correct it, or unset it", shown::name(&domain));
        Err(Error::Configuration { place: VARIABLE.into(), reason })
    }

    /// Where its Cloud KMS is.
    pub(super) fn endpoint(&self) -> Url {
        Url::parse(&format!("https://cloudkms.{}/", self.0)).expect("a domain was looked at when it was read")
    }

    /// Credentials of another universe are refused: their token would be handed to strangers.
    pub(super) fn check(&self, place: &str, found: Option<&str>) -> Result<(), Error> {
        let found = found.filter(|domain| !domain.is_empty()).unwrap_or(USUAL).to_ascii_lowercase();
        if found == self.0 {
            return Ok(());
        }
        let remedy = match &*found {
            USUAL => format!("unset {VARIABLE}, or use credentials of that universe"),
            domain if is_domain(domain) => format!("if you mean to use keys there, set {VARIABLE}={domain}; else use other credentials"),
            _ => "use other credentials".into(),
        };
        let reason =
            format!("they are of the universe {}, and not of `{}`, whose Cloud KMS is called; {remedy}", shown::name(&found), self.0);
        Err(Error::Configuration { place: format!("the credentials in {place}"), reason })
    }
}

fn is_domain(text: &str) -> bool {
    // A last label of digits would make it an IP address.
    let is_label = |label: &str| {
        label.len() <= 63
            && label.bytes().any(|byte| byte.is_ascii_lowercase())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 128 && text.contains('.') && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_of_the_universe_that_is_called() {
        let usual = Universe::new(&Environment::empty()).unwrap();
        assert_eq!(usual.endpoint().as_str(), "https://cloudkms.googleapis.com/");
        assert!(usual.check("f", None).is_ok() && usual.check("f", Some("")).is_ok() && usual.check("f", Some(USUAL)).is_ok());
        let line = usual.check("f", Some("apis.example")).unwrap_err().line();
        assert!(
            line.contains("`apis.example`") && line.ends_with("set GOOGLE_CLOUD_UNIVERSE_DOMAIN=apis.example; else use other credentials"),
            "{line}"
        );
        let other = Universe::new(&Environment::of([(VARIABLE, "apis.example")])).unwrap();
        assert_eq!(other.endpoint().as_str(), "https://cloudkms.apis.example/");
        assert!(other.check("f", Some("apis.example")).is_ok());
        assert!(other.check("f", None).unwrap_err().line().contains("unset GOOGLE_CLOUD_UNIVERSE_DOMAIN"));
    }

    #[test]
    fn a_universe_is_a_domain_and_nothing_else() {
        for wrong in ["localhost", "a.b/c", "user@a.b", "a.b:80", ".a", "a..b", "a b.c", "a.b?x", "ä.b"] {
            assert!(Universe::new(&Environment::of([(VARIABLE, wrong)])).is_err(), "{wrong}");
        }
    }
}
