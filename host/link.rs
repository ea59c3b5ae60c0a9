//! How the program is linked. A container tool starts it once per layer, so that what the loader does counts.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Nothing changes for another machine than this one, and where this one's C library or compiler lacks what it takes.
pub(crate) fn link(out_dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=link.rs");
    let variable = |name| std::env::var(name).unwrap_or_default();
    if variable("TARGET") != variable("HOST") || variable("CARGO_CFG_TARGET_ENV") != "gnu" {
        return Ok(());
    }
    // Half a megabyte of relocations becomes a few kilobytes. Older loaders refuse such a program.
    if c_library_version().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    if let Some(unwinder) = static_unwinder() {
        // The standard library asks for `gcc_s` by name, and a linker script may stand for a library: one fewer to load.
        let folder = out_dir.join("link");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("libgcc_s.so"), format!("INPUT({})\n", unwinder.display()))?;
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    Ok(())
}

/// The version of glibc.
fn c_library_version() -> Option<(u32, u32)> {
    let text = output_of("getconf", "GNU_LIBC_VERSION")?;
    let (major, minor) = text.strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// Where the C compiler, which links, keeps it.
fn static_unwinder() -> Option<PathBuf> {
    let path = PathBuf::from(output_of("cc", "-print-file-name=libgcc_eh.a")?);
    (path.is_absolute() && path.is_file()).then_some(path)
}

fn output_of(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
