//! The server: flags over the configuration, logs, signals, and what systemd wants to know.

use std::path::PathBuf;

use clap::ValueEnum;
use ocicrypt_kms::Error;
use ocicrypt_kms::config::{self, LogFormat, LogLevel};
use ocicrypt_kms::sandbox::Instances;
use ocicrypt_kms::server::{Control, DEFAULT_NAME, Metrics, Server};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::{Options, log};

/// Settings that have no flag.
const ELSEWHERE: &str = "Settings that have no flag stand below `[server]` in the configuration: group, client-crl, client-crl-required,
the limits (max-exchanges, max-waiting, max-connections, each also per caller, exchanges-per-hour) and the times (greeting-seconds,
message-seconds, connection-seconds, drain-seconds). So may those that have one. See docs/configuration.md and docs/server.md";

#[derive(Debug, clap::Args)]
#[command(after_help = ELSEWHERE)]
pub(super) struct Serve {
    /// Where to listen: unix:///PATH, ttrpc+unix:///PATH, tcp://HOST:PORT [default: unix:///run/ocicrypt-kms/kms.sock]
    #[arg(long, value_name = "URI")]
    listen: Vec<String>,
    /// Serve gRPC without TLS on 127.0.0.1; with a HOST, the same as --listen tcp://HOST:PORT
    #[arg(long, value_name = "[HOST]:PORT")]
    grpcport: Option<String>,
    /// The server's certificate chain (PEM), for TCP
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The certificate authorities that issue the certificates of clients (PEM)
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Serve TCP without TLS, to anybody who reaches it
    #[arg(long)]
    insecure_tcp: bool,
    /// Serve Prometheus metrics and a health check by HTTP
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
    /// What logs, on standard error, look like
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// How much is logged [default: info: every exchange]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<Level>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Serve {
    pub fn run(self, options: Options) -> Result<(), Error> {
        if options.debug_log.is_some() {
            let reason = "serve logs to standard error; use --log-level debug".into();
            return Err(Error::Configuration { place: "--debugLog".into(), reason });
        }
        let mut config = options.config()?;
        self.override_settings(&mut config.server)?;
        let settings = config.server.clone();
        settings.check()?;
        let _log = log::start(settings.log_format, settings.log_level)?;
        if config.keys.as_ref().is_some_and(Vec::is_empty) {
            tracing::warn!("`keys` is empty, so that no key is lent; list those that are, or set `policy`, and start anew");
        }
        allow_many_files();
        let metrics = settings.metrics.is_some().then(Metrics::install).transpose()?;
        let provider = options
            .provider_of(config)
            .default_name(DEFAULT_NAME)
            .for_clients()
            .instances(Instances::Pooled(settings.max_exchanges))
            .build()?;
        let server = Server::bind(provider, &settings, metrics)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::Internal { reason: format!("the runtime can't be started: {error}") })?;
        runtime.block_on(serve(server))
    }

    fn override_settings(self, settings: &mut config::Server) -> Result<(), Error> {
        if !self.listen.is_empty() || self.grpcport.is_some() {
            settings.listen = self.listen;
        }
        if let Some(port) = self.grpcport {
            let (address, loopback) = match port.strip_prefix(':') {
                Some(port) => (format!("tcp://127.0.0.1:{port}"), true),
                None => (format!("tcp://{port}"), false),
            };
            settings.listen.push(address);
            // As the original serves it. On an address that others reach it has to be asked for.
            settings.insecure_tcp |= loopback && settings.listen.len() == 1;
        }
        for (setting, flag) in
            [(&mut settings.tls_cert, self.tls_cert), (&mut settings.tls_key, self.tls_key), (&mut settings.client_ca, self.client_ca)]
        {
            *setting = flag.or_else(|| setting.take());
        }
        settings.insecure_tcp |= self.insecure_tcp;
        settings.metrics = self.metrics.or_else(|| settings.metrics.take());
        if let Some(format) = self.log_format {
            settings.log_format = format.into();
        }
        if let Some(level) = self.log_level {
            settings.log_level = level.into();
        }
        Ok(())
    }
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
        }
    }
}

/// Each connection is a file descriptor. What the system allows is often much more than what a process starts with.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it can't be raised, the limit of connections is reached earlier.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

async fn serve(server: Server) -> Result<(), Error> {
    heed_signals(server.control())?;
    for address in server.addresses() {
        tracing::info!(address, "listening");
    }
    if let Some(address) = server.metrics_address() {
        tracing::info!(address = %format_args!("http://{address}/metrics"), "metrics");
    }
    notify(&[NotifyState::Ready]);
    tracing::info!("ready");
    let served = server.serve().await;
    tracing::info!("stopped");
    served
}

/// SIGTERM and SIGINT stop the server, SIGHUP reads files anew.
fn heed_signals(control: Control) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Internal { reason: format!("signals can't be heard: {error}") };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => control.reload(),
            }
        }
        tracing::info!("stopping: no new connections, what is under way may end");
        notify(&[NotifyState::Stopping]);
        control.stop();
    });
    Ok(())
}

/// Tells systemd; without it this does nothing.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(error = error.to_string(), "systemd can't be told");
    }
}
