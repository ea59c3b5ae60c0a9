//! How components are compiled and run. Shared with the build script, which compiles ahead of time: both must agree.

/// The most bytes of the built-in component's memories, and the address space that each of them reserves. Code that is compiled ahead of time
/// carries the size: so it is one for the process of one exchange, which may have little (`ulimit -v`), and for each place of a pool.
pub(crate) const MEMORY: usize = 64 << 20;
/// Inaccessible bytes before and behind a memory. Compiled code checks each access, and counts on these for small offsets.
const GUARD: u64 = 64 << 10;

/// Everything that compiled code depends on. Nothing that the built-in component doesn't need is on.
pub(crate) fn engine_config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    // Without a reservation of 4 GiB, which spares these checks and which many systems don't have: an address space of 39 bits holds 128 of them.
    config.memory_reservation(MEMORY as u64);
    config.memory_guard_size(GUARD);
    // None outgrows what it has reserved.
    config.memory_may_move(false);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    // Its data is small: to copy it takes less than to make a file in memory of it, and to map that.
    config.memory_init_cow(false);
    config
}
