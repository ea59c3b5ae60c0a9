//! The component that is built in, and its code.
//!
//! The code is compiled ahead of time and linked into this program's own executable pages: nothing is copied when a process starts, and
//! no page has to be made executable, so that the program also runs where that is forbidden (systemd's `MemoryDenyWriteExecute=`).

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::component::Component;
use wasmtime::{Config, CustomCodeMemory, Engine, Result};

use crate::digest::Digest;

/// The component as a file.
pub const BUILT_IN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/component.wasm"));

/// Its digest, which the build script computed: a process that makes one exchange has no time for it.
pub(super) const DIGEST: Digest = Digest::from_bytes(*include_bytes!(concat!(env!("OUT_DIR"), "/component.sha256")));

const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/component.cwasm"));

/// Aligned as wasmtime aligns the parts within.
#[repr(C, align(4096))]
struct Pages<T>(T);

// SAFETY: this section holds code, and code is what the image holds. Nobody jumps there but wasmtime, by the image's own tables.
#[allow(unsafe_code)]
#[unsafe(link_section = ".text.component")]
static CODE: Pages<[u8; IMAGE.len()]> = Pages(*IMAGE.first_chunk().expect("it is as long as itself"));

/// The code is executable where it is.
struct InPlace;

impl CustomCodeMemory for InPlace {
    fn required_alignment(&self) -> usize {
        1
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }
}

/// An engine and the built-in component in it.
///
/// The first one of a process uses the code where it is. wasmtime knows of one owner of a piece of code, so that any other gets a copy.
pub(super) fn load(mut config: Config) -> Result<(Engine, Component)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let in_place = !TAKEN.swap(true, Ordering::Relaxed);
    if in_place {
        config.with_custom_code_memory(Some(Arc::new(InPlace)));
    }
    let engine = Engine::new(&config)?;
    // SAFETY: these bytes are what `Engine::precompile_component` of the same version of wasmtime wrote in this crate's build script.
    // They are part of this program, live as long as it does, and can't be changed without being able to change its code as well.
    #[allow(unsafe_code)]
    let component = unsafe {
        match in_place {
            true => Component::deserialize_raw(&engine, NonNull::from(&CODE.0)),
            false => Component::deserialize(&engine, CODE.0),
        }
    }?;
    Ok((engine, component))
}
