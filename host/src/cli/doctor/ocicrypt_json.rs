//! The file that container tools read, and in it the entry for this provider: a program to start, or a service.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ocicrypt_kms::error::printable;
use ocicrypt_kms::{Environment, shown};
use serde_json::Value;

use super::grpc_tls;
use super::reach::{Protocol, Target};
use super::report::{Finding, Report};

/// The variable by which container tools find the file.
const VARIABLE: &str = "OCICRYPT_KEYPROVIDER_CONFIG";
/// What the report calls the file.
const FILE: &str = "ocicrypt.json";
/// The most bytes of it that are read.
const MAX_LENGTH: u64 = 1 << 20;
/// What clients know of an entry: those of Go `cmd`, `grpc` and `grpc-tls`, ocicrypt-rs all but the last.
const MEMBERS: [&str; 5] = ["cmd", "grpc", "grpc-tls", "ttrpc", "native"];
/// How many entries are named where the right one is missing.
const MAX_NAMES: usize = 8;

/// Checks the file and its entry of this name, and tells whether that is a service. A machine that `serves` may well have no container tools.
pub(super) fn check(report: &mut Report, name: &str, serves: bool) -> bool {
    let Some(path) = Environment::process().get(VARIABLE).map(PathBuf::from) else {
        report.add(FILE, unset(serves));
        return false;
    };
    let at = |text: String| format!("{}: {text}", shown::path(&path));
    let file = match read(&path) {
        Ok(file) => file,
        Err(problem) => {
            report.add(FILE, Finding::Problem(at(problem)));
            return false;
        }
    };
    let way = Way::of(&file["key-providers"], name);
    let is_service = matches!(way, Ok(Way::Service { .. }));
    match way {
        Err(problem) => report.add(FILE, Finding::Problem(at(problem))),
        Ok(Way::Program(command)) => report.add(FILE, program(name, command).map(at).map_err(at)),
        Ok(Way::Service { protocol, address, tls }) => {
            report.add(FILE, service(name, protocol, address, tls).map(at));
            if !tls.is_null() {
                report.add("grpc-tls", grpc_tls::check(tls));
            }
        }
    }
    if let Err(problem) = members(&file["key-providers"][name]) {
        report.add("entry in ocicrypt.json", Finding::Problem(problem));
    }
    is_service
}

/// Whether all that an entry says is known to clients, which pass over what isn't.
fn members(entry: &Value) -> Result<(), String> {
    let mut names = entry.as_object().into_iter().flat_map(|members| members.keys());
    // Go's JSON doesn't mind the case.
    let unknown = names.find(|name| !MEMBERS.iter().any(|known| known.eq_ignore_ascii_case(name)));
    unknown.map_or(Ok(()), |name| {
        let name = printable(name, 64);
        Err(format!("`{name}` is none of its members, so that clients pass over it; they are {}", MEMBERS.join(", ")))
    })
}

fn unset(serves: bool) -> Finding {
    match serves {
        true => Finding::Note(format!(
            "{VARIABLE} is not set: container tools would find no key provider, and a machine that only serves needs none"
        )),
        false => Finding::Problem(format!("{VARIABLE} is not set, so container tools find no key provider")),
    }
}

fn read(path: &Path) -> Result<Value, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.take(MAX_LENGTH + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    match length as u64 > MAX_LENGTH {
        true => Err(format!("it is longer than {MAX_LENGTH} bytes")),
        false => serde_json::from_slice(&text).map_err(|error| format!("it is not JSON (line {})", error.line())),
    }
}

/// How clients reach a provider.
enum Way<'a> {
    /// They start it.
    Program(&'a str),
    /// They connect to it. `tls` is null if the entry has no such member, or one that no client of this protocol looks at.
    Service { protocol: Protocol, address: &'a str, tls: &'a Value },
}

impl<'a> Way<'a> {
    /// The way that an entry says; of several, the one that clients take.
    fn of(providers: &'a Value, name: &str) -> Result<Self, String> {
        let entry = providers.get(name).ok_or_else(|| no_entry(providers, name))?;
        let address = |way: &str| entry[way].as_str().filter(|address| !address.is_empty());
        if !entry["cmd"].is_null() {
            let path = entry["cmd"]["path"].as_str().map(Self::Program);
            return path.ok_or_else(|| format!("`cmd` of the entry `{name}` has no `path`"));
        }
        match (address("grpc"), address("ttrpc")) {
            (Some(address), _) => Ok(Self::Service { protocol: Protocol::Grpc, address, tls: &entry["grpc-tls"] }),
            (None, Some(address)) => Ok(Self::Service { protocol: Protocol::Ttrpc, address, tls: &Value::Null }),
            (None, None) => Err(format!("the entry `{name}` has none of `cmd`, `grpc` and `ttrpc`")),
        }
    }
}

fn no_entry(providers: &Value, name: &str) -> String {
    let names: Vec<_> = providers.as_object().into_iter().flat_map(|entries| entries.keys()).collect();
    let shown = names.iter().take(MAX_NAMES).map(|name| format!("`{}`", printable(name, 64))).collect::<Vec<_>>().join(", ");
    let more = match names.len() {
        0 => return format!("it has no entry for the provider `{name}`, nor for another; add one to its `key-providers`"),
        count if count > MAX_NAMES => format!(" and {} more", count - MAX_NAMES),
        _ => String::new(),
    };
    let remedy = "if one of them is this program, name it with `--provider NAME`, or with `provider` in the configuration";
    format!("it has no entry for the provider `{name}`; its entries: {shown}{more}; {remedy}")
}

fn program(name: &str, command: &str) -> Result<String, String> {
    let shown = shown::path(command);
    match find(command) {
        Some(program) => Ok(format!("`{name}` is {}", shown::path(&program))),
        None if command.contains('/') => Err(format!("`{name}` is {shown}, which is no program that can be started")),
        None => Err(format!("`{name}` is {shown}, which is in no folder of PATH; write its whole path there, or install it")),
    }
}

/// The program that a command is: itself if it is a path, else the first one in `PATH`, as clients look for it.
fn find(command: &str) -> Option<PathBuf> {
    let candidates: Vec<_> = match command.contains('/') {
        true => vec![PathBuf::from(command)],
        false => std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(command)).collect(),
    };
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
    candidates.into_iter().find(is_program)
}

fn service(name: &str, protocol: Protocol, address: &str, tls: &Value) -> Finding {
    let service = format!("`{name}` is the service at {} by {}", printable(address, 256), protocol.name());
    let Some(target) = Target::of(protocol, address) else {
        return Finding::Note(format!("{service}; not tried, since what this form of an address leads to can't be told here"));
    };
    match target.try_it() {
        Ok(()) if tls.is_null() && target.is_tcp() => Finding::Good(format!("{service}; somebody listens there, and clients use no TLS")),
        Ok(()) => Finding::Good(format!("{service}; somebody listens there")),
        Err(error) => Finding::Problem(format!("{service}, and {}", target.explain(protocol, &error))),
    }
}
