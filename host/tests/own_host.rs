//! A program that runs components itself: with an engine, a linker and a store's data of its own.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use ocicrypt_kms::audit::Sink;
use ocicrypt_kms::embedding::{Begun, GuestError, GuestPre, Host, KmsCtx, KmsCtxView, KmsView, add_random_to_linker, add_to_linker, late};
use ocicrypt_kms::kms::keystore::{Existing, Jwk, Keystore};
use ocicrypt_kms::sandbox::BUILT_IN;
use ocicrypt_kms::{Builder, Call, Config, Digest, Environment, Error, ErrorKind, KeyProvider};
use ocicrypt_kms_testing::guest;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of, unwrapping, wrapping};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};

/// What the program keeps for a guest: the exchange's keys are a part of it.
struct State {
    tenant: String,
    limits: StoreLimits,
    kms: KmsCtx,
    table: ResourceTable,
}

impl KmsView for State {
    fn kms(&mut self) -> KmsCtxView<'_> {
        KmsCtxView { ctx: &mut self.kms, table: &mut self.table }
    }
}

/// What a guest's `exchange` returned.
type Returned = wasmtime::Result<Result<Vec<u8>, GuestError>>;

/// Keeps the records.
#[derive(Default)]
struct Records(Mutex<Vec<String>>);

impl Sink for Records {
    fn name(&self) -> &str {
        "a test"
    }

    fn take(&self, line: &str, _: Instant) -> Result<(), String> {
        self.0.lock().unwrap().push(line.to_owned());
        Ok(())
    }
}

/// The program, with the keys `local://a` and `local://b`.
struct Program {
    _folder: tempfile::TempDir,
    engine: Engine,
    guest: GuestPre<State>,
    host: Host,
    records: Arc<Records>,
    runtime: tokio::runtime::Runtime,
    /// The most bytes that a guest may have.
    memory: usize,
}

impl Program {
    fn new(component: &[u8], change: impl FnOnce(Config) -> Config, build: impl FnOnce(Builder) -> Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let keystore = Keystore::new(folder.path().to_owned());
            keystore.create(name, Existing::Refuse, &Jwk::generate_symmetric().unwrap()).unwrap();
        }
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker).unwrap();
        add_random_to_linker(&mut linker).unwrap();
        let component = Component::new(&engine, component).unwrap();
        let guest = GuestPre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        let records = Arc::new(Records::default());
        let config = change(Config { keystore: Some(folder.path().to_owned()), ..Config::default() });
        let builder = KeyProvider::builder(config).environment(Environment::of([("HOME", "/")])).audit_sink(records.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { _folder: folder, engine, guest, host: build(builder).build_host().unwrap(), records, runtime, memory: 64 << 20 }
    }

    fn with_built_in() -> Self {
        Self::new(BUILT_IN, |config| config, |builder| builder)
    }

    /// One whose component plays a trick with the key `local://a`.
    fn hostile(trick: &str) -> Self {
        let component = guest::component("hostile");
        let options = [("trick", trick), ("key", "local://a"), ("tell", "by error")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let pinned = |builder: Builder| builder.component(component.to_owned(), Some(Digest::of(component)));
        Self::new(component, |config| Config { options, ..config }, pinned)
    }

    fn begin(&self, message: &[u8]) -> Result<Begun, Error> {
        self.runtime.block_on(self.host.begin(message, Call::default()))
    }

    fn store(&self, kms: KmsCtx) -> Store<State> {
        let limits = StoreLimitsBuilder::new().memory_size(self.memory).build();
        let mut store = Store::new(&self.engine, State { tenant: "blue".into(), limits, kms, table: ResourceTable::new() });
        store.limiter(|state| &mut state.limits);
        store
    }

    fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.exchange_and(message, |returned| returned)
    }

    /// One exchange, where something may come between what the guest returned and its conclusion.
    fn exchange_and(&self, message: &[u8], between: impl FnOnce(Returned) -> Returned) -> Result<Vec<u8>, Error> {
        let Begun { ctx, settings, message, deadline, .. } = self.begin(message)?;
        assert!(deadline > Instant::now());
        let mut store = self.store(ctx);
        let run = async {
            let instance = self.guest.instantiate_async(&mut store).await?;
            instance.ocicrypt_keyprovider_provider().call_exchange(&mut store, &settings, &message).await
        };
        let returned = between(self.runtime.block_on(run));
        let State { tenant, kms, .. } = store.into_data();
        assert_eq!(tenant, "blue");
        self.runtime.block_on(kms.conclude(returned)).map(|answer| answer.to_vec())
    }

    /// Of each record the event, the key and the outcome.
    fn records(&self) -> Vec<String> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let line = |line: &String| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{} {} {}", text(&record["event"]), text(&record["key"]), text(&record["outcome"]))
        };
        self.records.0.lock().unwrap().iter().map(line).collect()
    }
}

