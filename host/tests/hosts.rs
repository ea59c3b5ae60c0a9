//! The hosts of `example/hosts` run the component file that this program has built in, and interoperate with it: what one wraps, the others
//! unwrap. And they hold what `docs/wit.md` asks of a host, which a hostile component tries.

#[path = "../../example/hosts/rust/src/lib.rs"]
#[allow(dead_code)]
mod rust;

use std::path::{Path, PathBuf};
use std::process::Command;

use ocicrypt_kms::sandbox::BUILT_IN;
use ocicrypt_kms_fakes::cached;
use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::guest;
use ocicrypt_kms_testing::home::{Home, KEY, PROVIDER};
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms_testing::program::piped;

/// The hosts that are no part of this program.
const EXAMPLES: [Host; 3] = [Host::Rust, Host::Python, Host::Node];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Host {
    /// This program.
    OcicryptKms,
    Rust,
    Python,
    Node,
}

/// A component file, and a user whose key `team` each host lends.
struct Stage {
    home: Home,
    component: PathBuf,
    /// The key's name.
    key: &'static str,
}

impl Stage {
    fn new(component: &[u8]) -> Self {
        let home = Home::with(&[]);
        let component = home.file("component.wasm", component);
        // Node looks for packages beside a program and above it.
        home.file("host.mjs", &std::fs::read(example("hosts/node/host.mjs")).unwrap());
        std::os::unix::fs::symlink(cached("embed/js/node_modules"), component.with_file_name("node_modules")).unwrap();
        Self { home, component, key: "team" }
    }

    /// What a host answers, or the line that it fails with.
    fn exchange(&self, host: Host, options: &[(&str, &str)], message: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = match host {
            Host::OcicryptKms => return ended(&self.home.try_ocicrypt_kms(&[], message)),
            Host::Rust => {
                let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                let component = std::fs::read(&self.component).unwrap();
                return rust::exchange(&component, &self.key(), options, message).map_err(|error| error.to_string());
            }
            Host::Python => command(&cached("embed/bin/python3"), &example("hosts/python/host.py")),
            Host::Node => command(&cached("embed/bin/node"), &self.component.with_file_name("host.mjs")),
        };
        command.arg(&self.component).arg(self.key()).args(options.iter().map(|(name, value)| format!("{name}={value}")));
        ended(&piped(&mut command, message))
    }

    fn key(&self) -> PathBuf {
        self.home.key().with_file_name(format!("{}.jwks", self.key))
    }

    fn wrap(&self, host: Host) -> Vec<u8> {
        annotation_of(&self.exchange(host, &[], &keywrap(&[(PROVIDER, &[KEY])], OPTS_DATA)).unwrap())
    }

    fn unwrap(&self, host: Host, keys: &[&str], annotation: &[u8]) -> Result<Vec<u8>, String> {
        self.exchange(host, &[], &keyunwrap(&[(PROVIDER, keys)], annotation)).map(|answer| opts_data_of(&answer))
    }

