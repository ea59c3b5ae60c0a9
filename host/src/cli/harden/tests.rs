use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use super::*;

fn needs(services: &[Service]) -> Needs {
    Needs::of(services, &Environment::of([("HOME", "/")]))
}

/// In a thread of its own, which alone is restricted.
fn hardened<T: Send>(needs: Needs, then: impl FnOnce() -> T + Send) -> T {
    hardened_but(needs, &Records::default(), then)
}

fn hardened_but<T: Send>(needs: Needs, records: &Records, then: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            harden(needs, records);
            then()
        });
        thread.join().unwrap()
    })
}

fn has_landlock() -> bool {
    let status = std::thread::spawn(|| restrict_files(Needs::Local, &Records::default()).unwrap()).join().unwrap();
    status != RulesetStatus::NotEnforced
}

#[test]
fn needs_are_those_of_the_services() {
    assert_eq!(needs(&[Service::Local]), Needs::Local);
    assert_eq!(needs(&[]), Needs::Local);
    assert_eq!(needs(&[Service::Local, Service::Vault]), Needs::Network);
    assert_eq!(needs(&[Service::Gcp]), Needs::Network);
    assert_eq!(needs(&[Service::HttpKms]), Needs::Network);
    for service in [Service::Aws, Service::Azure] {
        assert_eq!(needs(&[Service::Local, service, Service::Vault]), Needs::Programs);
    }
    let executables = Environment::of([("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")]);
    assert_eq!(Needs::of(&[Service::Gcp], &executables), Needs::Programs);
}

#[test]
fn an_exchange_with_local_keys_reads_files_and_does_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let mut log = OpenOptions::new().create(true).append(true).open(&old).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    hardened(Needs::Local, || {
        assert!(File::open(&old).is_ok());
        log.write_all(b"a line").unwrap();
        assert!(
            TcpStream::connect(address).is_err() && TcpListener::bind("127.0.0.1:0").is_err() && UdpSocket::bind("127.0.0.1:0").is_err()
        );
        assert!(UnixStream::pair().is_err() && UnixDatagram::unbound().is_err());
        assert!(Command::new("/bin/true").status().is_err());
        // With Landlock and without.
        assert!(File::create(&new).is_err() && OpenOptions::new().append(true).open(&old).is_err());
        assert!(OpenOptions::new().write(true).open("/proc/self/mem").is_err());
        assert!(std::fs::remove_file(&old).is_err() && std::fs::rename(&old, &new).is_err());
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        assert!(std::fs::set_permissions(&old, open_to_all).is_err());
    });
    assert_eq!(std::fs::read(&old).unwrap(), b"a line");
    assert!(TcpStream::connect(address).is_ok() && File::create(&new).is_ok(), "this thread is as before");
}

#[test]
fn the_audit_log_is_written_where_it_is_and_nothing_beside_its_folder() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, landlock) = (folder.path().join("log"), has_landlock());
    let records = Records { folders: vec![folder.path().to_owned()], sockets: false };
    hardened_but(Needs::Local, &records, || {
        std::fs::write(&log, "a record").unwrap();
        std::fs::rename(&log, folder.path().join("log.1")).unwrap();
        assert!(UnixDatagram::unbound().is_err());
        if landlock {
            assert!(File::create(other.path().join("log")).is_err());
        }
    });
    assert_eq!(std::fs::read(folder.path().join("log.1")).unwrap(), b"a record");
}

#[test]
fn the_logs_of_the_system_get_datagrams_and_no_service_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (log, service) = (folder.path().join("log"), folder.path().join("service"));
    let received = UnixDatagram::bind(&log).unwrap();
    let _service = std::os::unix::net::UnixListener::bind(&service).unwrap();
    let records = Records { folders: Vec::new(), sockets: true };
    hardened_but(Needs::Local, &records, || {
        let datagram = UnixDatagram::unbound().unwrap();
        datagram.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        datagram.send_to(b"a record", &log).unwrap();
        assert!(UnixStream::connect(&service).is_err() && UdpSocket::bind("127.0.0.1:0").is_err());
    });
    let mut record = [0; 8];
    assert_eq!((received.recv(&mut record).unwrap(), &record), (8, b"a record"));
}

