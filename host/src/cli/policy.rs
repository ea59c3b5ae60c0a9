//! `ocicrypt-kms policy …`: checks, tests and explains policies. Lends no key and calls no KMS.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use ocicrypt_kms::error::printable;
use ocicrypt_kms::key_uri::Addresses;
use ocicrypt_kms::policy::Policy as _;
use ocicrypt_kms::policy::cedar::{Case, CedarPolicy, Explanation, Outcome, Rule, SCHEMA, Table, read_text};
use ocicrypt_kms::{Error, ErrorKind, KeyProvider, shown};

use super::{Options, counted, print};

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Check a policy against the schema
    Check {
        /// The policy's file [default: `policy` in the configuration]
        file: Option<PathBuf>,
        /// Fail also if there are warnings
        #[arg(long)]
        deny_warnings: bool,
    },
    /// Try a table of cases
    Test {
        /// The table's file
        table: PathBuf,
        /// The policy's file [default: `policy` in the table, else in the configuration]
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Show which rules decide on a request, and what they look at
    Explain(Explain),
    /// Print the schema: what policies can speak of
    Schema,
}

#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The policy's file [default: `policy` in the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Who asks: process, anonymous, uid:NUMBER, gid:NUMBER, spiffe://ID, dns:NAME, subject:NAME; repeat it for several names
    #[arg(long, value_name = "NAME", default_value = "process")]
    caller: Vec<String>,
    /// wrap or unwrap
    #[arg(long)]
    operation: String,
    /// The key's URI
    #[arg(long, value_name = "URI")]
    key: String,
    /// Who names the key: parameter, configuration or annotation [default: parameter]
    #[arg(long)]
    origin: Option<String>,
    /// A key that was opened before in the same exchange; repeat it for several
    #[arg(long, value_name = "URI")]
    opened: Vec<String>,
    /// When, as 2026-01-31T12:00:00Z [default: now]
    #[arg(long)]
    time: Option<String>,
}

impl Policy {
    pub(super) fn run(self, options: &Options) -> Result<ExitCode, Error> {
        match self {
            Self::Check { file, deny_warnings } => check(&chosen(file, options)?, deny_warnings),
            Self::Test { table, policy } => test(&table, policy, options),
            Self::Explain(explain) => explain.run(options),
            Self::Schema => print(SCHEMA.as_bytes()).map(|()| ExitCode::SUCCESS),
        }
    }
}

/// The file that was named, else the configured one.
fn chosen(named: Option<PathBuf>, options: &Options) -> Result<PathBuf, Error> {
    let configured = match named {
        Some(file) => Some(file),
        None => options.config()?.policy,
    };
    configured.ok_or_else(|| Error::InvalidInput {
        reason: "no policy was named, and none is configured".into(),
        hint: "name its file, or set `policy` in the configuration".into(),
    })
}

/// Which further addresses key URIs may have, as exchanges with this configuration do.
fn addresses(options: &Options) -> Result<Addresses, Error> {
    KeyProvider::builder(options.config()?).addresses()
}

/// Lists all that is wrong, a line each, as compilers do.
fn check(file: &Path, deny_warnings: bool) -> Result<ExitCode, Error> {
    let text = read_text(file)?;
    let name = shown::path(file);
    let mut report = String::new();
    let good = match CedarPolicy::parse(&text) {
        Err(problems) => {
            add(&mut report, problems.iter().map(|problem| format!("{name}:{problem}")));
            false
        }
        Ok(policy) => {
            let warnings = policy.warnings();
            add(&mut report, warnings.iter().map(|problem| format!("{name}:{}: warning: {}", problem.place, problem.message)));
            let good = warnings.is_empty() || !deny_warnings;
            add(&mut report, [format!("{name}: {}", if good { passed(&policy) } else { counted(warnings.len() as u64, "warning") })]);
            good
        }
    };
    print(report.as_bytes())?;
    Ok(if good { ExitCode::SUCCESS } else { ErrorKind::InvalidInput.exit_code().into() })
}

/// How much was checked, and the digest by which logs and audit records name it.
fn passed(policy: &CedarPolicy) -> String {
    let digest = policy.digest().map(|digest| format!(", sha256 {digest}")).unwrap_or_default();
    format!("ok, {}{digest}", counted(policy.rules().len() as u64, "rule"))
}

/// Tells of each case that comes out otherwise than it should.
fn test(table: &Path, policy: Option<PathBuf>, options: &Options) -> Result<ExitCode, Error> {
    let Table { policy: tables, cases } = Table::read(table)?;
    let policy = CedarPolicy::read(&chosen(policy.or(tables), options)?)?;
    let addresses = addresses(options)?;
    let failed = |case: &Case| case.check(&policy, &addresses).err().map(|reason| format!("FAILED {}: {reason}", case.name));
    let failures: Vec<_> = cases.iter().filter_map(failed).collect();
    let mut report = String::new();
    add(&mut report, failures.iter().cloned());
    add(&mut report, [format!("{}: {}, {} failed", shown::path(table), counted(cases.len() as u64, "case"), failures.len())]);
    print(report.as_bytes())?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Explain {
    fn run(self, options: &Options) -> Result<ExitCode, Error> {
        let file = chosen(self.policy.clone(), options)?;
        let policy = CedarPolicy::read(&file)?;
        let wrong = |reason: String| Error::InvalidInput { reason, hint: "see `ocicrypt-kms policy explain --help`".into() };
        let situation = self.case(options).situation(&addresses(options)?).map_err(wrong)?;
        let explanation = policy.explain(&situation.request()).map_err(wrong)?;
        print(report(&file, &explanation).as_bytes())?;
        let denied = explanation.decision.is_err().then(|| ErrorKind::Denied.exit_code());
        Ok(denied.unwrap_or_default().into())
    }

    fn case(self, options: &Options) -> Case {
        let Self { caller, operation, key, origin, opened, time, .. } = self;
        let (provider, component) = (options.provider.clone(), options.component_sha256.map(|digest| digest.to_string()));
        Case { caller, operation, key, origin, component, opened, time, provider, ..Case::default() }
    }
}

fn report(file: &Path, explanation: &Explanation) -> String {
    let mut report = String::new();
    add(
        &mut report,
        [match &explanation.decision {
            Ok(_) => "allowed".to_owned(),
            Err(denial) => format!("denied: {}; {}", denial.reason, denial.hint),
        }],
    );
    let line = |(rule, outcome): &(Rule, Outcome)| {
        let says = match (outcome, rule.forbids) {
            (Outcome::Applies, true) => "forbids".to_owned(),
            (Outcome::Applies, false) => "permits".to_owned(),
            (Outcome::DoesNotApply, _) => "does not apply".to_owned(),
            (Outcome::Fails(error), _) => format!("can't be evaluated, which denies: {error}"),
        };
        format!("{}:{}: {rule} {says}", shown::path(file), rule.place)
    };
    add(&mut report, explanation.rules.iter().map(line));
    add(&mut report, explanation.question.lines().map(str::to_owned));
    report
}

fn add(report: &mut String, lines: impl IntoIterator<Item = String>) {
    for line in lines {
        // What a line quotes may be indented, and mostly comes from outside.
        let indent = &line[..line.len() - line.trim_start_matches(' ').len()];
        writeln!(report, "{indent}{}", printable(&line, 4096)).expect("a string can be written");
    }
}
