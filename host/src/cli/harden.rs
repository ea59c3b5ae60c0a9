//! What the program gives up once it knows what its exchange needs, so that whoever takes it over gets little more than the exchange.
//!
//! Landlock and seccomp hold for this thread, its children and the programs that they start: called while the process has one thread.
//! A kernel that lacks one of them is used as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use ocicrypt_kms::Environment;
use ocicrypt_kms::key_uri::Service;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

/// What an exchange may need of the system, besides reading files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Needs {
    /// A KMS that is somewhere else.
    network: bool,
    /// Programs that credentials come from. They need things of their own: to write tokens, to answer a browser.
    programs: bool,
}

impl Needs {
    /// What keys of these services need.
    pub(super) fn of(services: &[Service], environment: &Environment) -> Self {
        // Google's library asks this variable before it starts what a credential file names.
        let executables = || environment.get("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES").is_some();
        let programs = |service: &Service| match service {
            Service::Local | Service::Vault | Service::HttpKms => false,
            Service::Gcp => executables(),
            // `az`, and `credential_process` of AWS's configuration.
            _ => true,
        };
        Self { network: super::exec::need_network(services), programs: services.iter().any(programs) }
    }
}

/// No exchange and no program that credentials come from needs these: other processes, the kernel, mounts, ways around Landlock.
const NEVER: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
];

/// Nor does this program alone need these.
const ALONE: &[i64] =
    &[libc::SYS_chroot, libc::SYS_execve, libc::SYS_execveat, libc::SYS_keyctl, libc::SYS_request_key, libc::SYS_setns, libc::SYS_unshare];

/// Gives up what isn't needed. Only below `writable`, where the audit log is, can anything still be written.
pub(super) fn harden(needs: Needs, writable: &[PathBuf]) {
    if !needs.programs {
        match restrict_files(needs, writable) {
            Ok(RulesetStatus::FullyEnforced) => {}
            Ok(status) => tracing::warn!(?status, "this kernel's Landlock lacks some of what is asked of it"),
            Err(error) => tracing::warn!(%error, "Landlock is not used"),
        }
    }
    if let Err(error) = restrict_calls(needs) {
        tracing::warn!(%error, "seccomp is not used");
    }
    tracing::debug!(?needs, "hardened");
}

/// What this kernel has of it, as a line for a person. Found by a thread that gives up everything, and ends.
pub(super) fn offered() -> String {
    let needs = Needs { network: false, programs: false };
    let landlock =
        || -> Result<_, RulesetError> { Ok(Ruleset::default().handle_access(AccessFs::Execute)?.create()?.restrict_self()?.landlock) };
    let tried = std::thread::spawn(move || (landlock(), restrict_calls(needs))).join();
    let Ok((landlock, seccomp)) = tried else { return "it can't be tried".into() };
    let landlock = match landlock {
        Ok(LandlockStatus::Available { effective_abi, kernel_abi }) => {
            format!("Landlock ABI {}", kernel_abi.unwrap_or(effective_abi as i32))
        }
        Ok(LandlockStatus::NotEnabled) => "no Landlock: this kernel has it, but not enabled".into(),
        Ok(LandlockStatus::NotImplemented) => "no Landlock: this kernel has none".into(),
        Err(error) => format!("no Landlock: {error}"),
    };
    let seccomp = seccomp.map_or_else(|error| format!("no seccomp: {error}"), |()| "seccomp".into());
    format!("{landlock}, {seccomp}")
}

/// Nothing else is written, executed or listened on. Files that are open stay so: the debug log.
fn restrict_files(needs: Needs, writable: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let network = if needs.network { AccessNet::BindTcp.into() } else { AccessNet::from_all(ABI::V4) };
    let ruleset = Ruleset::default().handle_access(AccessFs::from_write(ABI::V4) | AccessFs::Execute)?.handle_access(network)?;
    let ruleset = ruleset.scope(Scope::from_all(ABI::V6))?.create()?;
    let ruleset = ruleset.add_rules(path_beneath_rules(writable, AccessFs::from_write(ABI::V4)))?;
    ruleset.restrict_self().map(|status| status.ruleset)
}

fn restrict_calls(needs: Needs) -> Result<(), seccompiler::Error> {
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules(needs)?, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?;
    // Also sees to it that no program that is started gets rights which this one has not (`no_new_privs`).
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)
}

/// The calls that are refused: by themselves, or with certain arguments.
fn rules(needs: Needs) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let alone = if needs.programs { &[] } else { ALONE };
    let mut rules: BTreeMap<_, _> = NEVER.iter().chain(alone).map(|call| (*call, Vec::new())).collect();
    if !needs.network {
        // Unix sockets stay: logs are written to them.
        rules.insert(libc::SYS_socket, vec![argument(0, SeccompCmpOp::Ne, libc::AF_UNIX)?]);
        // Loading libraries, as looking a host's name up does, needs this, too; local keys don't.
        let executable = || argument(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into()), libc::PROT_EXEC);
        for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
            rules.insert(call, vec![executable()?]);
        }
    }
    Ok(rules)
}

