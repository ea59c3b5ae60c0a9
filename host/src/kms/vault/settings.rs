//! What environment and configuration say of one server, before any of it is used.

use std::ffi::OsString;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::super::http::parse_endpoint;
use super::super::way::{ClientCertificate, Way};
use super::address::Address;
use crate::key_uri::VaultFlavour;
use crate::{Environment, Error, config, shown};

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
    fn variable(&self, name: &str) -> Option<(String, OsString)> {
        variable(self.flavour, self.environment, name)
    }

    /// The variable as text; with its name.
    fn text(&self, name: &str) -> Option<(String, String)> {
        self.variable(name).map(|(name, value)| (name, value.to_string_lossy().into_owned()))
    }

    /// The variable if there is one, else the configuration's setting; with the name of where it stands.
    fn find(&self, name: &str, setting: &str, configured: Option<&String>) -> Option<(String, String)> {
        self.text(name).or_else(|| configured.map(|text| (format!("vault.{setting}"), text.clone())))
    }

    /// The same for the path of a file.
    fn file(&self, name: &str, setting: &str, configured: Option<&PathBuf>) -> Option<(String, PathBuf)> {
        let set = self.variable(name).map(|(name, value)| (name, PathBuf::from(value)));
        set.or_else(|| configured.map(|path| (format!("vault.{setting}"), path.clone())))
    }

    /// The address to ask, if one is set: an Agent's before the server's, as the products' own programs do.
    pub fn address(&self) -> Result<Option<Address>, Error> {
        let agent = self.text("AGENT_ADDR");
        let is_agent = agent.is_some();
        let Some((place, text)) = agent.or_else(|| self.find("ADDR", "address", self.config.address.as_ref())) else { return Ok(None) };
        Address::parse(&text, is_agent).map(Some).map_err(|reason| Error::Configuration { place, reason })
    }

    /// The addresses that a standby's redirect may name.
    pub fn standby_redirects(&self) -> Result<Vec<Url>, Error> {
        let wrong = |reason| Error::Configuration { place: "vault.standby-redirects".into(), reason };
        self.config.standby_redirects.iter().map(|text| parse_endpoint(text).map_err(wrong)).collect()
    }

    /// How connections to the server are made.
    pub fn way(&self) -> Result<Way, Error> {
        let socket = self.address()?.and_then(|address| address.socket);
        Ok(Way { certificate: self.client_certificate()?, proxy: self.proxy()?, socket, tells_redirects: true })
    }

    fn client_certificate(&self) -> Result<Option<ClientCertificate>, Error> {
        let certificate = self.file("CLIENT_CERT", "client-certificate", self.config.client_certificate.as_ref());
        let key = self.file("CLIENT_KEY", "client-key", self.config.client_key.as_ref());
        match (certificate, key) {
            (None, None) => Ok(None),
            (Some((_, certificate)), Some((_, key))) => Ok(Some(ClientCertificate { certificate, key, is_private: false })),
            (Some((place, _)), None) => Err(half(place, "the certificate's private key", &self.name("CLIENT_KEY"), "client-key")),
            (None, Some((place, _))) => Err(half(place, "the key's certificate", &self.name("CLIENT_CERT"), "client-certificate")),
        }
    }

    /// The proxy that is meant for this service alone. `HTTP_PROXY` behind the product's name is the older spelling.
    fn proxy(&self) -> Result<Option<(String, Url)>, Error> {
        let Some((place, text)) = self.text("PROXY_ADDR").or_else(|| self.text("HTTP_PROXY")) else { return Ok(None) };
        if text.starts_with("socks") {
            return Err(Error::Configuration { place, reason: "proxies of SOCKS are not supported; name one of HTTP".into() });
        }
        let url = Url::parse(&text).ok().filter(|url| url.has_host() && ["http", "https"].contains(&url.scheme()));
        match url {
            Some(url) => Ok(Some((place, url))),
            None => {
                let shown = shown::address(&text);
                let reason = format!("{shown} is not the address of a proxy; write http:// or https://, the host and the port");
                Err(Error::Configuration { place, reason })
            }
        }
    }

    /// The namespace as a header.
    pub fn namespace(&self) -> Result<Option<HeaderValue>, Error> {
        let Some((place, text)) = self.find("NAMESPACE", "namespace", self.config.namespace.as_ref()) else { return Ok(None) };
        let wrong = |_| Error::Configuration { place, reason: "a namespace is a path of printable ASCII".into() };
        HeaderValue::from_str(&text).map(Some).map_err(wrong)
    }

    /// The file of certificate authorities to trust in place of the system's.
    pub fn authorities(&self) -> Option<PathBuf> {
        self.file("CACERT", "ca-file", self.config.ca_file.as_ref()).map(|(_, path)| path)
    }

    /// The variable by which somebody asks not to verify certificates.
    pub fn unverified(&self) -> Option<String> {
        let (name, value) = self.variable("SKIP_VERIFY")?;
        let off = ["0", "f", "F", "false", "FALSE", "False"];
        (!off.iter().any(|text| value == *text)).then_some(name)
    }

    fn name(&self, name: &str) -> String {
        variable_name(self.flavour, name)
    }
}

fn half(place: String, missing: &str, variable: &str, setting: &str) -> Error {
    let reason = format!("{missing} is missing; set {variable}, or `{setting}` below `[vault]`");
    Error::Configuration { place, reason }
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
        settings.address().map(|address| address.unwrap().url.host_str().unwrap().to_owned()).map_err(|error| error.line())
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
    fn an_agents_address_comes_before_the_servers() {
        let both = [("VAULT_ADDR", "https://vault.example"), ("VAULT_AGENT_ADDR", "https://agent.example")];
        for flavour in [VaultFlavour::HashiVault, VaultFlavour::OpenBao] {
            assert_eq!(address(flavour, &both, None), Ok("agent.example".into()));
        }
    }

    #[test]
    fn a_proxy_and_half_a_client_certificate_are_told_with_their_place() {
        let way = |variables: &[(&str, &str)]| {
            let (environment, config) = (Environment::of(variables.iter().copied()), config::Vault::default());
            Settings { flavour: VaultFlavour::HashiVault, environment: &environment, config: &config }.way().map_err(|error| error.line())
        };
        assert_eq!(way(&[("VAULT_PROXY_ADDR", "http://proxy.example:3128")]).unwrap().proxy.unwrap().1.port(), Some(3128));
        for (variables, says) in [
            ([("VAULT_PROXY_ADDR", "socks5://proxy.example:1080")], "VAULT_PROXY_ADDR: proxies of SOCKS are not supported"),
            (
                [("VAULT_PROXY_ADDR", "proxy.example:3128")],
                "VAULT_PROXY_ADDR: `proxy.example:3128` is not the address of a proxy; write http://",
            ),
            ([("VAULT_CLIENT_CERT", "/c.pem")], "VAULT_CLIENT_CERT: the certificate's private key is missing; set VAULT_CLIENT_KEY"),
            ([("VAULT_CLIENT_KEY", "/k.pem")], "VAULT_CLIENT_KEY: the key's certificate is missing; set VAULT_CLIENT_CERT"),
        ] {
            let line = way(&variables).unwrap_err();
            assert!(line.starts_with(says), "{line}");
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
