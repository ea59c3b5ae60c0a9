//! The section `[server]`. What it means is in `docs/server.md`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::Error;

/// Settings of `ocicrypt-kms serve`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Server {
    /// Where to listen: `unix:///PATH`, `ttrpc+unix:///PATH` or `tcp://HOST:PORT`. Nothing: `unix:///run/ocicrypt-kms/kms.sock`.
    pub listen: Vec<String>,
    /// The group, by name or number, that may use the Unix sockets besides this user.
    pub group: Option<String>,
    /// The server's certificate chain in PEM.
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key in PEM.
    pub tls_key: Option<PathBuf>,
    /// The certificate authorities in PEM that issue the certificates of clients.
    pub client_ca: Option<PathBuf>,
    /// Lists of revoked certificates of clients in PEM, one for each authority.
    pub client_crl: Option<PathBuf>,
    /// Whether a client's certificate needs a list of its issuer, one that has not expired, if there is a `client-crl`.
    pub client_crl_required: bool,
    /// Whether TCP may be served without TLS, to anybody who reaches it.
    pub insecure_tcp: bool,
    /// Where to serve metrics: HOST:PORT.
    pub metrics: Option<String>,
    /// What logs look like.
    pub log_format: LogFormat,
    /// How much is logged.
    pub log_level: LogLevel,
    /// How many exchanges run at a time.
    pub max_exchanges: u32,
    /// How many exchanges wait for their turn.
    pub max_waiting: u32,
    /// How many connections there are at a time.
    pub max_connections: u32,
    /// How many exchanges of one caller run at a time: three quarters of all if it isn't said.
    pub max_exchanges_per_caller: Option<u32>,
    /// How many connections one caller has at a time: three quarters of all if it isn't said.
    pub max_connections_per_caller: Option<u32>,
    /// How many exchanges one caller may have in an hour, if that is bounded.
    pub exchanges_per_hour: Option<u32>,
    /// How many MiB of messages and answers are held at a time, three quarters of them of one caller.
    pub message_memory_mib: u32,
    /// How long a client may take for TLS, and again until it has said what protocol it speaks.
    pub greeting_seconds: u32,
    /// How much longer than an exchange a message may take that arrives slowly, and an answer that is read slowly.
    pub message_seconds: u32,
    /// How long a connection lasts, until its client is told to use another one.
    pub connection_seconds: u32,
    /// How long exchanges that are under way have to end when the server is stopped.
    pub drain_seconds: u16,
}

/// What logs look like.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures of the server itself.
    Error,
    /// Exchanges that failed, too.
    Warn,
    /// Every exchange, too.
    #[default]
    Info,
    /// Every step of one, too.
    Debug,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            group: None,
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            client_crl: None,
            client_crl_required: true,
            insecure_tcp: false,
            metrics: None,
            log_format: LogFormat::default(),
            log_level: LogLevel::default(),
            max_exchanges: 128,
            max_waiting: 1024,
            max_connections: 4096,
            max_exchanges_per_caller: None,
            max_connections_per_caller: None,
            exchanges_per_hour: None,
            message_memory_mib: 64,
            greeting_seconds: 10,
            message_seconds: 10,
            connection_seconds: 3600,
            drain_seconds: 20,
        }
    }
}

impl Server {
    /// The certificate chain, its key and the client CA, if TLS is configured.
    ///
    /// # Errors
    /// If only some of them are, or a `client-crl` without them.
    pub fn tls(&self) -> Result<Option<[PathBuf; 3]>, Error> {
        match (&self.tls_cert, &self.tls_key, &self.client_ca) {
            (None, None, None) if self.client_crl.is_some() => {
                Err(wrong("client-crl", "it is for TLS: give `tls-cert`, `tls-key` and `client-ca`, too".into()))
            }
            (None, None, None) => Ok(None),
            (Some(certificate), Some(key), Some(client_ca)) => Ok(Some([certificate.clone(), key.clone(), client_ca.clone()])),
            _ => Err(wrong("tls", "`tls-cert`, `tls-key` and `client-ca` belong together: give all three or none".into())),
        }
    }

    /// How many exchanges of one caller run at a time.
    #[must_use]
    pub fn max_exchanges_per_caller(&self) -> u32 {
        self.max_exchanges_per_caller.unwrap_or(three_quarters(self.max_exchanges))
    }

    /// How many connections one caller has at a time.
    #[must_use]
    pub fn max_connections_per_caller(&self) -> u32 {
        self.max_connections_per_caller.unwrap_or(three_quarters(self.max_connections))
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// If one is out of its range.
    pub fn check(&self) -> Result<(), Error> {
        let limits = [
            ("max-exchanges", self.max_exchanges, 1..=1024),
            ("max-waiting", self.max_waiting, 0..=65_536),
            ("max-connections", self.max_connections, 1..=65_536),
            ("max-exchanges-per-caller", self.max_exchanges_per_caller(), 1..=1024),
            ("max-connections-per-caller", self.max_connections_per_caller(), 1..=65_536),
            ("exchanges-per-hour", self.exchanges_per_hour.unwrap_or(1), 1..=1_000_000_000),
            // A message may have 4 MiB, and one caller has three quarters of these.
            ("message-memory-mib", self.message_memory_mib, 8..=65_536),
            ("greeting-seconds", self.greeting_seconds, 1..=60),
            ("message-seconds", self.message_seconds, 1..=600),
            ("connection-seconds", self.connection_seconds, 1..=86_400),
            ("drain-seconds", self.drain_seconds.into(), 0..=600),
        ];
        match limits.iter().find(|(_, value, range)| !range.contains(value)) {
            Some((name, _, range)) => Err(wrong(name, format!("it is not from {} to {}", range.start(), range.end()))),
            None => Ok(()),
        }
    }
}

/// What one caller may have of something, so that it can't have all; of one or two, all.
pub(crate) fn three_quarters(all: u32) -> u32 {
    all - all / 4
}

fn wrong(place: &str, reason: String) -> Error {
    Error::Configuration { place: format!("server.{place}"), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_tls_belong_together() {
        assert_eq!(Server::default().tls().unwrap(), None);
        let some = Server { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..Server::default() };
        assert!(some.tls().unwrap_err().to_string().contains("all three or none"));
        let all = Server { client_ca: Some("a".into()), ..some };
        assert_eq!(all.tls().unwrap().unwrap()[2], PathBuf::from("a"));
        let list = Server { client_crl: Some("l".into()), ..Server::default() };
        assert!(list.tls().unwrap_err().to_string().contains("it is for TLS"));
    }

    #[test]
    fn a_limit_outside_its_range_is_an_error() {
        assert!(Server::default().check().is_ok());
        for server in [Server { max_exchanges: 0, ..Server::default() }, Server { drain_seconds: 601, ..Server::default() }] {
            assert!(server.check().unwrap_err().to_string().starts_with("server."));
        }
    }
}
