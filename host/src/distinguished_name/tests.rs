use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const TELETEX: u8 = 0x14;
const IA5: u8 = 0x16;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;

const CN: &[u8] = &[0x55, 4, 3];
const O: &[u8] = &[0x55, 4, 10];
const C: &[u8] = &[0x55, 4, 6];
/// 1.2.3.4 and 2.999.3, which have no names.
const NUMBERED: [&[u8]; 2] = [&[0x2a, 3, 4], &[0x88, 0x37, 3]];

/// An attribute: its type, and its value's tag and content.
type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let skipped = length.iter().take_while(|&&byte| byte == 0).count().min(length.len() - 1);
    let length = match content.len() {
        0..=0x7f => vec![length[length.len() - 1]],
        _ => [&[0x80 | u8::try_from(length.len() - skipped).unwrap()][..], &length[skipped..]].concat(),
    };
    [&[tag][..], &length, content].concat()
}

fn attribute((oid, tag, content): &Attribute<'_>) -> Vec<u8> {
    value(SEQUENCE, &[value(OID, oid), value(*tag, content)].concat())
}

/// A name of these parts, in DER.
fn name(parts: &[&[Attribute<'_>]]) -> Vec<u8> {
    let part = |attributes: &&[Attribute<'_>]| {
        let mut attributes: Vec<_> = attributes.iter().map(attribute).collect();
        attributes.sort();
        value(SET, &attributes.concat())
    };
    value(SEQUENCE, &parts.iter().map(part).collect::<Vec<_>>().concat())
}

/// What openssl prints of a certificate with this subject.
fn openssl(subject: &[u8]) -> String {
    let ed25519 = value(SEQUENCE, &value(OID, &[0x2b, 0x65, 0x70]));
    let validity = value(SEQUENCE, &value(0x17, b"260101000000Z").repeat(2));
    let key = value(SEQUENCE, &[ed25519.clone(), value(0x03, &[0; 33])].concat());
    let version_and_serial = [value(0xa0, &[2, 1, 2]), vec![2, 1, 1]].concat();
    let parts = [&version_and_serial, &ed25519, &name(&[]), &validity, subject, &key].map(<[u8]>::to_vec);
    let certificate = value(SEQUENCE, &[value(SEQUENCE, &parts.concat()), ed25519, value(0x03, &[0; 65])].concat());
    let mut command = Command::new("openssl");
    command.args(["x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run `tools/setup test`");
    child.stdin.take().unwrap().write_all(&certificate).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().strip_prefix("subject=").unwrap().trim_end_matches('\n').to_owned()
}

#[test]
fn awkward_names_are_written_as_openssl_writes_them() {
    let bmp: Vec<u8> = "żó,".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let universal: Vec<u8> = "ü🔑 ".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
    let long = "x".repeat(300);
    let table: &[(&[&[Attribute<'_>]], &str)] = &[
        (&[], ""),
        (&[&[(CN, UTF8, b"node")]], "CN=node"),
        (&[&[(C, PRINTABLE, b"DE")], &[(O, UTF8, b"admins")], &[(CN, UTF8, b"node")]], "CN=node,O=admins,C=DE"),
        // The two that were one.
        (&[&[(CN, UTF8, b"node, O=admins")]], "CN=node\\, O=admins"),
        (&[&[(CN, UTF8, b"node")], &[(O, UTF8, b"admins")]], "O=admins,CN=node"),
        (&[&[(CN, UTF8, b"node"), (O, UTF8, b"admins")]], "O=admins+CN=node"),
        (&[&[(CN, UTF8, b"node+O=admins")]], "CN=node\\+O=admins"),
        (&[&[(CN, UTF8, b",+\"\\<>;=#")]], "CN=\\,\\+\\\"\\\\\\<\\>\\;=#"),
        (&[&[(CN, UTF8, b"#node")]], "CN=\\#node"),
        (&[&[(CN, UTF8, b" node ")]], "CN=\\ node\\ "),
        (&[&[(CN, UTF8, b"  two  ")]], "CN=\\  two \\ "),
        (&[&[(CN, UTF8, b" ")]], "CN=\\ "),
        (&[&[(CN, UTF8, b"")]], "CN="),
        (&[&[(CN, UTF8, b"")], &[(O, UTF8, b"")]], "O=,CN="),
        (&[&[(CN, UTF8, "nœud é".as_bytes())]], "CN=nœud é"),
        (&[&[(CN, TELETEX, b"n\xe9ud")]], "CN=néud"),
        (&[&[(CN, BMP, &bmp)]], "CN=żó\\,"),
        (&[&[(CN, UNIVERSAL, &universal)]], "CN=ü🔑\\ "),
        (&[&[(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], IA5, b"a@b")]], "emailAddress=a@b"),
        (&[&[(CN, PRINTABLE, b"under_score*")]], "CN=under_score*"),
        (&[&[(NUMBERED[0], UTF8, b"hello")]], "1.2.3.4=#0C0568656C6C6F"),
        (&[&[(NUMBERED[1], UTF8, b"hello")]], "2.999.3=#0C0568656C6C6F"),
        // No strings: a bit string, and a sequence.
        (&[&[(CN, 0x03, b"\x00\xab")]], "CN=#030200AB"),
        (&[&[(CN, UTF8, b"#030200AB")]], "CN=\\#030200AB"),
        (&[&[(CN, SEQUENCE, b"\x05\0")]], "CN=#30020500"),
        (&[&[(CN, UTF8, long.as_bytes())]], &format!("CN={long}")),
        (&[&[(CN, UTF8, br"\2C\00")]], r"CN=\\2C\\00"),
    ];
    for (parts, expected) in table {
        let name = name(parts);
        assert_eq!(rfc4514(&name).as_deref(), Ok(*expected));
        assert!(is_rfc4514(expected), "{expected}");
        assert_eq!(openssl(&name), *expected);
    }
}

#[test]
fn a_lone_number_sign_is_escaped_as_rfc_4514_has_it_where_openssl_forgets_it() {
    let name = name(&[&[(CN, UTF8, b"#")]]);
    assert_eq!((rfc4514(&name).as_deref(), openssl(&name).as_str()), (Ok("CN=\\#"), "CN=#"));
}

#[test]
fn each_type_with_a_name_is_called_as_openssl_calls_it() {
    for (oid, short) in TYPES {
        let name = name(&[&[(oid, UTF8, b"x")]]);
        assert_eq!(rfc4514(&name).unwrap(), format!("{short}=x"));
        assert_eq!(openssl(&name), format!("{short}=x"));
    }
}

#[test]
fn what_can_not_be_written_exactly_is_refused() {
    let long = "x".repeat(MAX_LENGTH);
    let cn = |tag, content: &[u8]| name(&[&[(CN, tag, content)]]);
    let wrong: &[(Vec<u8>, Unwritable)] = &[
        (cn(UTF8, b"\xff"), Unwritable::Encoding),
        // An overlong form, and a surrogate.
        (cn(UTF8, b"\xc0\xac"), Unwritable::Encoding),
        (cn(UTF8, b"\xed\xa0\x80"), Unwritable::Encoding),
        (cn(PRINTABLE, "é".as_bytes()), Unwritable::Encoding),
        (cn(IA5, b"\x80"), Unwritable::Encoding),
        (cn(BMP, b"\0a\0"), Unwritable::Encoding),
        (cn(BMP, b"\xd8\x3d\xdd\x11"), Unwritable::Encoding),
        (cn(UNIVERSAL, b"\0\0a"), Unwritable::Encoding),
        (cn(UNIVERSAL, b"\0\x11\0\0"), Unwritable::Encoding),
        (cn(UTF8, b"a\0b"), Unwritable::Control),
        (cn(UTF8, b"a\nb"), Unwritable::Control),
        (cn(UTF8, b"a\x7f"), Unwritable::Control),
        (cn(UTF8, b"\x1b[2J"), Unwritable::Control),
        (cn(TELETEX, b"\x9b2J"), Unwritable::Control),
        (cn(UTF8, "a\u{85}b".as_bytes()), Unwritable::Control),
        (cn(UTF8, "a\u{202e}b".as_bytes()), Unwritable::Control),
        (cn(UTF8, "a\u{200b}b".as_bytes()), Unwritable::Control),
        (cn(UTF8, "a\u{2066}b".as_bytes()), Unwritable::Control),
        (cn(UTF8, "a\u{2028}b".as_bytes()), Unwritable::Control),
        (cn(UTF8, long.as_bytes()), Unwritable::TooLong),
        (cn(0x04, long.as_bytes()), Unwritable::TooLong),
        (Vec::new(), Unwritable::Malformed),
        (value(SET, &[]), Unwritable::Malformed),
        ([name(&[]), vec![0]].concat(), Unwritable::Malformed),
        // A part without attributes, one that is no set, and one whose members are out of order.
        (value(SEQUENCE, &value(SET, &[])), Unwritable::Malformed),
        (value(SEQUENCE, &value(SEQUENCE, &attribute(&(CN, UTF8, b"a")))), Unwritable::Malformed),
        (value(SEQUENCE, &value(SET, &[attribute(&(O, UTF8, b"a")), attribute(&(CN, UTF8, b"a"))].concat())), Unwritable::Malformed),
        // An attribute of three values, of one, and types that are no numbers or not in their shortest form.
        (value(SEQUENCE, &value(SET, &value(SEQUENCE, &[value(OID, CN), vec![5, 0, 5, 0]].concat()))), Unwritable::Malformed),
        (value(SEQUENCE, &value(SET, &value(SEQUENCE, &value(OID, CN)))), Unwritable::Malformed),
        (name(&[&[(b"", UTF8, b"a")]]), Unwritable::Malformed),
        (name(&[&[(&[0x2a, 0x80, 3], UTF8, b"a")]]), Unwritable::Malformed),
        (name(&[&[(&[0x2a, 0x83], UTF8, b"a")]]), Unwritable::Malformed),
        (name(&[&[(&[0x2a, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 3], UTF8, b"a")]]), Unwritable::Malformed),
    ];
    for (name, expected) in wrong {
        assert_eq!(rfc4514(name), Err(*expected), "{name:x?}");
    }
    // The longest that is written: `CN=` and the rest.
    assert_eq!(rfc4514(&cn(UTF8, &long.as_bytes()[3..])).unwrap().len(), MAX_LENGTH);
}

#[test]
fn a_text_that_is_written_otherwise_is_known_as_such() {
    let wrong = [
        "node",
        // As older versions of this program wrote it, and as openssl does without options.
        "C=DE, O=admins, CN=node",
        "C = DE, CN = node",
        "/C=DE/CN=node",
        "cn=node",
        "CommonName=node",
        "2.5.4.3=#0C046E6F6465",
        "1.2.3.4=hello",
        "1.02.3=#0C00",
        "1.2.3.4=#0C0",
        "1.2.3.4=#0c00",
        "CN=#",
        "CN=a,",
        ",CN=a",
        "CN=a,,CN=b",
        "CN=a+",
        "CN= a",
        "CN=a ",
        "CN=a\"b",
        "CN=a;b",
        // Escapes that RFC 4514 allows and nobody needs.
        r"CN=a\2Cb",
        r"CN=a\=b",
        r"CN=\a",
        "CN=a\\",
        "CN=a\nb",
    ];
    for text in wrong {
        assert!(!is_rfc4514(text), "{text}");
    }
}

/// Reads a text as RFC 4514 section 3 has it: parts, attributes, and of each the type and the value, whose escapes are undone. A value in hexadecimal
/// digits keeps its `#`, where a value of characters has `'` before it.
fn read(text: &str) -> Vec<Vec<(String, String)>> {
    let mut parts = vec![vec![(String::new(), None::<String>)]];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().unwrap();
        let (name, value) = part.last_mut().unwrap();
        match (c, value) {
            (',', Some(_)) => parts.push(vec![(String::new(), None)]),
            ('+', Some(_)) => part.push((String::new(), None)),
            ('=', value) if value.is_none() => *value = Some(String::new()),
            (c, None) => name.push(c),
            ('#', Some(value)) if value.is_empty() => value.push('#'),
            (c, Some(value)) => {
                if value.is_empty() {
                    value.push('\'');
                }
                value.push(if c == '\\' { chars.next().unwrap() } else { c });
            }
        }
    }
    if text.is_empty() {
        return Vec::new();
    }
    let attribute = |(name, value): (String, Option<String>)| (name, value.unwrap());
    parts.into_iter().map(|part| part.into_iter().map(attribute).collect()).collect()
}

/// A part of a name: types, and what strings say in characters that are apt to be mistaken.
fn any_part() -> impl Strategy<Value = Vec<(usize, String, bool)>> {
    prop::collection::vec((0..TYPES.len() + NUMBERED.len(), r#"[ ,+"\\<>;=#aOCN0é']{0,6}"#, any::<bool>()), 1..3)
}

fn encoded(parts: &[Vec<(usize, String, bool)>]) -> Vec<u8> {
    let oid = |index: usize| TYPES.get(index).map_or_else(|| NUMBERED[index - TYPES.len()], |(oid, _)| oid);
    let contents = |part: &Vec<(usize, String, bool)>| {
        let content = |(index, text, is_bmp): &(usize, String, bool)| match is_bmp {
            true => (oid(*index), BMP, text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            false => (oid(*index), UTF8, text.clone().into_bytes()),
        };
        part.iter().map(content).collect::<Vec<(&[u8], u8, Vec<u8>)>>()
    };
    let contents: Vec<_> = parts.iter().map(contents).collect();
    let attributes: Vec<Vec<Attribute<'_>>> =
        contents.iter().map(|part| part.iter().map(|(oid, tag, content)| (*oid, *tag, &content[..])).collect()).collect();
    name(&attributes.iter().map(|part| &part[..]).collect::<Vec<_>>())
}

proptest! {
    /// No two names have one text, since a name's parts can be read from it, by a reader that knows nothing of how it was written.
    #[test]
    fn what_a_name_says_can_be_read_from_its_text(parts in prop::collection::vec(any_part(), 0..4)) {
        let said = |part: &Vec<(usize, String, bool)>| {
            let mut said: Vec<_> = part.iter().map(|(index, text, is_bmp)| match TYPES.get(*index) {
                Some((_, name)) => ((*name).to_owned(), if text.is_empty() { String::new() } else { format!("'{text}") }),
                None => {
                    let content = if *is_bmp { text.encode_utf16().flat_map(u16::to_be_bytes).collect() } else { text.clone().into_bytes() };
                    let digits = value(if *is_bmp { BMP } else { UTF8 }, &content).iter().map(|byte| format!("{byte:02X}")).collect::<String>();
                    (numbers(NUMBERED[index - TYPES.len()]).unwrap(), format!("#{digits}"))
                }
            }).collect();
            said.sort();
            said
        };
        let text = rfc4514(&encoded(&parts)).unwrap();
        let mut back = read(&text);
        back.iter_mut().for_each(|part| part.sort());
        back.reverse();
        prop_assert!(is_rfc4514(&text), "{}", text);
        prop_assert_eq!(back, parts.iter().map(said).collect::<Vec<_>>(), "{}", text);
    }

    /// Whatever it is given.
    #[test]
    fn bytes_are_written_in_one_line_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = rfc4514(&bytes) {
            prop_assert!(text.len() <= MAX_LENGTH && text.chars().all(is_plain));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_name_is_written_as_openssl_writes_it(parts in prop::collection::vec(any_part(), 0..4)) {
        // Which openssl doesn't escape.
        prop_assume!(parts.iter().flatten().all(|(_, text, _)| text != "#"));
        let name = encoded(&parts);
        prop_assert_eq!(rfc4514(&name).unwrap(), openssl(&name));
    }
}