fn argument(index: u8, comparison: SeccompCmpOp, value: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, SeccompCmpArgLen::Dword, comparison, value.unsigned_abs().into())?])
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    const LOCAL: Needs = Needs { network: false, programs: false };

    fn needs(services: &[Service]) -> Needs {
        Needs::of(services, &Environment::of([("HOME", "/")]))
    }

    /// In a thread of its own, which alone is restricted.
    fn hardened<T: Send>(needs: Needs, then: impl FnOnce() -> T + Send) -> T {
        hardened_but(needs, &[], then)
    }

    fn hardened_but<T: Send>(needs: Needs, writable: &[PathBuf], then: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                harden(needs, writable);
                then()
            });
            thread.join().unwrap()
        })
    }

    fn has_landlock() -> bool {
        let status = std::thread::spawn(|| restrict_files(LOCAL, &[]).unwrap()).join().unwrap();
        status != RulesetStatus::NotEnforced
    }

    #[test]
    fn needs_are_those_of_the_services() {
        assert_eq!(needs(&[Service::Local]), LOCAL);
        assert_eq!(needs(&[]), LOCAL);
        assert_eq!(needs(&[Service::Local, Service::Vault]), Needs { network: true, programs: false });
        assert_eq!(needs(&[Service::Gcp]), Needs { network: true, programs: false });
        assert_eq!(needs(&[Service::HttpKms]), Needs { network: true, programs: false });
        for service in [Service::Aws, Service::Azure] {
            assert_eq!(needs(&[service]), Needs { network: true, programs: true });
        }
        let executables = Environment::of([("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")]);
        assert!(Needs::of(&[Service::Gcp], &executables).programs);
    }

    #[test]
    fn an_exchange_with_local_keys_reads_files_and_does_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let mut log = OpenOptions::new().create(true).append(true).open(&old).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        hardened(LOCAL, || {
            assert!(File::open(&old).is_ok());
            log.write_all(b"a line").unwrap();
            assert!(
                TcpStream::connect(address).is_err()
                    && TcpListener::bind("127.0.0.1:0").is_err()
                    && UdpSocket::bind("127.0.0.1:0").is_err()
            );
            assert!(UnixStream::pair().is_ok());
            assert!(Command::new("/bin/true").status().is_err());
            if has_landlock() {
                assert!(File::create(&new).is_err() && OpenOptions::new().append(true).open(&old).is_err());
                assert!(std::fs::remove_file(&old).is_err());
            }
        });
        assert_eq!(std::fs::read(&old).unwrap(), b"a line");
        assert!(TcpStream::connect(address).is_ok() && File::create(&new).is_ok(), "this thread is as before");
    }

    #[test]
    fn the_audit_log_is_written_where_it_is_and_nothing_beside_its_folder() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        hardened_but(LOCAL, &[folder.path().to_owned()], || {
            std::fs::write(folder.path().join("log"), "a record").unwrap();
            std::fs::rename(folder.path().join("log"), folder.path().join("log.1")).unwrap();
            if has_landlock() {
                assert!(File::create(other.path().join("log")).is_err());
            }
        });
        assert_eq!(std::fs::read(folder.path().join("log.1")).unwrap(), b"a record");
    }

    #[test]
    fn an_exchange_with_a_service_connects_and_neither_writes_nor_starts_programs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        hardened(needs(&[Service::Vault]), || {
            assert!(TcpStream::connect(address).is_ok());
            assert!(Command::new("/bin/true").status().is_err());
            if has_landlock() {
                assert!(File::create(folder.path().join("new")).is_err() && TcpListener::bind("127.0.0.1:0").is_err());
            }
        });
    }

    #[test]
    fn programs_that_credentials_come_from_start_and_write() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        hardened(needs(&[Service::Aws]), || assert!(Command::new("/bin/touch").arg(&token).status().unwrap().success()));
        assert!(token.exists());
    }

    #[test]
    fn other_processes_and_executable_memory_are_out_of_reach() {
        use ocicrypt_kms::sandbox::{Instances, Sandbox};
        use rustix::io::Errno;
        // The first sandbox of a process uses code where it is; any other needs memory that becomes executable.
        let sandbox = || Sandbox::built_in(Instances::OneShot);
        let first = sandbox();
        assert!(first.is_ok() && sandbox().is_ok());
        hardened(LOCAL, || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("\nNoNewPrivs:\t1\n") && status.contains("\nSeccomp:\t2\n"), "{status}");
            let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
            let stolen = rustix::process::pidfd_getfd(&own, 0, rustix::process::PidfdGetfdFlags::empty());
            assert_eq!(stolen.err(), Some(Errno::PERM));
            assert!(sandbox().is_err());
        });
    }
}