    /// What a guest is told that plays a trick in an exchange of this operation.
    fn trick(&self, host: Host, trick: &str, unwrap: bool) -> String {
        let options = [("trick", trick), ("key", KEY)];
        if unwrap {
            let message = keyunwrap(&[(PROVIDER, &[KEY])], format!(r#"{{"key_url":"{KEY}"}}"#).as_bytes());
            return self.exchange(host, &options, &message).map_or_else(|line| line, |answer| told(&opts_data_of(&answer)));
        }
        self.exchange(host, &options, &keywrap(&[(PROVIDER, &[KEY])], OPTS_DATA))
            .map_or_else(|line| line, |answer| told(&annotation_of(&answer)))
    }
}

fn told(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

fn example(path: &str) -> PathBuf {
    checkout::path("example").join(path)
}

fn command(program: &Path, script: &Path) -> Command {
    let mut command = Command::new(program);
    // Nothing is written beside the sources.
    command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn ended(output: &std::process::Output) -> Result<Vec<u8>, String> {
    match output.status.success() {
        true => Ok(output.stdout.clone()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The component of `host/tests/lending.rs` that tries to break a host's rules.
fn hostile() -> &'static [u8] {
    guest::component("hostile")
}

#[test]
fn what_one_host_wraps_every_host_unwraps() {
    let stage = Stage::new(BUILT_IN);
    let hosts = [Host::OcicryptKms, Host::Rust, Host::Python, Host::Node];
    for wraps in hosts {
        let annotation = stage.wrap(wraps);
        for unwraps in hosts {
            assert_eq!(stage.unwrap(unwraps, &[KEY], &annotation).unwrap(), OPTS_DATA, "{wraps:?} {unwraps:?}");
        }
    }
}

#[test]
fn an_older_version_of_the_key_unwraps_in_every_host() {
    let stage = Stage::new(BUILT_IN);
    let before = stage.wrap(Host::OcicryptKms);
    stage.home.rotate();
    for host in EXAMPLES {
        let after = stage.wrap(host);
        for annotation in [&before, &after] {
            assert_eq!(stage.unwrap(host, &[], annotation).unwrap(), OPTS_DATA, "{host:?}");
        }
        assert_eq!(stage.unwrap(Host::OcicryptKms, &[KEY], &after).unwrap(), OPTS_DATA, "{host:?}");
    }
}

#[test]
fn another_key_and_a_changed_packet_are_refused_in_every_host() {
    let (stage, other) = (Stage::new(BUILT_IN), Stage::new(BUILT_IN));
    let annotation = stage.wrap(Host::OcicryptKms);
    let elsewhere = String::from_utf8(annotation.clone()).unwrap().replace(KEY, "local://other");
    for host in EXAMPLES {
        // The packet's `kid` is of a version that the other key doesn't have.
        let refused = other.unwrap(host, &[KEY], &annotation).unwrap_err().to_lowercase();
        assert!(refused.contains("corrupt"), "{host:?}: {refused}");
        let refused = stage.unwrap(host, &[KEY], elsewhere.as_bytes()).unwrap_err();
        assert!(refused.contains("local://other") || refused.contains("no such key"), "{host:?}: {refused}");
    }
}

#[test]
fn no_host_hands_on_what_its_provider_does_not_need_nor_reads_a_member_that_stands_twice() {
    let stage = Stage::new(hostile());
    let parameters = r#""Parameters":{"kmscrypt":["bG9jYWw6Ly90ZWFt"],"privkeys":["UFJJVkFURQ=="]}"#;
    let nested = r#""DecryptConfig":{"Parameters":{"privkeys":["UFJJVkFURQ=="]}}"#;
    let message =
        format!(r#"{{"op":"keywrap","unknown":"UFJJVkFURQ==","keywrapparams":{{"ec":{{{parameters},{nested}}},"optsdata":"e30="}}}}"#);
    let given = serde_json::json!({"ec": {"Parameters": {"kmscrypt": ["bG9jYWw6Ly90ZWFt"]}}, "optsdata": "e30="});
    let expected = serde_json::json!({"op": "keywrap", "keywrapparams": given});
    let twice = message.replacen('{', r#"{"op":"keyunwrap","#, 1);
    for host in EXAMPLES {
        let echo = annotation_of(&stage.exchange(host, &[("trick", "echo the message")], message.as_bytes()).unwrap());
        let echo: serde_json::Value = serde_json::from_slice(&echo).unwrap();
        assert_eq!(echo, expected, "{host:?}");
        let refused = stage.exchange(host, &[("trick", "open"), ("key", KEY)], twice.as_bytes()).unwrap_err();
        assert!(refused.contains("twice"), "{host:?}: {refused}");
    }
}

#[test]
fn every_host_lends_a_key_for_one_use_of_the_operation_at_hand() {
    let stage = Stage::new(hostile());
    for host in EXAMPLES {
        let wrapping = |trick| stage.trick(host, trick, false);
        let unwrapping = |trick| stage.trick(host, trick, true);
        for (said, expected) in [
            (wrapping("open for the other usage"), "Denied"),
            (wrapping("open and use for the other usage"), "Denied"),
            (wrapping("use the other methods"), "InvalidInput"),
            (wrapping("use twice"), "true Some(Error::Denied"),
            (wrapping("wrap keys of other lengths"), "InvalidInput"),
            (wrapping("open often"), "16 Some(Error::Denied"),
            (wrapping("open badly, then well"), "Denied"),
            (unwrapping("open for the other usage"), "Denied"),
            (unwrapping("use often"), "Denied"),
            (unwrapping("lie about the header"), "InvalidInput"),
            (unwrapping("leak through a key URI"), "Denied"),
            (unwrapping("no opts data"), "not the key of a layer"),
        ] {
            assert!(said.contains(expected), "{host:?}: {said}");
        }
    }
}

#[test]
fn a_guest_that_never_ends_is_stopped_where_the_runtime_can() {
    let stage = Stage::new(hostile());
    for host in [Host::Rust, Host::Python] {
        let line = stage.trick(host, "loop", false);
        assert!(line.contains("fuel"), "{host:?}: {line}");
    }
}

#[test]
fn the_guest_in_javascript_wraps_and_unwraps_with_a_key_that_wraps_keys() {
    let stage = Stage::new(&std::fs::read(cached("guests/javascript.wasm")).expect("run `tools/setup embed`"));
    let annotation = stage.wrap(Host::Node);
    let packet: serde_json::Value = serde_json::from_slice(&annotation).unwrap();
    assert_eq!((&packet["kid"], &packet["wrap_type"]), (&KEY.into(), &"A256GCM".into()));
    assert_eq!(stage.unwrap(Host::Node, &[], &annotation).unwrap(), OPTS_DATA);
    let changed = String::from_utf8(annotation).unwrap().replacen(r#""iv":""#, r#""iv":"AAAA"#, 1);
    assert!(stage.unwrap(Host::Node, &[KEY], changed.as_bytes()).unwrap_err().contains("corrupt"));
}

/// The example of `docs/wit.md`, with the annotation and the key of `docs/packet-format.md`.
#[test]
fn the_worked_example_of_the_documentation_is_what_every_host_answers() {
    let [wit, packets] = ["wit.md", "packet-format.md"].map(|name| std::fs::read_to_string(checkout::path("docs").join(name)).unwrap());
    let between = |text: &str, start: &str, end: &str| text.split_once(start).unwrap().1.split_once(end).unwrap().0.to_owned();
    let annotation = between(&packets, "cat > one.b64 <<'END'\n", "END").replace('\n', "");
    let blocks: Vec<_> = wit.split("```json\n").skip(1).map(|block| block.split_once("\n```").unwrap().0).collect();
    let [message, _, answer] = blocks.as_slice() else { panic!("the page has three blocks of JSON") };
    let expected = opts_data_of(answer.as_bytes());
    let stage = Stage { key: "example", ..Stage::new(BUILT_IN) };
    std::fs::rename(stage.home.key(), stage.key()).unwrap();
    std::fs::write(stage.key(), between(&packets, "example.jwks <<'END'\n", "END")).unwrap();
    for host in [Host::OcicryptKms, Host::Rust, Host::Python, Host::Node] {
        let answer = stage.exchange(host, &[], message.replace("ANNOTATION", &annotation).as_bytes()).unwrap();
        assert_eq!(opts_data_of(&answer), expected, "{host:?}");
    }
}
