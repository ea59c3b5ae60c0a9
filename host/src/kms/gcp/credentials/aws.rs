//! Workloads on AWS: a request to AWS' security token service (`GetCallerIdentity`), signed but not sent, shows Google who they are
//! ([AIP-4117], [Signature Version 4]).
//!
//! [AIP-4117]: https://google.aip.dev/auth/4117
//! [Signature Version 4]: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

use std::fmt::Write;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ocicrypt_kms_protocol::json::{Object, string};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::fields::Fields;
use super::subject_token::on_this_machine_or_encrypted;
use super::token_service::TokenService;
use crate::Error;

const VERIFICATION: &str = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15";
const HINT: &str = "attach a role to the machine, or set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; in a container, the hop limit of \
                    the instance's metadata has to be 2: aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2";
/// What a name or a value of a query is spelled with (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a workload on AWS finds out who it is.
pub(super) struct AwsIdentity {
    /// Its metadata server: the zone, the role, and what opens both.
    region_url: Option<Url>,
    role_url: Option<Url>,
    session_url: Option<Url>,
    /// The address of the request that is signed, with `{region}` in it.
    verification: String,
}

struct Keys {
    id: String,
    secret: Zeroizing<String>,
    session: Option<Zeroizing<String>>,
}

/// A request to be signed.
struct Request<'a> {
    url: &'a Url,
    region: &'a str,
    /// The project's provider, which the signature is good for.
    audience: &'a str,
    /// `YYYYMMDDTHHMMSSZ`.
    time: &'a str,
}

impl AwsIdentity {
    pub fn read(fields: Fields<'_>) -> Result<Self, String> {
        let environment = fields.required("environment_id")?;
        if environment != "aws1" {
            return Err(fields.malformed("environment_id", "`aws1`, the one version that there is"));
        }
        let url = |name| fields.text(name)?.map(|text| on_this_machine_or_encrypted(name, &text)).transpose();
        Ok(Self {
            region_url: url("region_url")?,
            role_url: url("url")?,
            session_url: url("imdsv2_session_token_url")?,
            verification: fields.text("regional_cred_verification_url")?.unwrap_or_else(|| VERIFICATION.into()),
        })
    }

    /// The signed request, as Google's token service wants it.
    pub async fn signed_request(&self, service: &TokenService<'_>, audience: &str) -> Result<Zeroizing<String>, Error> {
        let session = self.session(service).await?;
        let region = self.region(service, &session).await?;
        let keys = self.keys(service, &session).await?;
        let url = Url::parse(&self.verification.replace("{region}", &region)).ok().filter(|url| url.scheme() == "https" && url.has_host());
        let url =
            url.ok_or_else(|| service.refused("`regional_cred_verification_url` in the credential file is not an https address", HINT))?;
        let time = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let request = Request { url: &url, region: &region, audience, time: &time };
        let json = Zeroizing::new(request.signed(&keys).to_string());
        Ok(Zeroizing::new(utf8_percent_encode(&json, UNRESERVED).to_string()))
    }

    /// The header that opens the metadata server, where it wants one. Asked for only if something else will be.
    async fn session(&self, service: &TokenService<'_>) -> Result<HeaderMap, Error> {
        let known = self.region_of_environment(service).is_some() && keys_of_environment(service).is_some();
        let Some(url) = self.session_url.as_ref().filter(|_| !known) else { return Ok(HeaderMap::new()) };
        let ttl = (HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds"), HeaderValue::from_static("300"));
        let answer = service.send(Method::PUT, url, HeaderMap::from_iter([ttl]), Zeroizing::default(), HINT).await?;
        let mut token = HeaderValue::from_bytes(answer.body.trim_ascii()).map_err(|_| service.no_token_in(url))?;
        token.set_sensitive(true);
        Ok(HeaderMap::from_iter([(HeaderName::from_static("x-aws-ec2-metadata-token"), token)]))
    }

    fn region_of_environment(&self, service: &TokenService<'_>) -> Option<String> {
        ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| service.environment.get(name)?.into_string().ok())
    }

    async fn region(&self, service: &TokenService<'_>, session: &HeaderMap) -> Result<String, Error> {
        let region = match (self.region_of_environment(service), &self.region_url) {
            (Some(region), _) => region,
            // The zone is the region and a letter.
            (None, Some(url)) => self.get(service, url, session).await?.trim_end_matches(|c: char| c.is_ascii_alphabetic()).to_owned(),
            (None, None) => return Err(service.refused("the region of AWS is not known: `region_url` is not in the credential file", HINT)),
        };
        let is_region = region.len() <= 32 && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if is_region && !region.is_empty() { Ok(region) } else { Err(service.refused("what should be a region of AWS is none", HINT)) }
    }

