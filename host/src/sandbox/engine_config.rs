//! How components are compiled and run. Shared with the build script, which compiles ahead of time: both must agree.

/// Everything that compiled code depends on. Nothing that the built-in component doesn't need is on.
pub(crate) fn engine_config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    // Its data is small: to copy it takes less than to make a file in memory of it, and to map that.
    config.memory_init_cow(false);
    config
}
