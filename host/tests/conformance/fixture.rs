//! What the table needs to know of a service, and what a row of it is.

use std::path::Path;

use ocicrypt_kms::Builder;

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

    /// A provider with credentials of the caller, which reaches the service at `address`. `folder` is empty and the provider's own.
    fn provider(&self, address: &str, deadline_seconds: u16, folder: &Path) -> Builder;

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

/// A service's own address.
pub struct Upstream {
    /// The base URL.
    pub url: String,
    /// The certificate (PEM) that it is trusted by, if that is `https`.
    pub root: Option<String>,
}

/// One case.
pub struct Row {
    /// The sentence that it proves.
    pub name: &'static str,
    /// For which services.
    pub applies: fn(&dyn Fixture) -> bool,
    /// Fails by panicking.
    pub run: fn(&dyn Fixture),
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
