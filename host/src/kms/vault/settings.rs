//! What environment and configuration say of one server, before any of it is used.

use std::ffi::OsString;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::super::http::parse_endpoint;
use crate::key_uri::VaultFlavour;
use crate::{Environment, Error, config};

/// Where to look, for keys of one product.
pub(super) struct Settings<'a> {
    pub flavour: VaultFlavour,
    pub environment: &'a Environment,
    pub config: &'a config::Vault,
}

/// The product's variable, or the other product's if that is missing: `BAO_ADDR` and `VAULT_ADDR` for `ADDR`. With its name.
pub(super) fn variable(flavour: VaultFlavour, environment: &Environment, name: &str) -> Option<(String, OsString)> {
    let order = match flavour {
        VaultFlavour::OpenBao => ["BAO", "VAULT"],
        VaultFlavour::HashiVault => ["VAULT", "BAO"],
    };
    order.into_iter().find_map(|product| {
        let name = format!("{product}_{name}");
        environment.get(&name).map(|value| (name, value))
    })
}

impl Settings<'_> {
    /// The variable if there is one, else the configuration's setting; with the name of where it stands.
    fn find(&self, name: &str, setting: &str, configured: Option<&String>) -> Option<(String, String)> {
        let set = variable(self.flavour, self.environment, name).map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        set.or_else(|| configured.map(|text| (format!("vault.{setting}"), text.clone())))
    }

    /// The server's address, if one is set.
    pub fn address(&self) -> Result<Option<Url>, Error> {
        let Some((place, text)) = self.find("ADDR", "address", self.config.address.as_ref()) else { return Ok(None) };
        parse_endpoint(&text).map(Some).map_err(|reason| Error::Configuration { place, reason })
    }

    /// The namespace as a header.
    pub fn namespace(&self) -> Result<Option<HeaderValue>, Error> {
        let Some((place, text)) = self.find("NAMESPACE", "namespace", self.config.namespace.as_ref()) else { return Ok(None) };
        let wrong = |_| Error::Configuration { place, reason: "a namespace is a path of printable ASCII".into() };
        HeaderValue::from_str(&text).map(Some).map_err(wrong)
    }

    /// The file of certificate authorities to trust in place of the system's.
    pub fn authorities(&self) -> Option<PathBuf> {
        let set = variable(self.flavour, self.environment, "CACERT").map(|(_, value)| PathBuf::from(value));
        set.or_else(|| self.config.ca_file.clone())
    }

    /// The variable by which somebody asks not to verify certificates.
    pub fn unverified(&self) -> Option<String> {
        let (name, value) = variable(self.flavour, self.environment, "SKIP_VERIFY")?;
        let off = ["0", "f", "F", "false", "FALSE", "False"];
        (!off.iter().any(|text| value == *text)).then_some(name)
    }
}

/// The name of the product's own variable.
pub(super) fn variable_name(flavour: VaultFlavour, name: &str) -> String {
    match flavour {
        VaultFlavour::OpenBao => format!("BAO_{name}"),
        VaultFlavour::HashiVault => format!("VAULT_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(flavour: VaultFlavour, variables: &[(&str, &str)], configured: Option<&str>) -> Result<String, String> {
        let config = config::Vault { address: configured.map(str::to_owned), ..config::Vault::default() };
        let environment = Environment::of(variables.iter().copied());
        let settings = Settings { flavour, environment: &environment, config: &config };
        settings.address().map(|url| url.unwrap().host_str().unwrap().to_owned()).map_err(|error| error.line())
    }

    #[test]
    fn the_products_variable_comes_first_then_the_others_then_the_configuration() {
        let both = [("VAULT_ADDR", "https://vault.example"), ("BAO_ADDR", "https://bao.example")];
        for flavour in [VaultFlavour::HashiVault, VaultFlavour::OpenBao] {
            let own = variable_name(flavour, "ADDR");
            let own = both.iter().position(|(name, _)| *name == own).unwrap();
            let host = |index: usize| both[index].1["https://".len()..].to_owned();
            assert_eq!(address(flavour, &both, Some("https://file.example")), Ok(host(own)));
            assert_eq!(address(flavour, &both[1 - own..2 - own], Some("https://file.example")), Ok(host(1 - own)));
            assert_eq!(address(flavour, &[], Some("https://file.example")), Ok("file.example".into()));
        }
    }

    #[test]
    fn an_address_that_is_plain_is_told_with_its_place() {
        let plain = address(VaultFlavour::OpenBao, &[("VAULT_ADDR", "http://vault.example")], None).unwrap_err();
        assert!(plain.starts_with("VAULT_ADDR: ") && plain.contains("plain http"), "{plain}");
        let plain = address(VaultFlavour::HashiVault, &[], Some("http://vault.example")).unwrap_err();
        assert!(plain.starts_with("vault.address: "), "{plain}");
    }
}