#[test]
fn what_it_wraps_it_unwraps_and_all_of_it_is_on_record() {
    let program = Program::with_built_in();
    let annotation = annotation_of(&program.exchange(&wrapping(&["local://a", "local://b"])).unwrap());
    assert_eq!(opts_data_of(&program.exchange(&unwrapping(&["local://b"], &annotation)).unwrap()), OPTS_DATA);
    let wrapped = ["use local://a ok", "use local://b ok", "exchange - ok"];
    assert_eq!(program.records(), [&wrapped[..], &["use local://b ok", "exchange - ok"]].concat());
    let digest = Digest::of(BUILT_IN).to_string();
    assert!(program.records.0.lock().unwrap().iter().all(|line| line.contains(&digest)));
}

/// To add memory takes longer than all else in an exchange, and a pool has to give it back.
#[test]
fn an_exchange_of_usual_size_needs_no_more_memory_than_the_page_that_an_instance_begins_with() {
    let program = Program { memory: 64 << 10, ..Program::with_built_in() };
    let recipients: Vec<_> = (0..4).map(|number| format!("local://a?context_stage=production-{number}")).collect();
    let keys: Vec<_> = recipients.iter().map(String::as_str).collect();
    let annotation = annotation_of(&program.exchange(&wrapping(&keys)).unwrap());
    assert_eq!(opts_data_of(&program.exchange(&unwrapping(&keys[3..], &annotation)).unwrap()), OPTS_DATA);
}

#[test]
fn a_key_that_the_policy_does_not_allow_is_denied_in_the_hosts_words() {
    let program = Program::new(BUILT_IN, |config| Config { keys: Some(vec!["local://b".into()]), ..config }, Builder::for_clients);
    let error = program.exchange(&wrapping(&["local://a"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(program.records(), ["open local://a denied", "exchange - denied"]);
    program.exchange(&wrapping(&["local://b"])).unwrap();
}

#[test]
fn a_message_that_is_none_is_refused_before_a_guest_runs() {
    let program = Program::with_built_in();
    assert_eq!(program.begin(b"{}").err().unwrap().kind(), ErrorKind::InvalidInput);
    assert_eq!(program.records(), ["exchange - invalid-input"]);
}

#[test]
fn what_a_message_names_is_bounded_and_read_before_a_guest_runs() {
    let program = Program::with_built_in();
    let annotation = annotation_of(&program.exchange(&wrapping(&["local://a"])).unwrap());
    let (name, many) = ("n".repeat(1 << 20), vec!["local://a"; 100_000]);
    let before = program.records().len();
    for parameter in [(name.as_str(), &["local://a"][..]), ("kmscrypt", &many), ("team", &["local:b"])] {
        for message in [keywrap(&[parameter], OPTS_DATA), keyunwrap(&[parameter], &annotation)] {
            let error = program.begin(&message).err().unwrap();
            assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().len() < 512, "{error:.600}");
        }
    }
    assert_eq!(program.records()[before..], ["exchange - invalid-input"; 6]);
    assert!(program.records.0.lock().unwrap().iter().all(|record| record.len() < 2048));
}

#[test]
fn what_is_no_opts_data_does_not_leave() {
    let program = Program::with_built_in();
    let annotation = annotation_of(&program.exchange(&wrapping(&["local://a"])).unwrap());
    let other = br#"{"keyunwrapresults":{"optsdata":"c2VjcmV0"}}"#;
    let error = program.exchange_and(&unwrapping(&["local://a"], &annotation), |_| Ok(Ok(other.to_vec()))).unwrap_err();
    assert!(error.line().contains("is not the key of an image layer"), "{}", error.line());
    let error = program.exchange_and(&wrapping(&["local://a"]), |_| Ok(Ok(b"no answer".to_vec()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Component, "{error}");
}

#[test]
fn a_guests_word_about_a_denial_is_not_believed() {
    let program = Program::with_built_in();
    let claim = |_| Ok(Err(GuestError::Denied("because".into())));
    assert_eq!(program.exchange_and(&wrapping(&["local://a"]), claim).unwrap_err().kind(), ErrorKind::Component);
}

#[test]
fn a_guest_that_stops_is_told_from_one_that_its_host_stopped() {
    let line = Program::hostile("panic").exchange(&wrapping(&["local://a"])).unwrap_err().line();
    assert!(line.contains("it stopped: wasm trap: wasm `unreachable`"), "{line}");
    let error = Program::with_built_in().exchange_and(&wrapping(&["local://a"]), |_| Err(late())).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unavailable, "the exchange: it was not done before its deadline"));
}

#[test]
fn what_a_program_stops_a_guest_for_is_not_called_a_defect_of_the_component() {
    let program = Program::with_built_in();
    let reasons: [fn() -> wasmtime::Error; 2] = [|| wasmtime::Error::msg("the database is away"), || wasmtime::Trap::Interrupt.into()];
    for reason in reasons {
        let line = program.exchange_and(&wrapping(&["local://a"]), |_| Err(reason())).unwrap_err().line();
        assert!(line.contains("stopped: ") && line.contains("raise its limits") && !line.contains("defect"), "{line}");
    }
    let line = Program { memory: 1, ..program }.exchange(&wrapping(&["local://a"])).unwrap_err().line();
    assert!(line.contains("memory") && line.contains("raise its limits") && !line.contains("defect"), "{line}");
}

#[test]
fn an_exchange_whose_deadline_has_passed_does_not_begin() {
    let program = Program::with_built_in();
    let call = Call { deadline: Some(Instant::now()), ..Call::default() };
    let error = program.runtime.block_on(program.host.begin(&wrapping(&["local://a"]), call)).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unavailable, "the exchange: it was not done before its deadline"));
    assert_eq!(program.records(), ["exchange - unavailable"]);
}

