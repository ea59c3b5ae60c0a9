//! Signature Version 4 of one call, by `aws-sigv4`.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings};
use aws_sigv4::sign::v4;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Adds the headers that authorise a `POST` of `body`. A signature is good for minutes, longer than an exchange and its retries.
///
/// # Errors
/// A sentence without anything of the credentials.
pub(super) fn sign(credentials: Credentials, region: &str, url: &Url, headers: &mut HeaderMap, body: &[u8]) -> Result<(), String> {
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kms")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let texts = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    // The only part of a request that is the caller's to get wrong.
    let unusable = || "the access key or the session token has a line break or another control character in it".to_owned();
    let request = SignableRequest::new("POST", url.as_str(), texts, SignableBody::Bytes(body)).map_err(|error| error.to_string())?;
    let signed = aws_sigv4::http_request::sign(request, &parameters).map_err(|_| unusable())?;
    let (instructions, _) = signed.into_parts();
    // Not by the library's own way to apply them, which panics at what is no header value.
    for header in instructions.into_parts().0 {
        let mut value = HeaderValue::from_str(header.value()).map_err(|_| unusable())?;
        value.set_sensitive(header.sensitive());
        headers.insert(HeaderName::from_static(header.name()), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(token: Option<&str>) -> Result<HeaderMap, String> {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", token.map(str::to_owned), None, "test");
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-target", HeaderValue::from_static("TrentService.Encrypt"));
        let url = Url::parse("https://kms.eu-central-1.amazonaws.com/").unwrap();
        sign(credentials, "eu-central-1", &url, &mut headers, b"{}").map(|()| headers)
    }

    #[test]
    fn the_key_the_region_and_the_headers_are_signed() {
        let headers = signed(Some("token")).unwrap();
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
        assert!(authorization.contains("/eu-central-1/kms/aws4_request"), "{authorization}");
        assert!(authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token;x-amz-target"), "{authorization}");
        assert!(headers["x-amz-security-token"].is_sensitive());
    }

    #[test]
    fn a_token_that_is_no_header_value_is_an_error_without_it() {
        let error = signed(Some("hunter2\nx: y")).unwrap_err();
        assert!(error.contains("session token") && !error.contains("hunter2"), "{error}");
    }
}