#[test]
fn an_exchange_with_a_service_connects_and_neither_writes_nor_starts_programs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let landlock = has_landlock();
    hardened(needs(&[Service::Vault]), || {
        assert!(TcpStream::connect(address).is_ok());
        assert!("localhost:80".to_socket_addrs().is_ok());
        assert!(std::thread::Builder::new().name("resolver".into()).spawn(|| ()).unwrap().join().is_ok());
        assert!(Command::new("/bin/true").status().is_err());
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        assert!(std::fs::set_permissions(folder.path(), open_to_all).is_err());
        if landlock {
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
    // The first sandbox of a process uses code where it is; any other needs memory that becomes executable.
    let sandbox = || Sandbox::built_in(Instances::OneShot);
    let first = sandbox();
    assert!(first.is_ok() && sandbox().is_ok());
    for needs in [Needs::Local, Needs::Network] {
        hardened(needs, || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("\nNoNewPrivs:\t1\n") && status.contains("\nSeccomp:\t2\n"), "{status}");
            assert!(sandbox().is_err());
        });
    }
}

/// Calls as they are, which nothing of this program makes.
#[allow(unsafe_code)]
mod raw {
    use rustix::io::Errno;

    /// A call that fails, whatever the kernel thinks of its arguments.
    pub(super) fn call(number: i64, arguments: [i64; 6]) -> Result<i64, Errno> {
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: no call here is given memory of this process but what `mmap` and `shmat` make, which nothing else uses.
        let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
        if result == -1 { Err(std::io::Error::last_os_error().raw_os_error().map(Errno::from_raw_os_error).unwrap()) } else { Ok(result) }
    }
}

/// Arguments that the kernel takes for nonsense: the call fails, filter or not.
const NONSENSE: [i64; 6] = [-1; 6];

/// The first arguments, and zeros.
fn arguments<const N: usize>(first: [i64; N]) -> [i64; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&first);
    all
}

/// Calls that no exchange with keys elsewhere makes, with arguments that mean it.
fn refused_to_all() -> Vec<(&'static str, i64, [i64; 6])> {
    macro_rules! nonsense {
        ($($call:ident)*) => { vec![$((stringify!($call), libc::$call, NONSENSE)),*] };
    }
    let mut calls = nonsense![
        SYS_acct SYS_add_key SYS_bpf SYS_delete_module SYS_fanotify_init SYS_finit_module SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick SYS_init_module
        SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup SYS_kcmp SYS_kexec_file_load SYS_kexec_load SYS_mount SYS_mount_setattr SYS_move_mount
        SYS_open_by_handle_at SYS_open_tree SYS_perf_event_open SYS_pidfd_getfd SYS_pivot_root SYS_process_madvise SYS_process_mrelease
        SYS_process_vm_readv SYS_process_vm_writev SYS_ptrace SYS_quotactl SYS_reboot SYS_remap_file_pages SYS_swapoff SYS_swapon SYS_umount2
        SYS_userfaultfd
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend(nonsense![SYS_iopl SYS_ioperm SYS_modify_ldt SYS_uselib]);
    calls.extend([
        ("open_tree_attr", 467, NONSENSE),
        ("a call that is newer than the lists", 0x3FF, NONSENSE),
        ("personality(READ_IMPLIES_EXEC)", libc::SYS_personality, arguments([libc::READ_IMPLIES_EXEC.into()])),
        ("shmat(SHM_EXEC)", libc::SYS_shmat, arguments([-1, 0, libc::SHM_EXEC.into()])),
        (
            "shmat(SHM_EXEC), with bits that the kernel doesn't read",
            libc::SYS_shmat,
            arguments([-1, 0, 1 << 40 | i64::from(libc::SHM_EXEC)]),
        ),
        ("ioctl(TIOCSTI)", libc::SYS_ioctl, arguments([-1, 0x5412])),
        ("ioctl(TIOCSTI), with bits that the kernel doesn't read", libc::SYS_ioctl, arguments([-1, 1 << 40 | 0x5412])),
        ("ioctl(TIOCLINUX)", libc::SYS_ioctl, arguments([-1, 0x541C])),
    ]);
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        ("x32's execve", 0x4000_0000 + 520, NONSENSE),
        ("x32's ptrace", 0x4000_0000 + 521, NONSENSE),
        ("x32's mount", 0x4000_0000 + 165, NONSENSE),
    ]);
    calls
}

