//! What is said when the system has no address space for instances.

use rustix::io::Errno;

use super::{Instances, Limits, set_up};
use crate::Error;

/// The settings that bound address space, one of which has to be raised.
const REMEDY: &str = "raise the limit of address space (`ulimit -v`, RLIMIT_AS; `LimitAS` of a systemd unit)";

/// Why an engine can't be made, whose pool reserves all that its instances may use.
pub(super) fn begin(error: &wasmtime::Error, instances: Instances, limits: Limits) -> Error {
    match instances {
        Instances::Pooled(count) if is_exhausted(error) => {
            let reason = format!(
                "the sandboxes of {count} exchanges at a time reserve {} MiB of address space each, which the system does not give: {error:#}; \
                 {REMEDY}, or lower `max-exchanges` below `[server]`",
                mib(limits)
            );
            Error::Internal { reason }
        }
        Instances::Pooled(_) | Instances::OneShot => exhausted(error, limits).unwrap_or_else(|| set_up(error)),
    }
}

/// The error about an instance that the system has no address space for, if it is that.
pub(super) fn exhausted(error: &wasmtime::Error, limits: Limits) -> Option<Error> {
    let reason = || {
        let mib = mib(limits);
        format!("a sandbox reserves {mib} MiB of address space, which the system does not give: {error:#}; {REMEDY}")
    };
    is_exhausted(error).then(|| Error::Internal { reason: reason() })
}

fn is_exhausted(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<Errno>() == Some(&Errno::NOMEM))
}

fn mib(limits: Limits) -> usize {
    limits.memory() >> 20
}
