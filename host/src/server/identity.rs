//! The names in a client's certificate: each exactly as it is there, or the certificate names nobody.

use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser as _;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;

use crate::caller::Identity;
use crate::der::{self, SEQUENCE};
use crate::distinguished_name::{self, Unwritable};

/// The most DNS names and URIs of a certificate.
const MAX_NAMES: usize = 16;
/// The longest DNS name (RFC 1035 section 2.3.4), as text.
const MAX_DNS: usize = 253;
/// The longest URI: that of a SPIFFE id (SPIFFE-ID section 2.3).
const MAX_URI: usize = 2048;

/// Why a certificate names nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Nobody {
    #[error("it can't be parsed")]
    Malformed,
    #[error("its subject {0}")]
    Subject(Unwritable),
    #[error("its alternative names are not encoded as DER demands")]
    AlternativeNames,
    #[error("one of its DNS names is none: longer than {MAX_DNS} bytes, or not letters, digits, `-` and `_` between dots")]
    Dns,
    #[error("one of its URIs is none: longer than {MAX_URI} bytes, or not of visible ASCII characters")]
    Uri,
    #[error("it has more than {MAX_NAMES} DNS names and URIs")]
    TooMany,
    #[error("it has another URI beside a SPIFFE id, which has to be the only one")]
    SeveralUris,
    #[error("its SPIFFE id is none: `spiffe://`, a trust domain of lower-case letters, digits, `.`, `-` and `_`, and a path")]
    Spiffe,
    #[error("it has no subject, no DNS name and no SPIFFE id")]
    Nameless,
}

/// Who a certificate that was verified, in DER, is for.
pub(super) fn identity(certificate: &[u8]) -> Result<Identity, Nobody> {
    let parsed = X509CertificateParser::new().with_deep_parse_extensions(false).parse(certificate);
    let (_, certificate) = parsed.ok().filter(|(rest, _)| rest.is_empty()).ok_or(Nobody::Malformed)?;
    let extension = certificate.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME).map_err(|_| Nobody::AlternativeNames)?;
    named(certificate.subject().as_raw(), extension.map(|extension| extension.value))
}

/// Who a subject and the content of the extension with alternative names name.
pub(super) fn named(subject: &[u8], alternative_names: Option<&[u8]>) -> Result<Identity, Nobody> {
    let subject = distinguished_name::rfc4514(subject).map_err(Nobody::Subject)?;
    let Names { dns, uris } = alternative_names.map_or_else(|| Ok(Names::default()), Names::read)?;
    let spiffe = spiffe(&uris)?.map(str::to_owned);
    if subject.is_empty() && dns.is_empty() && spiffe.is_none() {
        return Err(Nobody::Nameless);
    }
    Ok(Identity { subject, spiffe, dns })
}

/// The alternative names that rules can speak of. Others, such as IP addresses, are nobody's name here.
#[derive(Default)]
struct Names<'a> {
    dns: Vec<String>,
    uris: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// Reads `GeneralNames` (RFC 5280 section 4.2.1.6).
    fn read(extension: &'a [u8]) -> Result<Self, Nobody> {
        let mut names = Self::default();
        for name in der::content(extension, SEQUENCE).and_then(der::values).ok_or(Nobody::AlternativeNames)? {
            match name.tag {
                // dNSName
                0x82 => names.dns.push(dns(name.content).ok_or(Nobody::Dns)?),
                // uniformResourceIdentifier
                0x86 => names.uris.push(uri(name.content).ok_or(Nobody::Uri)?),
                // otherName, rfc822Name, x400Address, directoryName, ediPartyName, iPAddress, registeredID
                0xa0 | 0x81 | 0xa3 | 0xa4 | 0xa5 | 0x87 | 0x88 => {}
                _ => return Err(Nobody::AlternativeNames),
            }
            if names.dns.len() + names.uris.len() > MAX_NAMES {
                return Err(Nobody::TooMany);
            }
        }
        Ok(names)
    }
}

/// A DNS name in lower case, whose first label may be a `*`.
fn dns(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_DNS)?;
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.strip_prefix("*.").unwrap_or(name).split('.').all(is_label).then(|| name.to_ascii_lowercase())
}

fn uri(name: &[u8]) -> Option<&str> {
    let is_uri = (1..=MAX_URI).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    is_uri.then(|| std::str::from_utf8(name).ok())?
}

/// The SPIFFE id among the URIs. X509-SVID section 2: a certificate that has one has no other URI.
fn spiffe<'a>(uris: &[&'a str]) -> Result<Option<&'a str>, Nobody> {
    let is_meant = |uri: &&str| uri.split(':').next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe"));
    let Some(id) = uris.iter().copied().find(is_meant) else { return Ok(None) };
    if uris.len() > 1 {
        return Err(Nobody::SeveralUris);
    }
    if is_spiffe_id(id) { Ok(Some(id)) } else { Err(Nobody::Spiffe) }
}