#[test]
fn an_answer_for_which_no_key_was_used_does_not_leave() {
    let program = Program::with_built_in();
    let annotation = annotation_of(&program.exchange(&wrapping(&["local://a"])).unwrap());
    let conclude = |message: &[u8], answer: &[u8]| {
        let begun = program.begin(message).unwrap();
        program.runtime.block_on(begun.ctx.conclude(Ok(Ok(answer.to_vec())))).unwrap_err().line()
    };
    for line in [
        conclude(&wrapping(&["local://a"]), br#"{"keywrapresults":{"annotation":"bWFkZSB1cA=="}}"#),
        conclude(&unwrapping(&["local://a"], &annotation), br#"{"keyunwrapresults":{"optsdata":"eyJzeW1rZXkiOiJBQUFBIn0="}}"#),
    ] {
        assert!(line.contains("it answered without having used a key"), "{line}");
    }
}

#[test]
fn what_is_shown_of_a_host_holds_no_setting_of_the_component() {
    let program = Program::new(BUILT_IN, |config| Config { options: [("a".into(), "secret".into())].into(), ..config }, |builder| builder);
    let begun = program.begin(&wrapping(&["local://a"])).unwrap();
    let shown = format!("{:?} {begun:?} {:?}", program.host, begun.ctx);
    assert!(shown.contains("Host") && shown.contains("Begun") && shown.contains("KmsCtx"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("bdhUK2c778nW"), "{shown}");
}

#[test]
fn an_exchange_that_is_not_concluded_is_on_record() {
    let program = Program::with_built_in();
    drop(program.begin(&wrapping(&["local://a"])).unwrap());
    // Its record is written by a thread, which ends with the host.
    let Program { host, records, .. } = program;
    drop(host);
    assert!(records.0.lock().unwrap().concat().contains(r#""outcome":"cancelled""#));
}

#[test]
fn a_context_without_an_exchange_lends_nothing_and_concludes_nothing() {
    let program = Program::with_built_in();
    let mut store = program.store(KmsCtx::default());
    let annotation = annotation_of(&program.exchange(&wrapping(&["local://a"])).unwrap());
    let packets = program.runtime.block_on(async {
        let instance = program.guest.instantiate_async(&mut store).await?;
        instance.ocicrypt_keyprovider_provider().call_inspect(&mut store, &annotation).await
    });
    assert_eq!(packets.unwrap().unwrap()[0].key_uri, "local://a");
    let error = program.runtime.block_on(store.into_data().kms.conclude(Ok(Ok(Vec::new())))).unwrap_err();
    assert_eq!(error.to_string(), "no exchange was begun");
}

#[test]
fn a_key_of_another_exchange_is_no_key_even_in_an_instance_that_lives_on() {
    let program = Program::hostile("use a kept key");
    let first = program.begin(&wrapping(&["local://a"])).unwrap();
    let second = program.begin(&wrapping(&["local://a"])).unwrap();
    let mut store = program.store(first.ctx);
    let (settings, message) = (second.settings, second.message);
    let told = program.runtime.block_on(async {
        let instance = program.guest.instantiate_async(&mut store).await.unwrap();
        let provider = instance.ocicrypt_keyprovider_provider();
        provider.call_exchange(&mut store, &settings, &message).await.unwrap().unwrap_err();
        let first = std::mem::replace(&mut store.data_mut().kms, second.ctx);
        drop(first);
        let returned = provider.call_exchange(&mut store, &settings, &message).await;
        store.into_data().kms.conclude(returned).await.unwrap_err().to_string()
    });
    assert!(told.contains("Denied") && told.contains("it was lent in another exchange"), "{told}");
    assert!(program.records().contains(&"open - denied".to_owned()), "{:?}", program.records());
}

#[test]
fn another_component_needs_its_digest_here_too() {
    let other = [BUILT_IN, &[0, 2, 1, b'x']].concat();
    let build = |digest| {
        let builder = KeyProvider::builder(Config::default()).environment(Environment::of([("HOME", "/")]));
        builder.component(other.clone(), digest).build_host().map(|host| host.component())
    };
    assert!(build(None).unwrap_err().line().contains("runs only with its digest"));
    assert_eq!(build(Some(Digest::of(&other))).unwrap(), Digest::of(&other));
}
