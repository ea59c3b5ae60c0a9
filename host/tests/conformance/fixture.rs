//! What the table needs to know of a service, and what a row of it is.

use std::ops::Deref;
use std::path::Path;

/// A service that runs here, real or fake, and a caller who may use its keys.
pub trait Fixture: Send + Sync {
    /// The service, and the kind of key if it has several: the first part of the names of its cases.
    fn name(&self) -> &'static str;

    /// Makes a key that nothing else uses, and returns its URI, to whose query entries can be added.
    fn create_key(&self) -> String;

    /// The URI of a key that the service does not have.
    fn missing_key(&self) -> String;

    /// Where the service listens; none if it isn't reached by HTTP.
    fn upstream(&self) -> Option<Upstream> {
        None
    }

    /// How somebody sets up a provider that reaches the service at `address`, with credentials of the caller. `folder` is empty and the provider's own.
    fn settings(&self, address: &str, folder: &Path) -> Settings;

    /// Whether keys bind an encryption context; others refuse one.
    fn binds_context(&self) -> bool {
        true
    }

    /// Whether keys can be disabled here.
    fn can_disable(&self) -> bool {
        false
    }

    /// Disables a key.
    fn disable(&self, _uri: &str) {
        unreachable!("it says that it can't");
    }

    /// Whether the caller can lose the permission to use a key here.
    fn can_deny(&self) -> bool {
        false
    }

    /// Takes the permission to use a key from the caller.
    fn deny(&self, _uri: &str) {
        unreachable!("it says that it can't");
    }

    /// URIs that try to name another host than the service's, or another path on it.
    fn elsewhere(&self) -> &'static [&'static str];
}

/// What a provider is told.
#[derive(Default)]
pub struct Settings {
    /// Its configuration file.
    pub config: String,
    /// Its environment.
    pub environment: Vec<(&'static str, String)>,
}

/// A service's own address.
pub struct Upstream {
    /// The base URL.
    pub url: String,
    /// The certificate (PEM) that it is trusted by, if that is `https`.
    pub root: Option<String>,
}

/// One sentence of the table.
pub struct Row {
    /// The sentence that it proves.
    pub name: &'static str,
    /// For which services.
    pub applies: fn(&dyn Fixture) -> bool,
    /// Fails by panicking.
    pub run: fn(&Case<'_>),
}

/// A service, and the way in which a row reaches it.
pub struct Case<'a> {
    pub fixture: &'a dyn Fixture,
    pub way: Way,
}

impl<'a> Deref for Case<'a> {
    type Target = dyn Fixture + 'a;

    fn deref(&self) -> &Self::Target {
        self.fixture
    }
}

/// What exchanges a row's messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// The library, in this process: one provider for all exchanges.
    Library,
    /// The program, as container tools start it: a process for each exchange.
    Program,
}

/// For [`Row::applies`].
pub fn always(_: &dyn Fixture) -> bool {
    true
}

/// For [`Row::applies`].
pub fn over_http(fixture: &dyn Fixture) -> bool {
    fixture.upstream().is_some()
}

/// Rows whose names are those of their functions.
macro_rules! rows {
    ($($applies:expr => [$($name:ident),* $(,)?]),* $(,)?) => {
        pub const ROWS: &[$crate::fixture::Row] =
            &[$($($crate::fixture::Row { name: stringify!($name), applies: $applies, run: $name }),*),*];
    };
}
pub(crate) use rows;
