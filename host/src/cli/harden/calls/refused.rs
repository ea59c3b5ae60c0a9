//! What no exchange with a KMS needs. A list of what it does need can't be had: how a host's name is looked up is up to the system's name
//! services, and programs that credentials come from may be any.

use seccompiler::BackendError;

use super::Condition::{Has, Is, IsNot, NotNull};
use super::{Calls, Conditions, bits};
use crate::cli::harden::Needs;

/// The newest call that these lists were made with: `file_setattr`, Linux 6.17. Newer ones are refused until somebody has looked at them.
/// From 424 on, numbers are the same on each architecture.
pub(super) const NEWEST: i64 = 469;

// The C library's crate doesn't name them all, or not on each architecture.
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const OPEN_TREE_ATTR: i64 = 467;
const FILE_SETATTR: i64 = NEWEST;

/// Neither this program nor one that credentials come from needs these: other processes, the kernel, mounts, ways around Landlock.
const NEVER: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_remap_file_pages,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// On these conditions; `TIOCSTI` and `TIOCLINUX` put what was never typed into a terminal's input.
const NEVER_SO: &[(i64, &[Conditions<'_>])] = &[
    (libc::SYS_ioctl, &[&[Is(1, TIOCSTI)], &[Is(1, TIOCLINUX)], &[Is(1, USERFAULTFD_IOC_NEW)]]),
    // To ask for it, and what each process has, are no change.
    (libc::SYS_personality, &[&[IsNot(0, u32::MAX), IsNot(0, PER_LINUX)]]),
    (libc::SYS_shmat, &[&[Has(2, bits(libc::SHM_EXEC))]]),
];

// The C libraries don't agree on their type.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const USERFAULTFD_IOC_NEW: u32 = 0xAA00;
const PER_LINUX: u32 = 0;

/// Nor does this program alone need these: other programs, namespaces, keyrings and roots; other processes' memory and signals to them; files
/// that are on no disk; and what Landlock doesn't see to, such as modes and owners of files.
const ALONE: &[i64] = &[
    libc::SYS_chroot,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    FILE_SETATTR,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_keyctl,
    libc::SYS_kill,
    libc::SYS_lremovexattr,
    libc::SYS_lsetxattr,
    libc::SYS_memfd_create,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_pidfd_send_signal,
    REMOVEXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_request_key,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setns,
    libc::SYS_setrlimit,
    SETXATTRAT,
    libc::SYS_setxattr,
    libc::SYS_tkill,
    libc::SYS_unshare,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
];

/// On these conditions.
const ALONE_SO: &[(i64, &[Conditions<'_>])] = &[
    (
        libc::SYS_clone,
        &[
            &[Has(0, bits(libc::CLONE_NEWCGROUP))],
            &[Has(0, bits(libc::CLONE_NEWIPC))],
            &[Has(0, bits(libc::CLONE_NEWNET))],
            &[Has(0, bits(libc::CLONE_NEWNS))],
            &[Has(0, bits(libc::CLONE_NEWPID))],
            &[Has(0, bits(libc::CLONE_NEWUSER))],
            &[Has(0, bits(libc::CLONE_NEWUTS))],
        ],
    ),
    // Loading libraries, as looking a host's name up may, takes files into memory that can be executed and not written.
    (
        libc::SYS_mmap,
        &[&[Has(2, bits(libc::PROT_EXEC | libc::PROT_WRITE))], &[Has(2, bits(libc::PROT_EXEC)), Has(3, bits(libc::MAP_ANONYMOUS))]],
    ),
    (libc::SYS_mprotect, &[&[Has(2, bits(libc::PROT_EXEC))]]),
    (libc::SYS_pkey_mprotect, &[&[Has(2, bits(libc::PROT_EXEC))]]),
    // Who may look into this process, above all.
    (libc::SYS_prctl, &[&[IsNot(0, bits(libc::PR_SET_NAME)), IsNot(0, bits(libc::PR_GET_NAME))]]),
    (libc::SYS_prlimit64, &[&[NotNull(2)]]),
];

/// The calls, on the conditions on which they are refused.
pub(super) fn calls(needs: Needs) -> Result<Calls, BackendError> {
    let alone = needs < Needs::Programs;
    let mut calls = Calls { always: NEVER.to_vec(), ..Calls::default() };
    if alone {
        calls.always.extend(ALONE);
        calls.when(libc::SYS_tgkill, &[&[IsNot(0, std::process::id())]])?;
    }
    for (call, any_of) in NEVER_SO.iter().chain(if alone { ALONE_SO } else { &[] }) {
        calls.when(*call, any_of)?;
    }
    Ok(calls)
}