    async fn keys(&self, service: &TokenService<'_>, session: &HeaderMap) -> Result<Keys, Error> {
        if let Some(keys) = keys_of_environment(service) {
            return Ok(keys);
        }
        let url =
            self.role_url.as_ref().ok_or_else(|| service.refused("there are no keys of AWS: `url` is not in the credential file", HINT))?;
        let role = self.get(service, url, session).await?;
        let mut of_role = url.clone();
        if let Ok(mut path) = of_role.path_segments_mut() {
            path.pop_if_empty().push(&role);
        }
        let answer = self.get(service, &of_role, session).await?;
        let object = Object::parse(answer.as_bytes()).unwrap_or_default();
        let text = |name| object.get(name).and_then(string).map(|text| text.into_owned());
        match (text("AccessKeyId"), text("SecretAccessKey")) {
            (Some(id), Some(secret)) => Ok(Keys { id, secret: secret.into(), session: text("Token").map(Zeroizing::new) }),
            _ => Err(service.refused("the metadata server of AWS gave no keys", HINT)),
        }
    }

    async fn get(&self, service: &TokenService<'_>, url: &Url, session: &HeaderMap) -> Result<Zeroizing<String>, Error> {
        let answer = service.send(Method::GET, url, session.clone(), Zeroizing::default(), HINT).await?;
        let text = std::str::from_utf8(answer.body.trim_ascii()).map(str::to_owned).map(Zeroizing::new);
        text.map_err(|_| service.refused("the metadata server of AWS answered what is not text", HINT))
    }
}

fn keys_of_environment(service: &TokenService<'_>) -> Option<Keys> {
    let text = |name| service.environment.get(name)?.into_string().ok();
    let (id, secret) = (text("AWS_ACCESS_KEY_ID")?, text("AWS_SECRET_ACCESS_KEY")?.into());
    Some(Keys { id, secret, session: text("AWS_SESSION_TOKEN").map(Zeroizing::new) })
}

impl Request<'_> {
    /// Address, method and headers, the signature among them.
    fn signed(&self, keys: &Keys) -> serde_json::Value {
        let mut headers = vec![("host", self.url.host_str().unwrap_or_default()), ("x-amz-date", self.time)];
        headers.extend(keys.session.iter().map(|token| ("x-amz-security-token", token.as_str())));
        headers.push(("x-goog-cloud-target-resource", self.audience));
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let scope = format!("{}/{}/sts/aws4_request", &self.time[..8], self.region);
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", self.time, hex(&Sha256::digest(self.canonical(&headers, &names))));
        let start = Zeroizing::new(format!("AWS4{}", *keys.secret).into_bytes());
        let key = [&self.time[..8], self.region, "sts", "aws4_request"].iter().fold(start, |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &text));
        let authorization = format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id);
        headers.push(("Authorization", &authorization));
        let headers: Vec<_> = headers.iter().map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect();
        serde_json::json!({ "url": self.url.as_str(), "method": "POST", "headers": headers })
    }

    /// The request in the one spelling that both sides sign.
    fn canonical(&self, headers: &[(&str, &str)], names: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        let mut query: Vec<_> = self.url.query_pairs().map(|(name, value)| format!("{}={}", encode(&name), encode(&value))).collect();
        query.sort();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        format!("POST\n{}\n{}\n{lines}\n{names}\n{}", self.url.path(), query.join("&"), hex(&Sha256::digest(b"")))
    }
}

fn mac(key: &[u8], text: &str) -> Zeroizing<Vec<u8>> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(all(test, feature = "aws"))]
mod tests {
    use std::time::{Duration, SystemTime};

    use aws_credential_types::Credentials;
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    use aws_sigv4::sign::v4;

    use super::*;

    /// What Amazon's own library signs.
    fn by_amazon(request: &Request<'_>, keys: &Keys) -> String {
        let session = keys.session.as_ref().map(|token| token.to_string());
        let identity = Credentials::new(&keys.id, &*keys.secret, session, None, "test").into();
        let parameters = v4::SigningParams::builder().identity(&identity).region(request.region).name("sts");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let parameters = parameters.time(time).settings(SigningSettings::default()).build().unwrap().into();
        let headers = [("x-goog-cloud-target-resource", request.audience)].into_iter();
        let signable = SignableRequest::new("POST", request.url.as_str(), headers, SignableBody::Bytes(b"")).unwrap();
        let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
        instructions.into_parts().0.into_iter().find(|header| header.name() == "authorization").unwrap().value().to_owned()
    }

    #[test]
    fn a_request_is_signed_as_by_amazons_library() {
        let url = Url::parse(&VERIFICATION.replace("{region}", "us-east-1")).unwrap();
        let audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/aws";
        let request = Request { url: &url, region: "us-east-1", audience, time: "20150830T123600Z" };
        for session in [None, Some("token/with=signs".to_owned().into())] {
            let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into();
            let keys = Keys { id: "AKIDEXAMPLE".into(), secret, session };
            let signed = request.signed(&keys);
            let headers = signed["headers"].as_array().unwrap();
            let authorization = headers.iter().find(|header| header["key"] == "Authorization").unwrap();
            assert_eq!(authorization["value"], by_amazon(&request, &keys));
        }
    }
}
