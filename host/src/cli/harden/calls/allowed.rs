//! What an exchange with local keys does: all that is left of the system then.
//!
//! Found with `strace` for each kind of key, with and without a policy and an audit log; and what C libraries and runtimes call instead
//! where they are older, newer or in trouble. None of these starts a program, reaches another process or makes memory executable.

use seccompiler::BackendError;

use super::Condition::{Is, Lacks, Masked, Null};
use super::{Calls, Conditions, bits};
use crate::cli::harden::Records;

const MEMORY: &[i64] = &[libc::SYS_brk, libc::SYS_madvise, libc::SYS_membarrier, libc::SYS_mremap, libc::SYS_munmap];

const THREADS_AND_SIGNALS: &[i64] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

const TIME_AND_CHANCE: &[i64] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

const WHO_AND_WHERE: &[i64] = &[
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

const FILES: &[i64] = &[
    libc::SYS_close,
    libc::SYS_faccessat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// An audit log is made, and moved away when it has grown.
const WRITING_FILES: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// The system's logs take datagrams. No socket connects, so that none can be had to a service.
const DATAGRAMS: &[i64] = &[libc::SYS_sendto, libc::SYS_setsockopt];

/// A thread, as C libraries make it; musl adds a flag that means nothing. A thread shares all namespaces.
const THREAD: u32 = bits(
    libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID,
);

/// The flags of an `open` that can change anything. (`O_TMPFILE` has to be opened for writing.)
const WRITING: u32 = bits(libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC);

const CONDITIONAL: &[(i64, &[Conditions<'_>])] = &[
    (libc::SYS_clone, &[&[Masked(0, !bits(libc::CLONE_DETACHED), THREAD)]]),
    (
        libc::SYS_fcntl,
        &[
            &[Is(1, bits(libc::F_DUPFD_CLOEXEC))],
            &[Is(1, bits(libc::F_GETFD))],
            &[Is(1, bits(libc::F_GETFL))],
            &[Is(1, bits(libc::F_SETFD))],
            // Signals to other processes need `O_ASYNC`, and an owner, which is another command.
            &[Is(1, bits(libc::F_SETFL))],
        ],
    ),
    // Whether it is a terminal, and whether to wait for it. (Never is what a terminal is sent put into its input.)
    (libc::SYS_ioctl, &[&[Is(1, TCGETS)], &[Is(1, TCGETS2)], &[Is(1, FIONBIO)]]),
    (libc::SYS_mmap, &[&[Lacks(2, bits(libc::PROT_EXEC))]]),
    (libc::SYS_mprotect, &[&[Lacks(2, bits(libc::PROT_EXEC))]]),
    (libc::SYS_prctl, &[&[Is(0, bits(libc::PR_SET_NAME))]]),
    // Limits are looked at, not set.
    (libc::SYS_prlimit64, &[&[Null(2)]]),
];

// The C libraries don't agree on their type.
const TCGETS: u32 = 0x5401;
const TCGETS2: u32 = 0x802C_542A;
const FIONBIO: u32 = 0x5421;
const SOCK_TYPE_MASK: u32 = 0xF;

/// The calls, on the conditions on which they are allowed.
pub(super) fn calls(records: &Records) -> Result<Calls, BackendError> {
    let lists = [MEMORY, THREADS_AND_SIGNALS, TIME_AND_CHANCE, WHO_AND_WHERE, FILES];
    let mut calls = Calls { always: lists.concat(), ..Calls::default() };
    for (call, any_of) in CONDITIONAL {
        calls.when(*call, any_of)?;
    }
    // C libraries raise the signal of an abort so.
    calls.when(libc::SYS_tgkill, &[&[Is(0, std::process::id())]])?;
    if records.folders.is_empty() {
        // Landlock forbids writing, too, where the kernel has it.
        calls.when(libc::SYS_openat, &[&[Lacks(2, WRITING)]])?;
        #[cfg(target_arch = "x86_64")]
        calls.when(libc::SYS_open, &[&[Lacks(1, WRITING)]])?;
    } else {
        calls.always.extend(WRITING_FILES);
    }
    if records.sockets {
        calls.always.extend(DATAGRAMS);
        calls.when(libc::SYS_socket, &[&[Is(0, bits(libc::AF_UNIX)), Masked(1, SOCK_TYPE_MASK, bits(libc::SOCK_DGRAM))]])?;
    }
    Ok(calls)
}
