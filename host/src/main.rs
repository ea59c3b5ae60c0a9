//! The command `ocicrypt-kms`: a key provider for container tools, and what its operators need around it.
// A test makes calls that nothing else does.
#![cfg_attr(not(test), forbid(unsafe_code))]

mod cli;

use std::process::ExitCode;

/// Freed memory is zeroed: what zeroizing types can't reach (buffers of HTTP and JSON, copies at the sandbox's border) holds keys too.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    forbid_core_dumps();
    cli::run(std::env::args_os())
}

/// Memory that holds keys never reaches the disk, nor another process of the same user.
fn forbid_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Neither can fail for a process that only lowers its own limits.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
