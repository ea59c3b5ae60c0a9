//! The file that container tools read, and in it the entry for this provider: a program to start, or a service.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ocicrypt_kms::error::printable;
use ocicrypt_kms::{Environment, shown};
use serde_json::Value;

use super::members::{get, refused, unknown};
use super::reach::{Protocol, Target};
use super::report::{Finding, Report};
use super::{grpc_tls, program};

/// The variable by which container tools find the file.
const VARIABLE: &str = "OCICRYPT_KEYPROVIDER_CONFIG";
/// What the report calls the file.
const FILE: &str = "ocicrypt.json";
/// The most bytes of it that are read.
const MAX_LENGTH: u64 = 1 << 20;
/// How many entries are named where the right one is missing.
const MAX_NAMES: usize = 8;

/// Checks the file and its entry of this name, and tells whether that is a service. A machine that `serves` may well have no container tools.
pub(super) fn check(report: &mut Report, name: &str, serves: bool) -> bool {
    let Some(path) = Environment::process().get(VARIABLE).map(PathBuf::from) else {
        report.add(FILE, unset(name, serves));
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
    let providers = get(&file, "key-providers");
    if let Err(problem) = refused(providers) {
        report.add(FILE, Finding::Problem(at(problem)));
        return false;
    }
    let way = Way::of(providers, name);
    let is_service = matches!(way, Ok(Way::Service { .. }));
    match way {
        Err(problem) => report.add(FILE, Finding::Problem(at(problem))),
        Ok(Way::Program { command, arguments }) => report.add(FILE, started(name, command, &arguments).map(at).map_err(at)),
        Ok(Way::Service { protocol, address, tls }) => {
            report.add(FILE, service(name, protocol, address, tls).map(at));
            if !tls.is_null() {
                report.add("grpc-tls", grpc_tls::check(tls));
            }
        }
    }
    if let Err(problem) = unknown(&providers[name]) {
        report.add("entry in ocicrypt.json", Finding::Problem(problem));
    }
    is_service
}

fn unset(name: &str, serves: bool) -> Finding {
    if serves {
        let note = format!("{VARIABLE} is not set: container tools would find no key provider, and a machine that only serves needs none");
        return Finding::Note(note);
    }
    let entry = serde_json::json!({"key-providers": {name: {"cmd": {"path": "ocicrypt-kms"}}}});
    Finding::Problem(format!(
        "{VARIABLE} is not set, so container tools find no key provider; write the file and name it: \
         echo '{entry}' > ~/ocicrypt.json; export {VARIABLE}=~/ocicrypt.json"
    ))
}

fn read(path: &Path) -> Result<Value, String> {
    let mut text = Vec::new();
    let missing = |error: std::io::Error| format!("{error}; name the file in {VARIABLE}, which this user has to be able to read");
    let file = File::open(path).map_err(missing)?;
    let length = file.take(MAX_LENGTH + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if length as u64 > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    let no_json = |error: serde_json::Error| {
        format!("it is not JSON (line {}); see where: python3 -m json.tool < {}", error.line(), shown::path(path))
    };
    serde_json::from_slice(&text).map_err(no_json)
}

/// How clients reach a provider.
enum Way<'a> {
    /// They start it.
    Program { command: &'a str, arguments: Vec<&'a str> },
    /// They connect to it. `tls` is null if the entry has no such member, or one that no client of this protocol looks at.
    Service { protocol: Protocol, address: &'a str, tls: &'a Value },
}

impl<'a> Way<'a> {
    /// The way that an entry says; of several, the one that clients take.
    fn of(providers: &'a Value, name: &str) -> Result<Self, String> {
        let entry = providers.get(name).ok_or_else(|| no_entry(providers, name))?;
        let address = |way: &str| get(entry, way).as_str().filter(|address| !address.is_empty());
        let cmd = get(entry, "cmd");
        if !cmd.is_null() {
            let command = get(cmd, "path").as_str().filter(|path| !path.is_empty());
            let command = command.ok_or_else(|| format!("`cmd` of the entry `{name}` has no `path`; write \"path\": \"ocicrypt-kms\""))?;
            let arguments = get(cmd, "args").as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            return Ok(Self::Program { command, arguments });
        }
        match (address("grpc"), address("ttrpc")) {
            (Some(address), _) => Ok(Self::Service { protocol: Protocol::Grpc, address, tls: get(entry, "grpc-tls") }),
            (None, Some(address)) => Ok(Self::Service { protocol: Protocol::Ttrpc, address, tls: &Value::Null }),
            (None, None) => {
                Err(format!("the entry `{name}` has none of `cmd`, `grpc` and `ttrpc`; write \"cmd\": {{\"path\": \"ocicrypt-kms\"}}"))
            }
        }
    }
}

fn no_entry(providers: &Value, name: &str) -> String {
    let names: Vec<_> = providers.as_object().into_iter().flat_map(|entries| entries.keys()).collect();
    let shown = names.iter().take(MAX_NAMES).map(|name| format!("`{}`", printable(name, 64))).collect::<Vec<_>>().join(", ");
    let more = match names.len() {
        0 => {
            return format!(
                "it has no entry for the provider `{name}`, nor for another; add to its `key-providers`: {{\"{name}\": {{\"cmd\": {{\"path\": \"ocicrypt-kms\"}}}}}}"
            );
        }
        count if count > MAX_NAMES => format!(" and {} more", count - MAX_NAMES),
        _ => String::new(),
    };
    let remedy = "if one of them is this program, clients name it so, and here it is: ocicrypt-kms --provider NAME doctor";
    format!("it has no entry for the provider `{name}`; its entries: {shown}{more}; {remedy}")
}

/// A program that clients start, with these arguments.
fn started(name: &str, command: &str, arguments: &[&str]) -> Result<String, String> {
    let program = program::find(command).map_err(|problem| format!("`{name}` is {problem}"))?;
    let is = format!("`{name}` is {}", shown::path(&program));
    let answers = program::check(&program, arguments).map_err(|problem| format!("{is}: {problem}"))?;
    match named(arguments) {
        Some(other) if other != name => {
            let other = printable(other, 64);
            Err(format!(
                "{is}, whose `args` call it `{other}`, so that it passes over what clients give `{name}`; write \"--provider\", \"{name}\""
            ))
        }
        _ => Ok(format!("{is}, {answers}; {}", usage(name))),
    }
}

/// The provider's name in the arguments of an entry.
fn named<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let after = |(index, argument): (usize, &&'a str)| match argument.strip_prefix("--provider")? {
        "" => arguments.get(index + 1).copied(),
        rest => rest.strip_prefix('='),
    };
    arguments.iter().enumerate().find_map(after)
}

