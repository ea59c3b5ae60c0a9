//! A host in a page: lends one key of a file to the component, for one exchange.
//!
//! The file is a JWK set as `ocicrypt-kms keygen NAME` makes it (symmetric keys, A256KW); its key is called `local://NAME`. What a host has
//! to do is in `docs/wit.md`; this one has no policy beyond its one key, no encryption context and no audit.

use std::error::Error;
use std::path::Path;

use aes_kw::{KeyInit as _, KwAes256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ocicrypt_kms_protocol::json::{Object, string};
use ocicrypt_kms_protocol::{Answer, Message, Operation};
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Config, Engine, Store, StoreLimits, StoreLimitsBuilder};

#[allow(missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "key-provider",
        imports: { default: trappable },
        with: { "ocicrypt:keyprovider/kms.key": super::LentKey },
    });
}

use bindings::KeyProvider;
use bindings::exports::ocicrypt::keyprovider::provider::Settings;
use bindings::ocicrypt::keyprovider::kms::{self, KeyInfo, Usage, WrappedKey};
use bindings::ocicrypt::keyprovider::types::{self, Error as GuestError};
use bindings::wasi::random::random;

const PROVIDER: &str = "kmscrypt";
const MAX_OPENS: u32 = 16;
const MAX_USES: u32 = 16;
const MAX_MEMORY: usize = 256 << 20;
const MAX_RANDOM: u64 = 4096;
/// Roughly instructions: many times what an exchange takes.
const FUEL: u64 = 2_000_000_000;

/// Answers one message with a component and the key in the file `key`. `options` are for the guest.
///
/// # Errors
/// If the message, the file or the component is malformed, or if the guest reports an error.
pub fn exchange(component: &[u8], key: &Path, options: Vec<(String, String)>, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let message = Message::parse(message)?;
    let host = Host::new(key, message.operation())?;
    let settings = Settings { name: PROVIDER.into(), default_recipients: Vec::new(), options };
    // Anew, with nothing in it but what this provider needs: a client may send private keys along.
    let given = message.for_provider(&message.parameter(PROVIDER), None)?;
    let answer = run(component, host, &settings, &given).map_err(|error| format!("{error:#}"))?;
    let answer = Answer::parse(message.operation(), &answer.map_err(|error| format!("{error:?}"))?)?;
    match message.operation() {
        Operation::Unwrap if !is_opts_data(&answer.result) => Err("what was unwrapped is not the key of a layer".into()),
        _ => Ok(answer.write(message.spelling()).to_vec()),
    }
}

/// Runs the guest once, with bounded memory and time.
fn run(component: &[u8], host: Host, settings: &Settings, message: &[u8]) -> wasmtime::Result<Result<Vec<u8>, GuestError>> {
    let engine = Engine::new(Config::new().consume_fuel(true))?;
    let component = Component::new(&engine, component)?;
    let mut linker = Linker::new(&engine);
    KeyProvider::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    // Guests in other languages import more of WASI than they use.
    linker.define_unknown_imports_as_traps(&component)?;
    let mut store = Store::new(&engine, host);
    store.limiter(|host| &mut host.limits);
    store.set_fuel(FUEL)?;
    let guest = KeyProvider::instantiate(&mut store, &component, &linker)?;
    guest.ocicrypt_keyprovider_provider().call_exchange(&mut store, settings, message)
}

fn is_opts_data(text: &[u8]) -> bool {
    Object::parse(text).is_ok_and(|members| members.get("symkey").and_then(string).is_some_and(|key| !key.is_empty()))
}

/// The host's side of one exchange.
struct Host {
    uri: String,
    /// The version's name and the key, the current one first.
    versions: Vec<(String, KwAes256)>,
    usage: Usage,
    opens: u32,
    uses: u32,
    keys: ResourceTable,
    limits: StoreLimits,
}

/// A key, lent for one successful use.
pub struct LentKey {
    spent: bool,
}

impl Host {
    fn new(path: &Path, operation: Operation) -> Result<Self, Box<dyn Error>> {
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("the key's file has no name")?;
        let set: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let version = |key: &serde_json::Value| {
            let secret = BASE64URL.decode(key["k"].as_str()?).ok()?;
            Some((key["kid"].as_str()?.to_owned(), KwAes256::new_from_slice(&secret).ok()?))
        };
        let versions: Option<Vec<_>> = set["keys"].as_array().ok_or("the file is no JWK set")?.iter().map(version).collect();
        let versions =
            versions.filter(|versions| !versions.is_empty()).ok_or("the file holds other keys than symmetric ones of 256 bits")?;
        let usage = match operation {
            Operation::Wrap => Usage::Wrap,
            Operation::Unwrap => Usage::Unwrap,
        };
        let limits = StoreLimitsBuilder::new().memory_size(MAX_MEMORY).build();
        Ok(Self { uri: format!("local://{name}"), versions, usage, opens: 0, uses: 0, keys: ResourceTable::new(), limits })
    }

