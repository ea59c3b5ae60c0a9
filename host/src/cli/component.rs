//! `ocicrypt-kms component info [FILE]`: what a component is, what it could reach, and how this program would run it.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Subcommand;
use ocicrypt_kms::component::{Info, read};
use ocicrypt_kms::error::printable;
use ocicrypt_kms::sandbox::BUILT_IN;
use ocicrypt_kms::{Error, shown};
use serde_json::json;

use super::print;

#[derive(Debug, clap::Args)]
pub(super) struct Component {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a component's digest, imports and exports, and what it could reach; runs nothing of it
    Info(ComponentInfo),
}

#[derive(Debug, clap::Args)]
struct ComponentInfo {
    /// The component's file [default: the built-in component]
    file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Component {
    pub(super) fn run(self) -> Result<(), Error> {
        let Command::Info(ComponentInfo { file, json }) = self.command;
        let (name, bytes) = match &file {
            None => ("the built-in component".into(), BUILT_IN.to_vec()),
            Some(file) => (printable(&shown::path(file).to_string(), 1024), read(file)?),
        };
        let info = Info::of(&bytes).map_err(|error| Error::InvalidInput {
            reason: format!("{name}: {error}"),
            hint: "a component is what wit-component, componentize-py and their like write".into(),
        })?;
        let text = if json { as_json(&info, &name) } else { as_text(&info, &name) };
        print(text.as_bytes())
    }
}

/// What one adds to the command line for this program to run it, or why it doesn't.
fn flags(info: &Info, name: &str) -> Result<Vec<String>, String> {
    info.fits()?;
    match (info.is_built_in(), cfg!(feature = "compile")) {
        (true, _) => Ok(Vec::new()),
        (false, true) => Ok(["--component", name, "--component-sha256", &info.digest.to_string()].map(str::to_owned).into()),
        (false, false) => {
            Err("this build runs only the built-in component; build one with `cargo build --release --features compile`".into())
        }
    }
}

fn as_text(info: &Info, name: &str) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string can be written");
    line(name.to_owned());
    line(format!("  SHA-256   {}", info.digest));
    line(format!("  size      {} bytes", info.length));
    line(format!("  built in  {}", if info.is_built_in() { "yes: it is the component of this program" } else { "no" }));
    info.producers.iter().for_each(|producer| line(format!("  made by   {producer}")));
    info.exports.iter().for_each(|export| line(format!("  exports   {export}")));
    for import in &info.imports {
        line(format!("  imports   {}: {}", import.name, import.reach.unwrap_or("unknown to this program")));
    }
    line(match flags(info, name) {
        Ok(flags) if flags.is_empty() => "  runs      yes, without further flags".into(),
        Ok(flags) => format!("  runs      yes, with {}; whoever adds them lets it publish the keys that it wraps", flags.join(" ")),
        Err(reason) => format!("  runs      no: {reason}"),
    });
    text
}

fn as_json(info: &Info, name: &str) -> String {
    let imports: Vec<_> = info.imports.iter().map(|import| json!({ "name": import.name, "reach": import.reach })).collect();
    let (flags, reason) = match flags(info, name) {
        Ok(flags) => (Some(flags), None),
        Err(reason) => (None, Some(reason)),
    };
    let members = json!({
        "component": name,
        "sha256": info.digest.to_string(),
        "bytes": info.length,
        "built-in": info.is_built_in(),
        "producers": info.producers,
        "exports": info.exports,
        "imports": imports,
        "runs": flags.is_some(),
        "flags": flags,
        "reason": reason,
    });
    format!("{members:#}\n")
}
