//! What the host enforces whatever the guest does: a hostile component tries each trick, and a named mechanism stops it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
use ocicrypt_kms::sandbox::Sandbox;
use ocicrypt_kms::{Config, Digest, Environment, Error, ErrorKind, Instances, KeyProvider};
use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::alone::alone;
use ocicrypt_kms_testing::guest;
use ocicrypt_kms_testing::messages::{OPTS_DATA, keyunwrap, keywrap};
use ocicrypt_kms_testing::program::{Program, refusal, succeeded};

const GCP_KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";

/// The hostile component, built and compiled once.
fn hostile() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let compile = || Arc::new(Sandbox::compile(guest::component("hostile"), Instances::Pooled(8)).unwrap());
    SANDBOX.get_or_init(compile).clone()
}

/// A host with the keys `local://a` and `local://b` and the Cloud KMS key `GCP_KEY`, whose component plays `trick` with `key`.
struct Stage {
    _folder: tempfile::TempDir,
    gcp: FakeGcp,
    key: String,
    provider: KeyProvider,
    runtime: tokio::runtime::Runtime,
}

fn stage_with(trick: &str, key: &str, change: impl FnOnce(Config) -> Config) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let keystore = Keystore::new(folder.path().to_owned());
    for name in ["a", "b"] {
        keystore.create(name, Existing::Refuse, &Jwk::generate_symmetric().unwrap()).unwrap();
    }
    let gcp = FakeGcp::start();
    gcp.add_key(GCP_KEY);
    let options = [("trick", trick), ("key", key), ("tell", "by error")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config { keystore: Some(folder.path().to_owned()), options: options.into(), ..Config::default() };
    let environment = Environment::of([
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS".to_owned(), gcp.endpoint()),
        ("HOME".to_owned(), folder.path().display().to_string()),
    ]);
    let provider = KeyProvider::builder(change(config)).environment(environment).sandbox(hostile());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Stage { _folder: folder, gcp, key: key.to_owned(), provider: provider.build().unwrap(), runtime }
}

fn stage(trick: &str, key: &str) -> Stage {
    stage_with(trick, key, |config| config)
}

impl Stage {
    /// What the guest was told, in an exchange that wraps for `named`.
    fn wrap(&self, named: &[&str]) -> Result<String, Error> {
        self.told(&keywrap(&[("kmscrypt", named)], OPTS_DATA))
    }

