//! The token of an outside identity provider, from wherever a credential file says.

use std::path::{Path, PathBuf};

use ocicrypt_kms_protocol::json::{Object, string};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use url::Host;
use zeroize::Zeroizing;

use super::aws::AwsIdentity;
use super::executable::Executable;
use super::fields::Fields;
use super::file::MAX_LENGTH;
use super::token_service::{Impersonation, TokenService};
use crate::error::printable;
use crate::kms::http::{address, parse_endpoint};
use crate::trusted_file::{self, Trust};
use crate::{Error, shown};

/// Where the token comes from.
pub(super) enum SubjectToken {
    File(PathBuf, Format),
    Url {
        url: Url,
        headers: HeaderMap,
        format: Format,
    },
    Executable(Executable),
    /// A signed request takes the place of a token.
    Aws(AwsIdentity),
}

/// How a token stands in a text.
pub(super) enum Format {
    Text,
    /// As this member of an object.
    Json(String),
}

impl SubjectToken {
    /// That of `credential_source`.
    pub fn read(fields: Fields<'_>) -> Result<Self, String> {
        let source = fields.object("credential_source")?.ok_or_else(|| fields.missing("credential_source"))?;
        if source.text("environment_id")?.is_some() {
            return AwsIdentity::read(source).map(Self::Aws);
        }
        if let Some(executable) = source.object("executable")? {
            let impersonated = fields.text("service_account_impersonation_url")?;
            let url = impersonated.map(|_| fields.address("service_account_impersonation_url", "")).transpose()?;
            let account = url.and_then(|url| Impersonation { url, delegates: Vec::new(), lifetime: 0 }.account().map(str::to_owned));
            return Executable::read(executable, account).map(Self::Executable);
        }
        let format = Format::read(source)?;
        match (source.text("file")?, source.text("url")?) {
            (Some(file), _) => Ok(Self::File(file.into(), format)),
            (None, Some(url)) => Ok(Self::Url { url: on_this_machine_or_encrypted("url", &url)?, headers: headers(source)?, format }),
            (None, None) => Err("its `credential_source` names none of `file`, `url`, `executable` and `environment_id`".into()),
        }
    }

    /// The token, for a provider that is asked for this audience and type of token.
    pub async fn get(&self, service: &TokenService<'_>, audience: &str, token_type: &str) -> Result<Zeroizing<String>, Error> {
        match self {
            Self::File(path, format) => read_file(path, format),
            Self::Url { url, headers, format } => {
                let hint = "check `url` and `headers` below `credential_source` in the credential file";
                let answer = service.send(Method::GET, url, headers.clone(), Zeroizing::default(), hint).await?;
                let none = |reason| service.refused(&format!("the answer of {} {reason}", address(url)), hint);
                format.token(&answer.body).map_err(none)
            }
            Self::Executable(executable) => executable.run(service, audience, token_type).await,
            Self::Aws(aws) => aws.signed_request(service, audience).await,
        }
    }
}

impl Format {
    fn read(source: Fields<'_>) -> Result<Self, String> {
        let Some(format) = source.object("format")? else { return Ok(Self::Text) };
        match format.text("type")?.as_deref() {
            Some("json") => format.required("subject_token_field_name").map(Self::Json),
            None | Some("text") => Ok(Self::Text),
            Some(_) => Err(source.malformed("format", "of the type `text` or `json`")),
        }
    }

    /// The token in a text, or what is wrong with that.
    fn token(&self, text: &[u8]) -> Result<Zeroizing<String>, String> {
        let token = match self {
            Self::Text => std::str::from_utf8(text.trim_ascii()).map(str::to_owned).map_err(|_| "is not text".to_owned())?,
            Self::Json(name) => {
                let object = Object::parse(text).map_err(|error| format!("is {error}"))?;
                let token = object.get(name).and_then(string).map(|token| token.into_owned());
                token.ok_or_else(|| format!("has no text as {}, as `subject_token_field_name` says", shown::name(name)))?
            }
        };
        if token.is_empty() { Err("holds no token".into()) } else { Ok(Zeroizing::new(token)) }
    }
}

fn read_file(path: &Path, format: &Format) -> Result<Zeroizing<String>, Error> {
    let unusable = |reason: String| Error::Configuration {
        place: format!("the token in {}", shown::path(path)),
        reason: format!(
            "{}; see that whatever writes it does so (a pod's projected volume, a step of the CI service), or correct `file` below \
             `credential_source` in the credential file",
            printable(&reason, 1024)
        ),
    };
    let text = trusted_file::read(path, Trust::Credential, MAX_LENGTH).map_err(|untrusted| unusable(untrusted.line(path)))?;
    format.token(&text).map_err(|reason| unusable(format!("the file {reason}")))
}

/// An address that tokens come from: `https`, or `http` to this machine or the metadata server of its cloud.
pub(super) fn on_this_machine_or_encrypted(name: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{name}` is not an address ({error})"))?;
    let is_link_local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_unicast_link_local() || address.segments()[..6] == [0xfd00, 0xec2, 0, 0, 0, 0],
        Some(Host::Domain(name)) => name == "metadata.google.internal",
        None => false,
    };
    if url.scheme() == "http" && is_link_local && url.username().is_empty() && url.password().is_none() {
        return Ok(url);
    }
    // The query, which an address of ours may not have, is the provider's.
    let mut base = url.clone();
    base.set_query(None);
    base.set_fragment(None);
    parse_endpoint(base.as_str()).map_err(|reason| format!("`{name}`: {reason}"))?;
    Ok(url)
}

fn headers(source: Fields<'_>) -> Result<HeaderMap, String> {
    let Some(headers) = source.object("headers")? else { return Ok(HeaderMap::new()) };
    let read = |name: &str| {
        let mut value = HeaderValue::from_str(&headers.text(name).ok().flatten()?).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    };
    let wrong = || source.malformed("headers", "an object of headers and their values");
    headers.object.members().map(|(name, _)| read(name).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_in_plain_text_only_from_this_machine_and_its_metadata_server() {
        for good in [
            "https://ci.example/token?audience=x",
            "http://127.0.0.1:8080/token?a=b",
            "http://[::1]/",
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01",
            "http://[fd00:ec2::254]/latest/api/token",
            "http://metadata.google.internal/x",
        ] {
            assert_eq!(on_this_machine_or_encrypted("url", good).unwrap().as_str(), good);
        }
        for bad in
            ["http://ci.example/token", "http://10.0.0.1/", "http://user:pw@169.254.169.254/", "ftp://127.0.0.1/", "x", "https://u@h/"]
        {
            assert!(on_this_machine_or_encrypted("url", bad).is_err(), "{bad}");
        }
    }
}
