//! The command line: arguments in, one exit code out. What happens is in the library.

mod audit;
mod component;
mod debug_log;
mod doctor;
mod exec;
#[cfg(feature = "hardening")]
mod harden;
mod image;
mod inspect;
mod keygen;
#[cfg(feature = "server")]
mod log;
#[cfg(feature = "cedar")]
mod policy;
mod public;
#[cfg(feature = "server")]
mod serve;

use std::ffi::OsString;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use ocicrypt_kms::error::printable;
use ocicrypt_kms::{Builder, Config, Digest, Environment, Error, ErrorKind, KeyProvider};

/// A key provider for encrypted container images.
///
/// Without a command, it makes one exchange of the ocicrypt key provider protocol on standard input and output: container tools start it
/// so, by way of an entry in ocicrypt.json.
#[derive(Debug, Default, Parser)]
#[command(name = "ocicrypt-kms", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command that uses keys needs to know.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Options {
    /// Name of this provider in ocicrypt.json [default: the parameter that holds key URIs]
    #[arg(long, value_name = "NAME", global = true)]
    provider: Option<String>,
    /// Configuration file [default: $OCICRYPT_KMS_CONFIG, the user's, /etc/ocicrypt-kms/config.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Google credential file, in place of Application Default Credentials
    #[arg(long, value_name = "FILE", global = true)]
    adc: Option<PathBuf>,
    /// The one key to use, whatever the client names
    #[arg(long = "kmsURI", value_name = "URI", global = true)]
    kms_uri: Option<String>,
    /// Another component than the built-in one; it can publish the keys that it wraps
    #[arg(long, value_name = "FILE", global = true)]
    component: Option<PathBuf>,
    /// The component's SHA-256 digest, without which another one than the built-in isn't run
    #[arg(long, value_name = "HEX", global = true)]
    component_sha256: Option<Digest>,
    /// Append what happens, without secrets, to a file
    #[arg(long = "debugLog", value_name = "FILE", global = true)]
    debug_log: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a key in the local keystore
    Keygen(keygen::Keygen),
    /// Print the public half of a local key, for machines that wrap and must not unwrap
    Public(public::Public),
    /// List an image's wrapped keys and whom they are for; needs no key
    Inspect(inspect::Inspect),
    /// Serve gRPC and ttrpc to container tools
    #[cfg(feature = "server")]
    Serve(serve::Serve),
    /// Read, check, rotate and sign the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Check, test and explain policies
    #[cfg(feature = "cedar")]
    #[command(subcommand)]
    Policy(policy::Policy),
    /// What a component is and what it could reach
    Component(component::Component),
    /// Check the set-up, and with a key URI try to wrap and unwrap with that key
    Doctor(doctor::Doctor),
}

/// Runs the program.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.map(two_dashes).collect();
    let arguments = match arguments.len() {
        // Container tools mostly give none, and to prepare for what might be given takes longer than an exchange.
        0 | 1 => Arguments::default(),
        _ => match Arguments::try_parse_from(arguments) {
            Ok(arguments) => arguments,
            Err(error) => return usage(&error),
        },
    };
    std::panic::set_hook(Box::new(log_panic));
    match outcome(|| execute(arguments)) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.line());
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// What a command came to. One that panicked has a line and an exit code like any that failed.
fn outcome(command: impl FnOnce() -> Result<ExitCode, Error>) -> Result<ExitCode, Error> {
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|_| Err(Error::defect()))
}

/// Logs where it was, and not what it says, which may hold anything.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, thread = std::thread::current().name(), "a panic, which ends what it happened in; please report it");
}

/// Help and version as clap prints them; a mistake as one line, since container tools show it to people inside a line of theirs.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = without_values(error);
    // The first paragraph: what is wrong, and below it what would be right.
    let what = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let what = what.trim_start_matches("error: ");
    complain(&format!("{}; see `ocicrypt-kms --help`", printable(what, 512)));
    ExitCode::from(ErrorKind::InvalidInput.exit_code())
}

/// What clap says, without the values that somebody gave: a secret in place of a file, an option that is missing before it.
fn without_values(error: &clap::Error) -> String {
    let given = |kind: ContextKind| match kind {
        ContextKind::InvalidValue | ContextKind::InvalidSubcommand => true,
        ContextKind::InvalidArg => error.kind() == clap::error::ErrorKind::UnknownArgument,
        _ => false,
    };
    let plain = |text: &str| text.len() <= 32 && ocicrypt_kms::shown::name(text).is_harmless();
    error.context().fold(error.to_string(), |text, (kind, value)| match value {
        ContextValue::String(value) if given(kind) && !value.is_empty() && !plain(value) => {
            text.replace(&format!("'{value}'"), "(not shown)")
        }
        _ => text,
    })
}

