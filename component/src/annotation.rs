//! Annotations: one packet, or a JSON array of packets. The format is described in `docs/packet-format.md`.

use ocicrypt_kms_protocol::json::{JsonError, Value, quote, string};
use ocicrypt_kms_protocol::{MAX_ANNOTATION, MAX_PACKETS, bytes};

use crate::bindings::exports::ocicrypt::keyprovider::provider::PacketInfo;
use crate::jwe;
use crate::keys::Error;

/// How a packet's wrapped key is to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WrapType {
    /// `AES`: the KMS's own ciphertext of the opts data.
    Kms,
    /// `JWE`: a JWE compact serialisation (RFC 7516) whose content is the opts data.
    Jwe,
    /// Neither. The other packets of the annotation can still be read.
    Unknown(String),
}

impl WrapType {
    /// The type that a key implies by how it wraps.
    #[must_use]
    pub fn of(wrapping: &str) -> Self {
        if wrapping == "kms" { Self::Kms } else { Self::Jwe }
    }

    /// The packet's spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kms => "AES",
            Self::Jwe => "JWE",
            Self::Unknown(text) => text,
        }
    }
}

/// One wrapped copy of the opts data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// The URI of the key that it is wrapped with.
    pub key_url: String,
    /// The ciphertext, or the bytes of the JWE's text.
    pub wrapped_key: Vec<u8>,
    /// How to read it.
    pub wrap_type: WrapType,
}

impl Packet {
    fn parse(value: Value<'_>) -> Result<Self, Error> {
        let members = value.into_object().map_err(|error| malformed(&error.to_string()))?;
        let text = |name| members.get(name).and_then(string);
        let key_url = text("key_url").ok_or_else(|| malformed("a packet has no `key_url`"))?.into_owned();
        let wrapped_key = members.get("wrapped_key").and_then(bytes::read);
        let wrapped_key = wrapped_key.filter(|wrapped_key| !wrapped_key.is_empty());
        let wrapped_key = wrapped_key.ok_or_else(|| malformed("a packet's `wrapped_key` is missing, empty or no base64"))?.to_vec();
        let wrap_type = match text("wrap_type").as_deref() {
            Some("AES") => WrapType::Kms,
            Some("JWE") => WrapType::Jwe,
            // Another provider's packets for AWS hold a bare ARN or key id and no type.
            None if !key_url.contains("://") => WrapType::Kms,
            other => WrapType::Unknown(other.unwrap_or_default().to_owned()),
        };
        Ok(Self { key_url, wrapped_key, wrap_type })
    }

    /// What the packet says without a key.
    ///
    /// # Errors
    /// If it holds a JWE that is malformed.
    pub(crate) fn info(&self) -> Result<PacketInfo, Error> {
        let attributes = match self.wrap_type {
            WrapType::Kms | WrapType::Unknown(_) => Vec::new(),
            WrapType::Jwe => jwe::describe(&self.wrapped_key)?,
        };
        Ok(PacketInfo {
            key_uri: self.key_url.clone(),
            wrap_type: self.wrap_type.as_str().to_owned(),
            wrapped_length: u32::try_from(self.wrapped_key.len()).unwrap_or(u32::MAX),
            attributes,
        })
    }
}

/// Reads a decoded annotation.
///
/// # Errors
/// If it is too long, malformed, empty, or holds more than [`MAX_PACKETS`] packets.
pub fn parse(annotation: &[u8]) -> Result<Vec<Packet>, Error> {
    if annotation.len() > MAX_ANNOTATION {
        return Err(Error::InvalidInput(format!("the annotation is longer than {MAX_ANNOTATION} bytes")));
    }
    let value = Value::parse(annotation).map_err(|error| match error {
        JsonError::Syntax { .. } => malformed("it is not JSON"),
        other => malformed(&other.to_string()),
    })?;
    let Some(elements) = value.elements() else { return Ok(vec![Packet::parse(value)?]) };
    let packets: Vec<_> = elements.take(MAX_PACKETS + 1).collect();
    match packets.len() {
        0 => Err(malformed("it holds no packet")),
        1..=MAX_PACKETS => packets.into_iter().map(Packet::parse).collect(),
        _ => Err(malformed(&format!("it holds more than {MAX_PACKETS} packets"))),
    }
}