    /// Whether this exchange may do that with the key and hasn't.
    fn begin(&mut self, key: &Resource<LentKey>, usage: Usage) -> wasmtime::Result<Result<(), GuestError>> {
        self.uses += 1;
        let spent = self.keys.get(key)?.spent;
        Ok(match usage == self.usage && !spent && self.uses <= MAX_USES {
            true => Ok(()),
            false => Err(GuestError::Denied(format!("the key was lent for one {:?}", self.usage))),
        })
    }

    fn other_method(&mut self, key: &Resource<LentKey>, usage: Usage) -> wasmtime::Result<Result<Vec<u8>, GuestError>> {
        let other = GuestError::InvalidInput("the key wraps by A256KW: use `wrap-key` and `unwrap-key`".into());
        Ok(self.begin(key, usage)?.and(Err(other)))
    }

    /// Tries the versions that the header selects. It comes with the image and can do no more.
    fn unwrap_with(&self, encrypted_key: &[u8], header: &str) -> Result<Vec<u8>, GuestError> {
        let header = Object::parse(header.as_bytes()).map_err(|error| GuestError::InvalidInput(format!("the header is {error}")))?;
        let member = |name| header.get(name).and_then(string);
        if member("alg").as_deref() != Some("A256KW") || member("enc").as_deref() != Some("A256GCM") {
            return Err(GuestError::InvalidInput("the header's `alg` or `enc` is not the key's".into()));
        }
        let kid = member("kid");
        let mut selected = self.versions.iter().filter(|(name, _)| kid.as_ref().is_none_or(|kid| kid == name));
        let mut cek = vec![0; 32];
        let unwrapped = selected.any(|(_, key)| key.unwrap_key(encrypted_key, &mut cek).is_ok());
        if unwrapped { Ok(cek) } else { Err(GuestError::Corrupt("the packet does not verify with this key".into())) }
    }
}

impl types::Host for Host {}

impl kms::Host for Host {
    fn canonical_uri(&mut self, uri: String) -> wasmtime::Result<Result<String, GuestError>> {
        Ok(if uri == self.uri { Ok(uri) } else { Err(GuestError::InvalidInput(format!("{uri}: this host has no such key"))) })
    }
}

impl kms::HostKey for Host {
    fn open(&mut self, uri: String, usage: Usage) -> wasmtime::Result<Result<Resource<LentKey>, GuestError>> {
        self.opens += 1;
        if uri != self.uri || usage != self.usage || self.opens > MAX_OPENS {
            return Ok(Err(GuestError::Denied(format!("{uri}: this exchange may not use it to {usage:?}"))));
        }
        Ok(Ok(self.keys.push(LentKey { spent: false })?))
    }

    fn info(&mut self, key: Resource<LentKey>) -> wasmtime::Result<KeyInfo> {
        self.keys.get(&key)?;
        let (uri, service, wrapping) = (self.uri.clone(), "local".into(), "A256KW".into());
        Ok(KeyInfo { uri, service, wrapping, context: Vec::new(), attributes: Vec::new() })
    }

    fn encrypt(&mut self, key: Resource<LentKey>, _: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, GuestError>> {
        self.other_method(&key, Usage::Wrap)
    }

    fn decrypt(&mut self, key: Resource<LentKey>, _: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, GuestError>> {
        self.other_method(&key, Usage::Unwrap)
    }

    fn wrap_key(&mut self, key: Resource<LentKey>, cek: Vec<u8>, enc: String) -> wasmtime::Result<Result<WrappedKey, GuestError>> {
        if let Err(error) = self.begin(&key, Usage::Wrap)? {
            return Ok(Err(error));
        }
        if (cek.len(), enc.as_str()) != (32, "A256GCM") {
            return Ok(Err(GuestError::InvalidInput("only 32-byte keys for A256GCM are wrapped".into())));
        }
        let (kid, current) = &self.versions[0];
        let mut encrypted_key = vec![0; cek.len() + aes_kw::IV_LEN];
        current.wrap_key(&cek, &mut encrypted_key).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        let header = vec![("kid".to_owned(), serde_json::Value::from(kid.as_str()).to_string())];
        self.keys.get_mut(&key)?.spent = true;
        Ok(Ok(WrappedKey { encrypted_key, header }))
    }

    fn unwrap_key(
        &mut self,
        key: Resource<LentKey>,
        encrypted_key: Vec<u8>,
        header: String,
    ) -> wasmtime::Result<Result<Vec<u8>, GuestError>> {
        if let Err(error) = self.begin(&key, Usage::Unwrap)? {
            return Ok(Err(error));
        }
        let cek = self.unwrap_with(&encrypted_key, &header);
        self.keys.get_mut(&key)?.spent = cek.is_ok();
        Ok(cek)
    }

    fn drop(&mut self, key: Resource<LentKey>) -> wasmtime::Result<()> {
        self.keys.delete(key)?;
        Ok(())
    }
}

impl random::Host for Host {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        if length > MAX_RANDOM {
            return Err(wasmtime::Error::msg("it asked for too many random bytes at once"));
        }
        let mut bytes = vec![0; length as usize];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        Ok(bytes)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        getrandom::u64().map_err(|error| wasmtime::Error::msg(error.to_string()))
    }
}