/// Clients find an entry by nothing but its name.
fn usage(name: &str) -> String {
    format!("clients find it as --encryption-key provider:{name}:KEY_URI and --decryption-key provider:{name}, and by no other name")
}

fn service(name: &str, protocol: Protocol, address: &str, tls: &Value) -> Finding {
    let service = format!("`{name}` is the service at {} by {}", printable(address, 256), protocol.name());
    let Some(target) = Target::of(protocol, address) else {
        return match path_without_scheme(address) {
            Some(path) => Finding::Problem(format!(
                "{service}, and clients take that for a host's name; write \"{}\": \"unix://{}\"",
                protocol.name(),
                printable(&path.to_string_lossy(), 256)
            )),
            None => Finding::Note(format!("{service}; not tried, since what this form of an address leads to can't be told here")),
        };
    };
    match target.try_it() {
        Ok(()) if tls.is_null() && target.is_tcp() => {
            Finding::Good(format!("{service}; somebody listens there, and clients use no TLS; {}", usage(name)))
        }
        Ok(()) => Finding::Good(format!("{service}; somebody listens there; {}", usage(name))),
        Err(error) => Finding::Problem(format!("{service}, and {}", target.explain(protocol, &error))),
    }
}

/// The path that an address is which names nothing but a path, or one of a socket in the folder where this was started.
fn path_without_scheme(address: &str) -> Option<PathBuf> {
    let is_path = address.starts_with(['/', '.']) || (address.ends_with(".sock") && !address.contains(':'));
    is_path.then(|| std::path::absolute(address).ok()).flatten()
}