/// Writes an annotation: one packet as an object, byte for byte as the original provider did, several as an array.
#[must_use]
pub fn write(packets: &[Packet]) -> Vec<u8> {
    let written = |packet: &Packet| {
        let (key_url, wrap_type) = (quote(&packet.key_url), quote(packet.wrap_type.as_str()));
        ["{\"key_url\":", &key_url, ",\"wrapped_key\":\"", &bytes::encode(&packet.wrapped_key), "\",\"wrap_type\":", &wrap_type, "}"]
            .concat()
    };
    match packets {
        [packet] => written(packet),
        _ => ["[", &packets.iter().map(written).collect::<Vec<_>>().join(","), "]"].concat(),
    }
    .into_bytes()
}

fn malformed(reason: &str) -> Error {
    Error::InvalidInput(format!("the annotation is malformed: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const GCP: &str = include_str!("../../protocol/samples/annotation-gcp-aes.b64");

    #[test]
    fn a_packet_of_the_original_provider_is_written_byte_for_byte() {
        let annotation = bytes::decode(GCP.trim()).unwrap();
        let packets = parse(&annotation).unwrap();
        assert_eq!(packets[0].key_url, "gcpkms://projects/core-eso/locations/global/keyRings/ocikeyring/cryptoKeys/key1");
        assert_eq!(packets[0].wrap_type, WrapType::Kms);
        assert_eq!(write(&packets), annotation.to_vec());
    }

    #[test]
    fn several_packets_are_an_array() {
        let packet = |key_url: &str| Packet { key_url: key_url.into(), wrapped_key: b"w".to_vec(), wrap_type: WrapType::Jwe };
        let packets = [packet("local://a"), packet("local://b")];
        let text = write(&packets);
        let expected = r#"[{"key_url":"local://a","wrapped_key":"dw==","wrap_type":"JWE"},{"key_url":"local://b","wrapped_key":"dw==","wrap_type":"JWE"}]"#;
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
        assert_eq!(parse(&text).unwrap(), packets);
    }

    #[test]
    fn unknown_members_and_array_spellings_are_read() {
        let packets = parse(br#" {"key_url":"local://a","x":{"y":[1]},"wrapped_key":[119],"wrap_type":"JWE","z":null}"#).unwrap();
        assert_eq!(packets[0].wrapped_key, b"w");
    }

    #[test]
    fn a_packet_without_a_type_is_read_only_for_bare_aws_names() {
        let bare = br#"{"key_url":"arn:aws:kms:eu-west-1:111122223333:key/x","wrapped_key":"dw=="}"#;
        assert_eq!(parse(bare).unwrap()[0].wrap_type, WrapType::Kms);
        let other = br#"{"key_url":"gcpkms://x","wrapped_key":"dw=="}"#;
        assert_eq!(parse(other).unwrap()[0].wrap_type, WrapType::Unknown(String::new()));
    }

    #[test]
    fn a_null_type_is_none() {
        let text = |key_url: &str| format!(r#"{{"key_url":"{key_url}","wrapped_key":"dw==","wrap_type":null}}"#);
        assert_eq!(parse(text("1234abcd-12ab-34cd-56ef-1234567890ab").as_bytes()).unwrap()[0].wrap_type, WrapType::Kms);
        assert_eq!(parse(text("awskms:///alias/a").as_bytes()).unwrap()[0].wrap_type, WrapType::Unknown(String::new()));
    }

    #[test]
    fn what_a_packet_says_without_a_key_is_told() {
        let packets = parse(&bytes::decode(GCP.trim()).unwrap()).unwrap();
        let info = packets[0].info().unwrap();
        assert_eq!((info.key_uri, info.wrap_type.as_str()), (packets[0].key_url.clone(), "AES"));
        assert_eq!((info.wrapped_length as usize, info.attributes.len()), (packets[0].wrapped_key.len(), 0));
        let jwe = include_bytes!("../samples/rfc7520-5.2.jwe").trim_ascii_end();
        let packet = Packet { key_url: "local://k".into(), wrapped_key: jwe.to_vec(), wrap_type: WrapType::Jwe };
        let attributes = packet.info().unwrap().attributes;
        let expected = [("alg", "RSA-OAEP"), ("enc", "A256GCM"), ("kid", "samwise.gamgee@hobbiton.example")];
        assert_eq!(attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let packet = Packet { wrapped_key: b"a.b.c".to_vec(), ..packet };
        assert!(packet.info().is_err());
    }

    #[test]
    fn malformed_annotations_are_refused_with_a_reason() {
        let reason = |text: &str| match parse(text.as_bytes()) {
            Err(Error::InvalidInput(reason)) => reason,
            other => panic!("{text}: {other:?}"),
        };
        assert!(reason("").ends_with("it is not JSON"));
        assert!(reason("[]").ends_with("it holds no packet"));
        assert!(reason("7").ends_with("not a JSON object"));
        assert!(reason(r#"{"wrapped_key":"","wrap_type":"AES"}"#).ends_with("no `key_url`"));
        assert!(reason("{}{}").ends_with("it is not JSON"));
        assert!(reason("[[]]").ends_with("not a JSON object"));
        assert!(reason(&"[".repeat(MAX_ANNOTATION)).ends_with("levels deep"));
        assert!(reason(r#"{"key_url":7,"wrapped_key":"","wrap_type":"AES"}"#).ends_with("no `key_url`"));
        for wrapped_key in ["", r#""wrapped_key":"","#, r#""wrapped_key":[256],"#, r#""wrapped_key":null,"#] {
            let text = format!(r#"{{"key_url":"a",{wrapped_key}"wrap_type":"AES"}}"#);
            assert!(reason(&text).ends_with("missing, empty or no base64"), "{text}");
        }
        assert!(reason(r#"{"key_url":"a","key_url":"b"}"#).ends_with(r#""key_url" twice"#));
        assert!(reason(r#"{"key_url":"a","wrapped_key":"*","wrap_type":"AES"}"#).ends_with("no base64"));
        assert!(reason(&format!("[{}]", vec!["{}"; MAX_PACKETS + 1].join(","))).ends_with("more than 16 packets"));
        assert!(reason(&" ".repeat(MAX_ANNOTATION + 1)).contains("longer than"));
    }

    fn any_packet() -> impl Strategy<Value = Packet> {
        let wrap_type = prop_oneof![Just(WrapType::Kms), Just(WrapType::Jwe)];
        let packet = |(key_url, wrapped_key, wrap_type)| Packet { key_url, wrapped_key, wrap_type };
        (any::<String>(), prop::collection::vec(any::<u8>(), 1..300), wrap_type).prop_map(packet)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(packets in prop::collection::vec(any_packet(), 1..=MAX_PACKETS)) {
            let written = write(&packets);
            prop_assert_eq!(written.first(), Some(if packets.len() == 1 { &b'{' } else { &b'[' }));
            prop_assert_eq!(parse(&written).unwrap(), packets);
        }

        #[test]
        fn no_bytes_make_parsing_panic(
            bytes: Vec<u8>,
            packets in prop::collection::vec(any_packet(), 1..3),
            changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        ) {
            let _ = parse(&bytes);
            let mut changed = write(&packets);
            changes.iter().for_each(|(at, byte)| *at.get_mut(&mut changed) = *byte);
            if let Ok(packets) = parse(&changed) {
                packets.iter().for_each(|packet| drop(packet.info()));
            }
        }
    }
}
