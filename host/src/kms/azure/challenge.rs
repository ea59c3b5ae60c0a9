//! What a 401 asks for, in its `WWW-Authenticate` header: [Key Vault's challenge].
//!
//! Azure's libraries learn from it whom to ask for a token, and for what. Here both are known beforehand, so that one round trip is enough
//! and nobody who answers in a vault's place can direct tokens anywhere. What a challenge says is only compared, as those libraries do.
//!
//! [Key Vault's challenge]: https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses#authentication

use url::Url;

/// A `Bearer` challenge.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Challenge<'a> {
    /// The address at which a tenant's tokens are given out.
    authority: Option<&'a str>,
    /// Whom the token is to be for.
    resource: Option<&'a str>,
}

impl<'a> Challenge<'a> {
    /// Reads a header of the form `Bearer authorization="https://…/TENANT", resource="https://…"`. What it doesn't know it passes over.
    pub fn parse(header: &'a str) -> Self {
        let mut challenge = Self::default();
        let Some((scheme, parameters)) = header.trim().split_once(' ') else { return challenge };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return challenge;
        }
        for parameter in parameters.split(',') {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let value = Some(value.trim().trim_matches('"'));
            match name.trim() {
                "authorization" | "authorization_uri" => challenge.authority = value,
                "resource" | "scope" => challenge.resource = value,
                _ => {}
            }
        }
        challenge
    }

    /// Whom it wants a token for, if that isn't a domain that `host` is in.
    pub fn stranger(&self, host: &str) -> Option<&'a str> {
        let resource = self.resource?;
        let url = Url::parse(resource).ok();
        let domain = url.as_ref().and_then(Url::host_str).filter(|domain| !domain.is_empty());
        let fits = domain.is_some_and(|domain| host.strip_suffix(domain).is_some_and(|name| name.ends_with('.')));
        (!fits).then_some(resource)
    }

    /// The tenant that it wants a token of.
    pub fn tenant(&self) -> Option<&'a str> {
        let is_tenant =
            |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        self.authority?.strip_prefix("https://")?.split('/').nth(1).filter(is_tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "team.vault.azure.net";

    #[test]
    fn the_challenges_of_the_service_read() {
        let vault = r#"Bearer authorization="https://login.microsoftonline.com/72f988bf-0000", resource="https://vault.azure.net""#;
        let challenge = Challenge::parse(vault);
        assert_eq!((challenge.tenant(), challenge.stranger(HOST)), (Some("72f988bf-0000"), None));
        let scope = r#"Bearer authorization_uri="https://login.microsoftonline.us/t",scope="https://managedhsm.azure.net/.default""#;
        assert_eq!(Challenge::parse(scope).stranger("team.managedhsm.azure.net"), None);
        assert_eq!(Challenge::parse(scope).tenant(), Some("t"));
    }

    #[test]
    fn a_resource_that_is_not_the_domain_of_the_host_is_a_stranger() {
        for resource in [
            "https://vault.azure.net.example",
            "https://example",
            "https://ault.azure.net",
            "https://other.vault.azure.net",
            "https://team.vault.azure.net",
            "https://vault.azure.net:443@example",
            "vault.azure.net",
            "https://",
            "",
        ] {
            let header = format!("Bearer authorization=\"https://login.example/t\", resource=\"{resource}\"");
            assert_eq!(Challenge::parse(&header).stranger(HOST), Some(resource), "{resource}");
        }
    }

    #[test]
    fn other_headers_say_nothing_and_do_no_harm() {
        for header in ["", "Bearer", "Basic realm=\"vault\"", "Bearer ,=,", "Bearer error=\"invalid_token\""] {
            assert_eq!(Challenge::parse(header), Challenge::default(), "{header}");
        }
        for authority in ["http://login.example/t", "https://login.example", "https://login.example/", "https://login.example/a;b"] {
            assert_eq!(Challenge::parse(&format!("Bearer authorization=\"{authority}\"")).tenant(), None, "{authority}");
        }
    }
}