/// Calls that this program makes on no account, where nothing else is started.
fn refused_to_this_program() -> Vec<(&'static str, i64, [i64; 6])> {
    let (execute, write) = (i64::from(libc::PROT_EXEC), i64::from(libc::PROT_WRITE));
    let (anonymous, private) = (i64::from(libc::MAP_ANONYMOUS), i64::from(libc::MAP_PRIVATE));
    let namespace = |flag: i32| arguments([i64::from(flag | libc::CLONE_FS | libc::CLONE_THREAD)]);
    vec![
        ("chroot", libc::SYS_chroot, NONSENSE),
        ("execve", libc::SYS_execve, NONSENSE),
        ("execveat", libc::SYS_execveat, NONSENSE),
        ("keyctl", libc::SYS_keyctl, NONSENSE),
        ("kill", libc::SYS_kill, NONSENSE),
        ("tgkill of another process", libc::SYS_tgkill, arguments([1, 1, 0])),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, NONSENSE),
        ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, NONSENSE),
        ("memfd_create", libc::SYS_memfd_create, NONSENSE),
        ("request_key", libc::SYS_request_key, NONSENSE),
        ("setns", libc::SYS_setns, NONSENSE),
        ("unshare", libc::SYS_unshare, NONSENSE),
        ("fchmodat2", 452, NONSENSE),
        ("setxattrat", 463, NONSENSE),
        ("clone3", libc::SYS_clone3, NONSENSE),
        // No kernel makes a thread in a namespace of its own.
        ("clone(CLONE_NEWUSER)", libc::SYS_clone, namespace(libc::CLONE_NEWUSER)),
        ("clone(CLONE_NEWNS)", libc::SYS_clone, namespace(libc::CLONE_NEWNS)),
        ("mmap, anonymous and executable", libc::SYS_mmap, arguments([0, 0, execute, anonymous | private, -1])),
        ("mmap, executable and writable", libc::SYS_mmap, arguments([0, 0, execute | write, private, -1])),
        ("mprotect, executable", libc::SYS_mprotect, arguments([1, 0, execute])),
        ("pkey_mprotect, executable", libc::SYS_pkey_mprotect, arguments([1, 0, execute, -1])),
        ("prctl(PR_SET_DUMPABLE)", libc::SYS_prctl, arguments([libc::PR_SET_DUMPABLE.into(), 3])),
        ("prctl(PR_SET_PTRACER)", libc::SYS_prctl, arguments([libc::PR_SET_PTRACER.into(), -2])),
        ("prlimit64(RLIMIT_CORE)", libc::SYS_prlimit64, arguments([0, libc::RLIMIT_CORE.into(), -1])),
    ]
}

/// Calls that an exchange with local keys does not make, though one with keys elsewhere may.
fn refused_to_local_keys() -> Vec<(&'static str, i64, [i64; 6])> {
    vec![
        ("mmap of a file, executable", libc::SYS_mmap, arguments([0, 0, libc::PROT_EXEC.into(), libc::MAP_PRIVATE.into(), -1])),
        ("socket", libc::SYS_socket, NONSENSE),
        ("connect", libc::SYS_connect, NONSENSE),
        ("sendmsg", libc::SYS_sendmsg, NONSENSE),
        ("openat2", libc::SYS_openat2, NONSENSE),
        ("unlinkat", libc::SYS_unlinkat, NONSENSE),
        ("fork by clone", libc::SYS_clone, arguments([(libc::CLONE_THREAD | libc::CLONE_FS).into()])),
        ("epoll_create1", libc::SYS_epoll_create1, NONSENSE),
        ("seccomp", libc::SYS_seccomp, NONSENSE),
        ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, arguments([0, 0, 8])),
        ("pidfd_open", libc::SYS_pidfd_open, NONSENSE),
        ("setpriority", libc::SYS_setpriority, arguments([99])),
        ("splice", libc::SYS_splice, arguments([-1, 0, -1, 0, 1])),
        ("fcntl(F_SETOWN)", libc::SYS_fcntl, arguments([-1, libc::F_SETOWN.into(), 1])),
    ]
}