    /// What the guest was told, in an exchange that unwraps with `named` an annotation in which the trick's key stands.
    fn unwrap(&self, named: &[&str]) -> Result<String, Error> {
        self.unwrap_annotation(named, &format!(r#"{{"key_url":"{}"}}"#, self.key))
    }

    fn unwrap_annotation(&self, named: &[&str], annotation: &str) -> Result<String, Error> {
        self.told(&keyunwrap(&[("kmscrypt", named)], annotation.as_bytes()))
    }

    /// The guest tells it by an error.
    fn told(&self, message: &[u8]) -> Result<String, Error> {
        match self.runtime.block_on(self.provider.exchange(message)) {
            Err(Error::NoMatchingKey { reason, .. }) => Ok(reason),
            Err(error) => Err(error),
            Ok(answer) => panic!("it was answered {}", String::from_utf8_lossy(&answer)),
        }
    }
}

fn assert_denied(told: &str, reason: &str) {
    assert!(told.contains("Denied") && told.contains(reason), "{told}");
}

#[test]
fn private_keys_of_other_schemes_do_not_arrive() {
    let stage = stage("echo the message", "");
    let parameters = r#""Parameters":{"kmscrypt":["bG9jYWw6Ly9h"],"privkeys":["UFJJVkFURQ=="],"x509s":["WA=="]}"#;
    let nested = r#""DecryptConfig":{"Parameters":{"privkeys":["UFJJVkFURQ=="],"kmscrypt":["bG9jYWw6Ly9i"]}}"#;
    let opts_data = "[123,34,115,121,109,107,101,121,34,58,34,97,34,125]";
    let message =
        format!(r#"{{"op":"keywrap","unknown":"UFJJVkFURQ==","keywrapparams":{{"ec":{{{parameters},{nested}}},"optsdata":{opts_data}}}}}"#);
    let expected =
        format!(r#"{{"op":"keywrap","keywrapparams":{{"ec":{{"Parameters":{{"kmscrypt":["bG9jYWw6Ly9h"]}}}},"optsdata":{opts_data}}}}}"#);
    assert_eq!(stage.told(message.as_bytes()).unwrap(), expected);
}

#[test]
fn duplicate_members_are_refused_before_a_guest_runs() {
    let stage = stage("loop", "");
    let message = br#"{"op":"keywrap","op":"keyunwrap","keywrapparams":{"ec":null,"optsdata":""}}"#;
    let error = stage.runtime.block_on(stage.provider.exchange(message)).unwrap_err();
    assert!(error.line().contains(r#"the member "op" twice"#), "{}", error.line());
}

#[test]
fn what_no_unwrap_would_hand_out_is_refused_before_a_guest_runs_or_a_service_is_called() {
    let stage = stage("open", &format!("gcpkms://{GCP_KEY}"));
    for opts_data in [&b"{}"[..], b"secret", br#"{"symkey":""}"#, br#"{"symkey":"secret","digest":"","digest":""}"#] {
        let message = keywrap(&[("kmscrypt", &[&stage.key])], opts_data);
        let error = stage.runtime.block_on(stage.provider.exchange(&message)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.line().contains("not the key of an image layer") && !error.line().contains("secret"), "{}", error.line());
    }
    assert!(stage.gcp.requests().is_empty());
}

#[test]
fn a_wrap_exchange_cannot_unwrap() {
    assert_denied(&stage("open for the other usage", "local://a").wrap(&["local://a"]).unwrap(), "this exchange may wrap, not unwrap");
    let told = stage("open and use for the other usage", &format!("gcpkms://{GCP_KEY}")).wrap(&[&format!("gcpkms://{GCP_KEY}")]).unwrap();
    assert_denied(&told, "it was lent to wrap, not to unwrap");
}

#[test]
fn an_unwrap_exchange_cannot_wrap() {
    assert_denied(&stage("open for the other usage", "local://a").unwrap(&["local://a"]).unwrap(), "this exchange may unwrap, not wrap");
    let told = stage("open and use for the other usage", &format!("gcpkms://{GCP_KEY}")).unwrap(&[&format!("gcpkms://{GCP_KEY}")]).unwrap();
    assert_denied(&told, "it was lent to unwrap, not to wrap");
}

#[test]
fn a_key_that_was_not_named_does_not_open() {
    for (told, stage) in ["local://b", &format!("gcpkms://{GCP_KEY}")].map(|key| {
        let stage = stage("open", key);
        (stage.wrap(&["local://a"]).unwrap() + &stage.unwrap(&["local://a"]).unwrap(), stage)
    }) {
        assert_eq!(told.matches("this exchange is not about it").count(), 2, "{told}");
        assert!(stage.gcp.requests().is_empty(), "no call was made");
    }
}

#[test]
fn a_packet_may_say_more_in_its_query_than_the_named_key_but_not_less_and_not_when_wrapping() {
    let more = stage("open", "local://a?context_x=1&context_y=2");
    assert!(more.unwrap(&["local://a?context_x=1"]).unwrap().contains("Ok("));
    assert_denied(&more.wrap(&["local://a?context_x=1"]).unwrap(), "this exchange is not about it");
    let less = stage("open", "local://a");
    assert_denied(&less.unwrap(&["local://a?context_x=1"]).unwrap(), "this exchange is not about it");
}

#[test]
fn a_context_other_than_the_named_one_is_refused() {
    assert_denied(&stage("other context", "local://a").wrap(&["local://a"]).unwrap(), "this exchange is not about it");
}

#[test]
fn a_key_that_only_the_annotation_names_opens_only_if_policy_allows_it() {
    let listed = |keys: &[&str]| {
        let keys = Some(keys.iter().map(|key| (*key).to_owned()).collect());
        stage_with("open", "local://a", |config| Config { keys, ..config })
    };
    assert!(listed(&["local://a"]).unwrap(&[]).unwrap().contains("Ok("));
    assert_denied(&listed(&["local://b"]).unwrap(&[]).unwrap(), "only the image names it");
}

#[test]
fn a_key_that_does_not_stand_in_the_annotation_does_not_open() {
    let stage = stage("open", "local://a");
    assert_denied(&stage.unwrap_annotation(&[], r#"{"key_url":"local://b"}"#).unwrap(), "this exchange is not about it");
    let more = self::stage("open", "local://a?context_leak=c2VjcmV0");
    assert_denied(&more.unwrap_annotation(&["local://a"], r#"{"key_url":"local://a"}"#).unwrap(), "this exchange is not about it");
}

#[test]
fn a_guest_that_goes_on_past_its_budget_does_not_fill_the_hosts_memory() {
    // The largest memory of a process is that of all of its tests.
    alone("lending::a_guest_that_goes_on_past_its_budget_does_not_fill_the_hosts_memory", guest_past_its_budget);
}

fn guest_past_its_budget() {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let stage = stage("open for ever", &format!("local://{}", "x".repeat(60)));
    let before = peak();
    let error = stage.wrap(&["local://a"]).unwrap_err();
    assert!(error.line().contains("ran for more than"), "{}", error.line());
    assert!(peak() - before < 64 << 10, "{} KiB more", peak() - before);
}

#[test]
fn a_key_serves_one_successful_use() {
    let told = stage("use twice", "local://a").wrap(&["local://a"]).unwrap();
    assert!(told.starts_with("true "), "{told}");
    assert_denied(&told, "it was lent for one use, which it has had");
}

#[test]
fn a_seventeenth_open_is_refused() {
    let told = stage("open often", "local://a").wrap(&["local://a"]).unwrap();
    assert!(told.starts_with("16 "), "{told}");
    assert_denied(&told, "more than 16 keys");
}

#[test]
fn failed_opens_count() {
    assert_denied(&stage("open badly, then well", "local://a").wrap(&["local://a"]).unwrap(), "more than 16 keys");
}

#[test]
fn failed_uses_are_bounded_too() {
    let told = stage("use often", "local://a").unwrap(&["local://a"]).unwrap();
    assert!(told.contains("Corrupt"), "{told}");
    assert_denied(&told, "more than 16 times");
}

#[test]
fn a_key_kept_for_the_next_exchange_is_gone_and_so_is_all_memory() {
    // More exchanges than the pool has places, so that memory is used again.
    let stage = stage("keep a key", "local://a");
    for _ in 0..20 {
        assert_eq!(stage.wrap(&["local://a"]).unwrap(), "kept 0 keys and 0 bytes");
    }
}

#[test]
fn memory_of_one_exchange_holds_nothing_of_another() {
    let plant = stage("plant a secret", "local://a");
    let look = stage("look for the secret", "local://a");
    for _ in 0..3 {
        // More than there are places in the pool: each is used again.
        (0..10).for_each(|_| assert_eq!(plant.wrap(&["local://a"]).unwrap(), "planted, true in memory"));
        (0..10).for_each(|_| assert_eq!(look.wrap(&["local://a"]).unwrap(), "0 in memory"));
    }
}

#[test]
fn a_handle_that_was_never_lent_is_no_key() {
    let error = stage("forge a handle", "").wrap(&["local://a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Component, "{error}");
}

#[test]
fn what_no_key_was_used_for_is_no_answer() {
    for outcome in [stage("answer without a key", "").wrap(&["local://a"]), stage("answer without a key", "").unwrap(&["local://a"])] {
        let line = outcome.unwrap_err().line();
        assert!(line.contains("it answered without having used a key"), "{line}");
    }
}

#[test]
fn a_key_of_one_kind_refuses_the_methods_of_the_other() {
    let told = stage("use the other methods", "local://a").wrap(&["local://a"]).unwrap();
    assert!(told.contains("the key wraps by A256KW, which needs the other pair of methods"), "{told}");
}

#[test]
fn only_content_encryption_keys_of_the_right_length_are_wrapped() {
    let told = stage("wrap keys of other lengths", "local://a").wrap(&["local://a"]).unwrap();
    assert_eq!(told.matches("only 32-byte keys for A256GCM are wrapped").count(), 2, "{told}");
}

#[test]
fn a_header_that_is_not_the_lent_keys_is_refused() {
    let told = stage("lie about the header", "local://a").unwrap(&["local://a"]).unwrap();
    assert!(told.contains("`alg` is not A256KW") && told.contains("`enc` is not A256GCM"), "{told}");
    assert!(told.contains("the member") && told.contains("twice") && told.contains("not a JSON object"), "{told}");
}

#[test]
fn more_than_a_service_takes_is_not_sent() {
    let stage = stage("big plaintext", &format!("gcpkms://{GCP_KEY}"));
    let told = stage.wrap(&[&format!("gcpkms://{GCP_KEY}")]).unwrap();
    assert!(told.contains("more than 65536 bytes"), "{told}");
    assert!(stage.gcp.requests().is_empty());
}

#[test]
fn opts_data_without_symkey_is_not_returned() {
    let error = stage("no opts data", "").unwrap(&["local://a"]).unwrap_err();
    assert!(error.line().contains("not the key of an image layer") && !error.line().contains("plaintext of"), "{}", error.line());
}

#[test]
fn opts_data_cannot_leave_by_the_name_of_a_key() {
    let stage = stage("leak through a key URI", "local://a");
    assert_denied(&stage.wrap(&["local://a"]).unwrap(), "this exchange is not about it");
    assert!(stage.gcp.requests().is_empty());
}

#[test]
fn key_uris_that_escape_their_place_are_refused() {
    let stage = stage("other spellings", "");
    let told = stage.wrap(&["local://a"]).unwrap();
    assert_eq!(told.matches("InvalidInput").count(), 5, "{told}");
    assert!(stage.gcp.requests().is_empty());
}

#[test]
fn path_tricks_in_names_of_keys_are_refused() {
    assert_all_refused("path tricks", 11);
}

#[test]
fn headers_and_addresses_can_not_come_in_by_a_key_uri() {
    assert_all_refused("injections", 11);
}

/// Each of the trick's key URIs is malformed, and no call was made.
fn assert_all_refused(trick: &str, uris: usize) {
    let stage = stage(trick, "");
    let told = stage.wrap(&["local://a"]).unwrap();
    assert_eq!(told, vec!["Error::InvalidInput"; uris].join(" "));
    assert!(stage.gcp.requests().is_empty());
}

#[test]
fn opts_data_cannot_leave_by_a_second_key() {
    let stage = stage("leak to a second key", &format!("gcpkms://{GCP_KEY}"));
    let told = stage.wrap(&["local://a"]).unwrap();
    assert!(told.starts_with("true "), "the key that was named works: {told}");
    assert_denied(&told, "this exchange is not about it");
    assert!(stage.gcp.requests().is_empty());
}

#[test]
fn duplicate_members_of_an_answer_are_refused() {
    let error = stage("answer twice", "").wrap(&["local://a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Component, "{error}");
    let error = stage("opts data twice", "").unwrap(&["local://a"]).unwrap_err();
    assert!(error.line().contains("not the key of an image layer"), "{}", error.line());
}

#[test]
fn giant_texts_do_not_reach_the_host() {
    for trick in ["giant key URI", "giant error"] {
        let told = match stage(trick, "").wrap(&["local://a"]) {
            Ok(told) => told,
            Err(error) => error.line(),
        };
        assert!(told.len() < 2048, "{trick}: {} bytes", told.len());
    }
}

#[test]
fn a_denial_or_a_status_that_a_guest_makes_up_is_not_believed() {
    for trick in ["claim denied", "claim a status"] {
        let error = stage(trick, "").wrap(&["local://a"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Component, "{error}");
        assert!(error.line().contains("of which the host knows nothing") && !error.line().contains("honestly"), "{}", error.line());
    }
    let error = stage("claim many attempts", "").wrap(&["local://a"]).unwrap_err();
    assert!(error.line().len() <= ocicrypt_kms::error::MAX_LINE && !error.line().contains('\u{7}'), "{}", error.line());
}

#[test]
fn a_guests_text_is_one_bounded_line_without_control_characters() {
    let line = stage("claim with escapes", "").wrap(&["local://a"]).unwrap_err().line();
    assert!(line.len() < 1200 && line.contains("AAAA"), "{} bytes", line.len());
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line}");
}

#[test]
fn an_endless_loop_is_interrupted_even_between_calls() {
    for trick in ["loop", "loop over calls"] {
        let start = Instant::now();
        let error = stage(trick, "local://a").wrap(&["local://a"]).unwrap_err();
        assert!(error.line().contains("ran for more than 1000 ms"), "{}", error.line());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}

#[test]
fn memory_stack_answers_and_random_numbers_are_bounded() {
    for trick in ["memory bomb", "recursion", "giant answer", "much randomness", "empty answer", "panic"] {
        let error = stage(trick, "").wrap(&["local://a"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Component, "{trick}: {error}");
    }
}

#[test]
fn listing_packets_opens_no_key() {
    let stage = stage("", "");
    let error = stage.runtime.block_on(stage.provider.inspect(b"{}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Component, "{error}");
}

/// Each trick, and of the record that there is of it the event and the outcome.
const ON_RECORD: &[(&str, &str, &str)] = &[
    ("open for the other usage", "open", "denied"),
    ("use twice", "use", "denied"),
    ("use the other methods", "use", "invalid-input"),
    ("wrap keys of other lengths", "use", "invalid-input"),
    ("open often", "open", "denied"),
    ("open badly, then well", "open", "denied"),
    ("other context", "open", "denied"),
    ("leak through a key URI", "open", "denied"),
    ("path tricks", "open", "invalid-input"),
    ("injections", "open", "invalid-input"),
    ("giant key URI", "open", "invalid-input"),
    ("claim denied", "exchange", "component"),
    ("claim a status", "exchange", "component"),
    ("claim with escapes", "exchange", "invalid-input"),
    ("answer twice", "exchange", "component"),
    ("forge a handle", "exchange", "component"),
    ("loop", "exchange", "component"),
    ("loop over calls", "exchange", "component"),
    ("open for ever", "exchange", "component"),
    ("memory bomb", "exchange", "component"),
    ("recursion", "exchange", "component"),
    ("giant answer", "exchange", "component"),
    ("much randomness", "exchange", "component"),
    ("panic", "exchange", "component"),
];

#[test]
fn every_trick_is_on_record() {
    for (trick, event, outcome) in ON_RECORD {
        let text = on_record(trick);
        let has = |line: &str| line.contains(&format!("\"event\":\"{event}\"")) && line.contains(&format!("\"outcome\":\"{outcome}\""));
        assert!(text.lines().any(has), "{trick}: {text}");
        assert!(text.is_ascii() && !text.contains('\u{1b}') && !text.contains("bdhUK2c778nW"), "{trick}: {text}");
    }
}

/// What is on record of an exchange that wraps for `local://a` while the component plays this trick.
fn on_record(trick: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let audit = ocicrypt_kms::config::Audit { file: Some(file.clone()), ..Default::default() };
    // Some tricks succeed, as far as the exchange goes.
    let _ = stage_with(trick, "local://a", |config| Config { audit, ..config }).wrap(&["local://a"]);
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn opts_data_cannot_leave_by_the_audit_log() {
    let text = on_record("leak through a key URI");
    let leak: String = OPTS_DATA.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text.matches("what this exchange is not about").count(), 2, "{text}");
    assert!(!text.contains(&leak[2..]) && !text.contains("context_leak"), "{text}");
    let text = on_record("claim with escapes");
    assert!(text.contains("\"outcome\":\"invalid-input\"") && !text.contains("AAAA"), "{text}");
}

/// What the client was told and what the log of the program has of an exchange that wraps for `local://a` while the component plays this trick.
fn told_and_logged(trick: &str) -> (String, String) {
    let user = Program::new();
    succeeded(user.run(&["keygen", "local://a"], b""));
    let component = user.write("hostile.wasm", guest::component("hostile")).display().to_string();
    let options = format!("[options]\ntrick = '{trick}'\nkey = 'local://a'\ntell = 'by error'\n");
    user.write(".config/ocicrypt-kms/config.toml", options);
    let digest = Digest::of(guest::component("hostile")).to_string();
    let arguments = ["--component", &component, "--component-sha256", &digest];
    let output = user.run_logged(&arguments, &keywrap(&[("kmscrypt", &["local://a"])], OPTS_DATA), |_, _| {});
    (refusal(&output).1, user.log())
}

#[test]
fn opts_data_cannot_leave_by_the_log_of_the_program() {
    // Of the message the guest leaks what comes first.
    let leak: String = br#"{"op":"keywrap""#.iter().map(|byte| format!("{byte:02x}")).collect();
    let (told, log) = told_and_logged("leak through a key URI");
    assert!(told.contains(&leak), "the client, whose message it is, is told: {told}");
    assert!(log.contains(r#"error="no-matching-key; the client was told why, in the component's words, which are not logged""#), "{log}");
    assert!(!log.contains(&leak), "{log}");
    let (told, log) = told_and_logged("claim with escapes");
    assert!(told.contains("AAAA") && log.contains(r#"error="invalid-input; "#) && !log.contains("AAAA"), "{told} {log}");
}

#[test]
fn a_component_that_is_stopped_is_on_record_and_cannot_flood_the_log() {
    let text = on_record("loop");
    assert!(text.contains("\"outcome\":\"component\"") && text.contains("it ran for more than 1000 ms"), "{text}");
    let lines = on_record("open for ever").lines().count();
    assert!((17..64).contains(&lines), "{lines}");
}