fn execute(Arguments { options, command }: Arguments) -> Result<ExitCode, Error> {
    debug_log::start(options.debug_log.as_deref())?;
    match command {
        None => exec::run(options).map(|()| ExitCode::SUCCESS),
        Some(Command::Keygen(keygen)) => keygen.run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Public(public)) => public.run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Component(component)) => component.run().map(|()| ExitCode::SUCCESS),
        Some(Command::Inspect(inspect)) => inspect.run(options).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "server")]
        Some(Command::Serve(serve)) => serve.run(options).map(|()| ExitCode::SUCCESS),
        Some(Command::Audit(command)) => command.run(&options),
        #[cfg(feature = "cedar")]
        Some(Command::Policy(policy)) => policy.run(&options),
        Some(Command::Doctor(doctor)) => doctor.run(options),
    }
}

/// The original's flags could be written with one dash, as Go's are; existing ocicrypt.json files may do so.
fn two_dashes(argument: OsString) -> OsString {
    const ORIGINAL: [&str; 4] = ["adc", "kmsURI", "debugLog", "grpcport"];
    let one_dash = |text: &str| {
        let name = text.strip_prefix('-')?.split('=').next()?;
        ORIGINAL.contains(&name).then(|| format!("-{text}").into())
    };
    argument.to_str().and_then(one_dash).unwrap_or(argument)
}

impl Options {
    fn config(&self) -> Result<Config, Error> {
        Ok(self.over(Config::load(self.config.as_deref(), &Environment::process())?))
    }

    /// The configuration file, if there is one.
    fn config_file(&self) -> Result<Option<PathBuf>, Error> {
        Config::locate(self.config.as_deref(), &Environment::process())
    }

    /// The configuration with what the command line says in its place.
    fn over(&self, mut config: Config) -> Config {
        let component = &mut config.component;
        component.file = self.component.clone().or_else(|| component.file.take());
        component.sha256 = self.component_sha256.or(component.sha256);
        config
    }

    fn provider(self) -> Result<Builder, Error> {
        let config = self.config()?;
        Ok(self.provider_of(config))
    }

    fn provider_of(self, config: Config) -> Builder {
        KeyProvider::builder(config).name(self.provider).key(self.kms_uri).credentials(self.adc)
    }
}

/// Runs a future to its end. One thread is enough for one exchange, and a clock, if no service is reached by a `network`.
fn block_on<T>(network: bool, future: impl Future<Output = T>) -> Result<T, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = if network { builder.enable_all() } else { builder.enable_time() }.build();
    let runtime = runtime.map_err(|error| Error::Internal { reason: format!("the runtime can't be started: {error}") })?;
    Ok(runtime.block_on(future))
}

/// Writes a line to standard error.
fn complain(line: &str) {
    // If standard error is gone, so is whoever wanted to know.
    let _ = writeln!(std::io::stderr(), "ocicrypt-kms: {line}");
}

/// Writes to standard output, all or an error.
fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|error| Error::Internal { reason: format!("the answer can't be written: {error}") })
}

/// A number of things: `1 rule`, `2 rules`.
fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_command_that_panics_has_one_line_without_what_it_said_and_an_exit_code() {
        let error = outcome(|| panic!("a secret")).unwrap_err();
        let line = error.line();
        assert!(line.contains("a defect of this program") && !line.contains("a secret") && !line.contains('\n'), "{line}");
        assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Internal, 1));
        assert!(outcome(|| Ok(ExitCode::SUCCESS)).is_ok());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_arguments_are_read_as_the_parser_reads_them() {
        assert_eq!(format!("{:?}", Arguments::default()), format!("{:?}", Arguments::parse_from(["ocicrypt-kms"])));
    }

    #[test]
    fn the_options_of_every_command_stand_behind_a_commands_own_ones() {
        let mut command = Arguments::command();
        command.build();
        for command in command.get_subcommands_mut() {
            let help = command.render_help().to_string();
            let (own, every) = help.split_once("Options of every command:").unwrap();
            for option in ["--provider ", "--config ", "--adc ", "--kmsURI ", "--component ", "--component-sha256 ", "--debugLog "] {
                assert!(!own.contains(option) && every.contains(option), "{option}: {help}");
            }
            assert!(!every.contains("--help"), "{help}");
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn the_help_of_serve_says_where_the_other_settings_are() {
        let mut command = Arguments::command();
        let help = command.find_subcommand_mut("serve").unwrap().render_help().to_string();
        for says in ["`[server]` in the configuration", "docs/configuration.md", "group", "max-exchanges", "drain-seconds"] {
            assert!(help.contains(says), "{says}: {help}");
        }
    }

    #[test]
    fn the_originals_flags_may_have_one_dash() {
        let arguments = ["ocicrypt-kms", "-adc", "a.json", "-kmsURI=gcpkms://k", "--debugLog", "log"].map(OsString::from);
        let options = Arguments::try_parse_from(arguments.into_iter().map(two_dashes)).unwrap().options;
        assert_eq!(options.adc, Some("a.json".into()));
        assert_eq!(options.kms_uri.as_deref(), Some("gcpkms://k"));
        assert_eq!(options.debug_log, Some("log".into()));
    }
}
