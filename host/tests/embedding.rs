//! Programs that use the library with parts of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use ocicrypt_kms::audit::{Audit, Settings, Sink};
use ocicrypt_kms::key_uri::{Key, KeyUri, OtherService, Service};
use ocicrypt_kms::kms::{Cipher, KeyService, OpenKey};
use ocicrypt_kms::protocol::Operation;
use ocicrypt_kms::{Config, Environment, Error, ErrorKind, KeyProvider};
use zeroize::Zeroizing;

const OPTS_DATA: &[u8] = br#"{"symkey":"bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk="}"#;

/// A vault in the proper sense: what is put in stays inside, and a number comes out.
#[derive(Clone, Default)]
struct Safe {
    binds_context: bool,
    compartments: Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>>,
    opened: Arc<Mutex<Vec<Operation>>>,
}

/// One compartment, open.
struct Compartment {
    safe: Safe,
    name: String,
}

#[async_trait]
impl KeyService for Safe {
    async fn open(&self, uri: &KeyUri, operation: Operation, _: Instant) -> Result<OpenKey, Error> {
        let Key::Other(key) = uri.key() else { panic!("{uri} is none of ours") };
        self.opened.lock().unwrap().push(operation);
        Ok(OpenKey::Cipher(Box::new(Compartment { safe: self.clone(), name: key.segments.join("/") })))
    }
}

#[async_trait]
impl Cipher for Compartment {
    fn binds_context(&self) -> bool {
        self.safe.binds_context
    }

    async fn encrypt(&self, plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let mut compartments = self.safe.compartments.lock().unwrap();
        let contents = compartments.entry(self.name.clone()).or_default();
        contents.push(plaintext.to_vec());
        Ok((contents.len() - 1).to_string().into_bytes())
    }

    async fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let compartments = self.safe.compartments.lock().unwrap();
        let index = std::str::from_utf8(ciphertext).ok().and_then(|text| text.parse::<usize>().ok());
        let found = index.and_then(|index| compartments.get(&self.name)?.get(index).cloned());
        found.map(Zeroizing::new).ok_or_else(|| Error::Corrupt { key: self.name.clone(), reason: "there is no such number".into() })
    }
}

fn safe() -> Service {
    Service::Other(OtherService::new("safe").unwrap())
}

fn provider(config: Config, service: &Safe) -> KeyProvider {
    let environment = Environment::of([("HOME", "/nonexistent")]);
    KeyProvider::builder(config).environment(environment).service(safe(), Arc::new(service.clone())).build().unwrap()
}

/// Runs a future to its end.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_service_of_the_program_wraps_and_unwraps_under_its_own_scheme() {
    let (service, other) = (Safe::default(), Safe::default());
    let provider = provider(Config::default(), &service);
    let annotation = wait(provider.wrap(OPTS_DATA, &["safe://team/images"])).unwrap();
    assert!(String::from_utf8_lossy(&annotation).contains(r#""key_url":"safe://team/images","wrapped_key":"MA==","wrap_type":"AES""#));
    assert_eq!(wait(provider.unwrap(&annotation, &["safe://team/images"])).unwrap().as_slice(), OPTS_DATA);
    assert_eq!(*service.opened.lock().unwrap(), [Operation::Wrap, Operation::Unwrap]);
    assert!(wait(self::provider(Config::default(), &other).unwrap(&annotation, &["safe://team/images"])).is_err());
}

#[test]
fn an_image_chooses_keys_of_such_a_service_only_from_the_list() {
    let service = Safe::default();
    let annotation = wait(provider(Config::default(), &service).wrap(OPTS_DATA, &["safe://team/images"])).unwrap();
    let unwrap = |keys: Option<&str>| {
        let config = Config { keys: keys.map(|key| vec![key.to_owned()]), ..Config::default() };
        wait(provider(config, &service).unwrap(&annotation, &[])).map_err(|error| error.kind())
    };
    assert_eq!(unwrap(None).unwrap_err(), ErrorKind::Denied);
    assert_eq!(unwrap(Some("safe://other/*")).unwrap_err(), ErrorKind::Denied);
    assert_eq!(unwrap(Some("safe://team/*")).unwrap().as_slice(), OPTS_DATA);
}

#[test]
fn a_context_that_nobody_would_bind_opens_no_key() {
    let wrap =
        |service: &Safe| wait(provider(Config::default(), service).wrap(OPTS_DATA, &["safe://team/images?context_stage=production"]));
    let service = Safe::default();
    let error = wrap(&service).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let reason = "safe://team/images?context_stage=production: keys of the service `safe` don't bind an encryption context";
    assert!(error.line().starts_with(reason), "{}", error.line());
    assert!(service.compartments.lock().unwrap().is_empty());
    wrap(&Safe { binds_context: true, ..service }).unwrap();
}

/// Takes nothing down.
struct Nowhere;

impl Sink for Nowhere {
    fn name(&self) -> &str {
        "nowhere"
    }

    fn take(&self, _: &str, _: Instant) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_sink_beside_an_audit_log_of_the_program_is_an_error() {
    let builder = || {
        let builder = KeyProvider::builder(Config::default()).environment(Environment::of([("HOME", "/nonexistent")]));
        builder.audit(Arc::new(Audit::new(Settings::default()))).audit_sink(Arc::new(Nowhere))
    };
    for error in [builder().build().unwrap_err(), builder().build_host().unwrap_err()] {
        assert!(matches!(error, Error::Configuration { .. }) && error.line().contains("`audit::Settings::sinks`"), "{}", error.line());
    }
}

#[test]
fn what_is_shown_of_a_provider_holds_no_setting() {
    let config = Config { options: [("a".into(), "secret".into())].into(), ..Config::default() };
    let builder = KeyProvider::builder(config).environment(Environment::of([("TOKEN", "secret")]));
    let shown = format!("{builder:?} {:?}", Audit::new(Settings::default()));
    let shown = format!("{shown} {:?}", builder.build().unwrap());
    assert!(["Builder", "Audit", "KeyProvider"].iter().all(|name| shown.contains(name)) && !shown.contains("secret"), "{shown}");
}

#[test]
fn without_the_service_its_scheme_is_unknown() {
    let provider = KeyProvider::builder(Config::default()).environment(Environment::of([("HOME", "/nonexistent")])).build().unwrap();
    let error = wait(provider.wrap(OPTS_DATA, &["safe://team"])).unwrap_err();
    assert!(error.line().contains("`safe` is not the scheme of a key URI"), "{}", error.line());
}
