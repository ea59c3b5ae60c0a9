//! A key provider in this process, as somebody's settings have it.

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::{Config, Environment, Error, Instances, KeyProvider};
use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::log::Log;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms_testing::scripted::Scripted;
use serde_json::Value;

/// A key provider with settings of its own.
pub struct User {
    provider: KeyProvider,
    runtime: tokio::runtime::Runtime,
    log: Log,
    /// What must not be seen anywhere.
    secrets: Vec<String>,
}

impl User {
    /// With these environment variables, of which those that end in `TOKEN` are secret, and this configuration file.
    pub fn new(variables: &[(&str, &str)], config: &str) -> Self {
        let config = Config { keystore: Some("/nonexistent".into()), ..Config::parse(config).unwrap() };
        let environment = Environment::of(variables.iter().copied());
        let provider = KeyProvider::builder(config).environment(environment).instances(Instances::Pooled(4)).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let secrets = variables.iter().filter(|(name, _)| name.ends_with("TOKEN")).map(|(_, value)| (*value).to_owned()).collect();
        Self { provider, runtime, log: Log::new(), secrets }
    }

    /// Who may do all with this server.
    pub fn root(bao: &Bao) -> Self {
        Self::with_token(bao, ROOT)
    }

    pub fn with_token(bao: &Bao, token: &str) -> Self {
        Self::of(bao, &[("BAO_TOKEN", token)], "")
    }

    /// Who knows this server, and beyond that has these variables and this configuration.
    pub fn of(bao: &Bao, variables: &[(&str, &str)], config: &str) -> Self {
        let (address, authority) = (bao.address(), bao.authority());
        Self::new(&[&[("BAO_ADDR", address.as_str()), ("BAO_CACERT", authority.to_str().unwrap())], variables].concat(), config)
    }

    /// Who has a token for a scripted server.
    pub fn of_scripted(server: &Scripted, config: &str) -> Self {
        Self::new(&[("BAO_ADDR", &server.address()), ("BAO_TOKEN", "a-token-of-this-test")], config)
    }

    /// Another text that must not be seen in logs and errors.
    pub fn keeps_secret(mut self, secret: &str) -> Self {
        self.secrets.push(secret.to_owned());
        self
    }

    /// One exchange. What it logs and the line of its error are searched for secrets.
    pub fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.exchanges(&[message]).remove(0)
    }

    /// Several exchanges at the same time.
    pub fn exchanges(&self, messages: &[&[u8]]) -> Vec<Result<Vec<u8>, Error>> {
        let all = async {
            let mut outcomes = Vec::new();
            let mut running: Vec<_> = messages.iter().map(|message| Box::pin(self.provider.exchange(message))).collect();
            std::future::poll_fn(|context| {
                running.retain_mut(|exchange| match exchange.as_mut().poll(context) {
                    std::task::Poll::Ready(outcome) => {
                        outcomes.push(outcome.map(|answer| answer.to_vec()));
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            outcomes
        };
        let outcomes = self.log.during(|| self.runtime.block_on(all));
        self.assert_no_secret_in(&self.log.text());
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            self.assert_no_secret_in(&error.line());
        }
        outcomes
    }

    fn assert_no_secret_in(&self, text: &str) {
        let opts_data = String::from_utf8(OPTS_DATA.to_vec()).unwrap();
        let symkey = opts_data.split('"').nth(3).unwrap().to_owned();
        for secret in self.secrets.iter().chain(&[symkey, bytes::encode(OPTS_DATA)]) {
            assert!(!text.contains(secret), "the secret {secret} is shown: {text}");
        }
    }

    /// The annotation for this key.
    pub fn wrap(&self, uri: &str) -> Vec<u8> {
        self.try_wrap(uri).unwrap_or_else(|error| panic!("{}", error.line()))
    }

    pub fn try_wrap(&self, uri: &str) -> Result<Vec<u8>, Error> {
        self.exchange(&wrapping(uri)).map(|answer| annotation_of(&answer))
    }

    /// The opts data in an annotation, naming this key.
    pub fn unwrap(&self, uri: &str, annotation: &[u8]) -> Vec<u8> {
        self.try_unwrap(uri, annotation).unwrap_or_else(|error| panic!("{}", error.line()))
    }

    pub fn try_unwrap(&self, uri: &str, annotation: &[u8]) -> Result<Vec<u8>, Error> {
        self.exchange(&unwrapping(uri, annotation)).map(|answer| opts_data_of(&answer))
    }

    /// Wraps and unwraps with a key.
    pub fn uses(&self, uri: &str) {
        assert_eq!(self.unwrap(uri, &self.wrap(uri)), OPTS_DATA);
    }

    /// What was logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }
}

/// A message that asks to wrap the opts data for a key.
pub fn wrapping(uri: &str) -> Vec<u8> {
    keywrap(&[("kmscrypt", &[uri])], OPTS_DATA)
}

/// A message that asks to unwrap and names a key.
pub fn unwrapping(uri: &str, annotation: &[u8]) -> Vec<u8> {
    keyunwrap(&[("kmscrypt", &[uri])], annotation)
}

/// A member of a packet.
pub fn member(annotation: &[u8], name: &str) -> String {
    let packet: Value = serde_json::from_slice(annotation).unwrap();
    packet[name].as_str().unwrap().to_owned()
}

/// What the packet's `wrapped_key` holds, as text.
pub fn wrapped(annotation: &[u8]) -> String {
    String::from_utf8(bytes::decode(&member(annotation, "wrapped_key")).unwrap().to_vec()).unwrap()
}

/// A packet with this text as its wrapped key.
pub fn packet(uri: &str, wrap_type: &str, text: &str) -> Vec<u8> {
    format!(r#"{{"key_url":"{uri}","wrapped_key":"{}","wrap_type":"{wrap_type}"}}"#, bytes::encode(text.as_bytes())).into_bytes()
}