/// Which of these calls are not refused.
fn let_through(needs: Needs, calls: &[(&'static str, i64, [i64; 6])]) -> Vec<String> {
    use rustix::io::Errno;
    let tried = hardened(needs, || calls.iter().map(|(_, number, arguments)| raw::call(*number, *arguments)).collect::<Vec<_>>());
    let refused = |outcome: &Result<i64, Errno>| matches!(outcome, Err(Errno::PERM | Errno::NOSYS));
    let let_through = calls.iter().zip(tried).filter(|(_, outcome)| !refused(outcome));
    let_through.map(|((name, ..), outcome)| format!("{needs:?}: {name}: {outcome:?}")).collect()
}

#[test]
fn each_way_to_what_is_given_up_is_refused_and_not_only_the_first() {
    let (all, alone, local) = (refused_to_all(), refused_to_this_program(), refused_to_local_keys());
    let let_through: Vec<_> = [
        let_through(Needs::Programs, &all),
        let_through(Needs::Network, &[all.as_slice(), &alone].concat()),
        let_through(Needs::Local, &[all.as_slice(), &alone, &local].concat()),
    ]
    .concat();
    assert!(let_through.is_empty(), "{let_through:#?}");
    // As root, a kernel refuses hardly any of them by itself.
    if rustix::process::geteuid().is_root() {
        let names = |call: &(&'static str, i64, [i64; 6])| raw::call(call.1, call.2) == Err(rustix::io::Errno::PERM);
        let indistinct: Vec<_> = [all, alone, local].concat().into_iter().filter(names).map(|(name, ..)| name).collect();
        assert!(indistinct.len() < 5, "the kernel itself refuses {indistinct:?}");
    }
}

#[test]
fn no_memory_becomes_executable_by_what_else_makes_it_so() {
    let rights_at = |address: i64| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let holds = |line: &&str| {
            let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            (i64::from_str_radix(from, 16).unwrap_or(i64::MAX)..i64::from_str_radix(to, 16).unwrap_or(i64::MAX)).contains(&address)
        };
        maps.lines().find(holds).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    let shared = raw::call(libc::SYS_shmget, arguments([libc::IPC_PRIVATE.into(), 4096, 0o600])).unwrap();
    for needs in [Needs::Local, Needs::Network] {
        hardened(needs, || {
            let _ = raw::call(libc::SYS_personality, arguments([libc::READ_IMPLIES_EXEC.into()]));
            let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let address = raw::call(libc::SYS_mmap, arguments([0, 4096, rights.into(), flags.into(), -1])).unwrap();
            assert_eq!(rights_at(address), "rw-p", "{needs:?}");
            let attached = raw::call(libc::SYS_shmat, arguments([shared, 0, libc::SHM_EXEC.into()]));
            assert!(attached.is_err(), "{needs:?}: {}", rights_at(attached.unwrap()));
        });
    }
    raw::call(libc::SYS_shmctl, arguments([shared, libc::IPC_RMID.into()])).unwrap();
}

/// What a filter does with a call.
fn filtered(filter: &[seccompiler::sock_filter], architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let halves = arguments.iter().flat_map(|argument| [*argument as u32, (*argument >> 32) as u32]);
    let data: Vec<u32> = [call, architecture, 0, 0].into_iter().chain(halves).collect();
    let (mut accumulator, mut next) = (0, 0);
    loop {
        let instruction = &filter[next];
        let (code, k) = (u32::from(instruction.code), instruction.k);
        let jump = |condition: bool| usize::from(if condition { instruction.jt } else { instruction.jf });
        next += 1;
        match code {
            0x20 => accumulator = data[k as usize / 4],
            0x54 => accumulator &= k,
            0x05 => next += k as usize,
            0x15 => next += jump(accumulator == k),
            0x25 => next += jump(accumulator > k),
            0x35 => next += jump(accumulator >= k),
            0x06 => return k,
            _ => panic!("{code:#x} is not understood"),
        }
    }
}

#[test]
fn a_call_that_nobody_has_looked_at_is_refused() {
    let this = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };
    let (other, absent, killed) = (0x4000_0003, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(), libc::SECCOMP_RET_KILL_PROCESS);
    for needs in [Needs::Local, Needs::Network, Needs::Programs] {
        let filter = calls::filter(needs, &Records::default()).unwrap();
        // What came after the lists were made, and x32's numbers.
        for call in (470..2000).chain((0..2000).map(|call| 0x4000_0000 + call)).chain([u32::MAX]) {
            assert_eq!(filtered(&filter, this, call, [0; 6]), absent, "{needs:?}: {call:#x}");
        }
        for call in 0..470 {
            assert_eq!(filtered(&filter, other, call, [0; 6]), killed, "{needs:?}: {call}, of 32 bits");
        }
    }
    let local = calls::filter(Needs::Local, &Records::default()).unwrap();
    let allowed = |arguments| (0..2000).filter(|call| filtered(&local, this, *call, arguments) == libc::SECCOMP_RET_ALLOW).count();
    assert!(allowed([0; 6]) < 70 && allowed([u64::MAX; 6]) < 65, "{} and {}", allowed([0; 6]), allowed([u64::MAX; 6]));
}