/// SPIFFE-ID section 2, and X509-SVID section 5.2: who isn't a trust domain has a path.
fn is_spiffe_id(id: &str) -> bool {
    let Some((trust_domain, path)) = id.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else { return false };
    let is_of_trust_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let is_segment = |segment: &str| {
        let is_of_segment = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(is_of_segment)
    };
    (1..=255).contains(&trust_domain.len()) && trust_domain.bytes().all(is_of_trust_domain) && path.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &[u8] = b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x0c\x04node";
    const EMPTY: &[u8] = b"\x30\x00";
    const DNS: u8 = 0x82;
    const URI: u8 = 0x86;

    /// The extension with these names.
    fn extension(names: &[(u8, &[u8])]) -> Vec<u8> {
        let value = |tag: u8, content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            let length = match content.len() {
                0..=0x7f => vec![length[1]],
                0x80..=0xff => vec![0x81, length[1]],
                _ => vec![0x82, length[0], length[1]],
            };
            [&[tag][..], &length, content].concat()
        };
        let names: Vec<u8> = names.iter().flat_map(|(tag, name)| value(*tag, name)).collect();
        value(SEQUENCE, &names)
    }

    fn of(names: &[(u8, &[u8])]) -> Result<Identity, Nobody> {
        named(NODE, Some(&extension(names)))
    }

    #[test]
    fn each_name_is_read_as_it_is() {
        let identity = of(&[(DNS, b"Node-1.Example.org"), (0x81, b"a@b"), (0x87, &[10, 0, 0, 1]), (DNS, b"*.example.org")]).unwrap();
        assert_eq!(identity.subject, "CN=node");
        assert_eq!(identity.dns, ["node-1.example.org", "*.example.org"]);
        assert_eq!(of(&[(URI, b"https://a/b"), (URI, b"urn:c")]).unwrap().spiffe, None);
        let spiffe = named(EMPTY, Some(&extension(&[(URI, b"spiffe://example.org/ns/a_b/C")]))).unwrap();
        assert_eq!((spiffe.subject.as_str(), spiffe.spiffe.as_deref()), ("", Some("spiffe://example.org/ns/a_b/C")));
        assert_eq!(named(EMPTY, None), Err(Nobody::Nameless));
        assert_eq!(named(EMPTY, Some(&extension(&[(0x87, &[10, 0, 0, 1])]))), Err(Nobody::Nameless));
    }

    #[test]
    fn a_dns_name_that_is_none_is_refused_and_never_dropped_or_mended() {
        let long = ["a"; 127].join(".");
        assert!(long.len() == MAX_DNS && of(&[(DNS, long.as_bytes())]).is_ok());
        let (too_long, label) = (format!("{long}a"), "a".repeat(64));
        let wrong: [&[u8]; 14] = [
            b"",
            b".",
            b"a.",
            b".a",
            b"a..b",
            b"a b",
            b"a\0.example.org",
            b"a\n",
            b"a\x1b[2J",
            b"a\xff",
            "ä".as_bytes(),
            b"a.*.b",
            too_long.as_bytes(),
            label.as_bytes(),
        ];
        for name in wrong {
            assert_eq!(of(&[(DNS, b"good"), (DNS, name)]), Err(Nobody::Dns), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn a_uri_that_is_none_is_refused_and_so_is_a_spiffe_id_that_is_none() {
        let long = format!("spiffe://example.org/{}", "a".repeat(MAX_URI - 21));
        assert!(of(&[(URI, long.as_bytes())]).is_ok());
        for name in [&b""[..], b"spiffe://a/b c", b"spiffe://a/\n", "spiffe://a/ä".as_bytes(), format!("{long}a").as_bytes()] {
            assert_eq!(of(&[(URI, name)]), Err(Nobody::Uri), "{}", name.escape_ascii());
        }
        let domain = "a".repeat(256);
        let wrong = [
            "spiffe:",
            "spiffe:a/b",
            "spiffe://",
            "spiffe:///a",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://A/b",
            "SPIFFE://a/b",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/%62",
            &format!("spiffe://{domain}/b"),
        ];
        for name in wrong {
            assert_eq!(of(&[(URI, name.as_bytes())]), Err(Nobody::Spiffe), "{name}");
        }
        for other in [&b"spiffe://a/b"[..], b"https://a"] {
            assert_eq!(of(&[(URI, other), (URI, b"spiffe://a/b")]), Err(Nobody::SeveralUris));
        }
    }

    #[test]
    fn a_seventeenth_name_is_not_dropped() {
        let names: Vec<(u8, &[u8])> = (0..8).flat_map(|_| [(DNS, &b"a"[..]), (URI, b"https://a")]).collect();
        assert!(of(&names).is_ok());
        for more in [(DNS, &b"b"[..]), (URI, b"https://b")] {
            assert_eq!(of(&[&names[..], &[more]].concat()), Err(Nobody::TooMany));
        }
    }

    #[test]
    fn an_extension_that_is_not_der_is_no_extension_without_names() {
        for wrong in
            [&b""[..], b"\x30\x01", b"\x31\x00", b"\x30\x00\x00", b"\x30\x04\x82\x81\x01a", b"\x30\x03\xa2\x01a", b"\x30\x03\x0c\x01a"]
        {
            assert_eq!(named(NODE, Some(wrong)), Err(Nobody::AlternativeNames), "{wrong:x?}");
        }
    }
}
