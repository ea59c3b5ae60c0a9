//! WASI with nothing in it, for components of other languages: their standard libraries import files, sockets, environment and clocks whether
//! or not they are used.
//!
//! There are no files, no environment, no arguments; standard input is at its end, and what is written to standard output and error is thrown
//! away; no address can be reached and no name looked up; clocks stand still at 1970-01-01. Random numbers are real.

use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::Linker;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use super::state::State;
use crate::embedding::MAX_RANDOM;

/// Links a guest to an empty WASI 0.2.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    // The world's own `wasi:random/random` takes the place of the one in here.
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Made when a guest first asks for something: many import WASI and never call it.
        WasiCtxView { ctx: self.wasi.get_or_insert_with(|| Box::new(nothing())), table: &mut self.resources }
    }
}

/// Said in full, although most of it is what the library does by default.
fn nothing() -> WasiCtx {
    let mut wasi = WasiCtx::builder();
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    wasi.socket_addr_check(|_, _| Box::pin(async { false }));
    wasi.wall_clock(Stopped).monotonic_clock(Stopped).max_random_size(MAX_RANDOM);
    wasi.build()
}

/// A clock that stands still: how long the host and a KMS take is nothing to a guest.
struct Stopped;

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}
