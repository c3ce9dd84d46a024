//! The system calls of threads: filters of seccomp(2).
//!
//! Other calls fail with ENOSYS, as on an older kernel. C libraries then use the call that a newer
//! one replaces, so a new release of one does not end the service: with EPERM it could abort, and
//! a signal would end the service at once. What is refused shows as the error of what asked for it.
//!
//! Rings of io_uring are not filtered, so only the writer may use them.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::Role;

/// A call for which each of these must hold: number of the argument, bits, and their value. The
/// bits [`u64::MAX`] are those of a pointer.
type SyscallRule = (c_long, &'static [(u8, u64, u64)]);

/// What threads of all roles use: time, memory, locks, panics with a backtrace, and what is open.
const COMMON: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getpid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];
/// The same, where they exist beside newer calls.
#[cfg(target_arch = "x86_64")]
const COMMON_OLD: &[c_long] =
    &[libc::SYS_lstat, libc::SYS_poll, libc::SYS_readlink, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const COMMON_OLD: &[c_long] = &[];
/// open(2), by which musl opens files where a machine has it; glibc uses openat(2).
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
const OPEN: &[c_long] = &[libc::SYS_open];
#[cfg(not(all(target_arch = "x86_64", target_env = "musl")))]
const OPEN: &[c_long] = &[];
/// The same for reading alone.
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
const OPEN_LIMITED: &[SyscallRule] = &[(libc::SYS_open, &[(1, CHANGES, 0)])];
#[cfg(not(all(target_arch = "x86_64", target_env = "musl")))]
const OPEN_LIMITED: &[SyscallRule] = &[];
/// kexec_file_load(2) (include/uapi/asm-generic/unistd.h), which libc lacks for musl on arm64.
#[cfg(all(target_arch = "aarch64", target_env = "musl"))]
const KEXEC_FILE_LOAD: c_long = 294;
#[cfg(not(all(target_arch = "aarch64", target_env = "musl")))]
const KEXEC_FILE_LOAD: c_long = libc::SYS_kexec_file_load;

/// `F_SETOWN`, `F_SETSIG`, `F_SETOWN_EX` (include/uapi/asm-generic/fcntl.h): by these, the kernel
/// sends signals to any process.
const SIGNALS_OF_FILES: [u64; 3] = [8, 10, 15];
const EXECUTABLE: u64 = libc::PROT_EXEC as u64;
/// Flags of open(2) that an open for reading alone does not have. musl's `O_ACCMODE` has `O_PATH`,
/// too.
const CHANGES: u64 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64;
/// No memory that can be executed, and no files that can be written.
const COMMON_LIMITED: &[SyscallRule] = &[
    (libc::SYS_mmap, &[(2, EXECUTABLE, 0)]),
    (libc::SYS_mprotect, &[(2, EXECUTABLE, 0)]),
    (libc::SYS_openat, &[(2, CHANGES, 0)]),
    // A slow scanner, and the one for metrics, lower their own priority (`PRIO_PROCESS`, 0).
    (libc::SYS_setpriority, &[(0, u32::MAX as u64, 0), (1, u32::MAX as u64, 0)]),
];
/// `UFFDIO_REGISTER` (include/uapi/linux/userfaultfd.h): a part of a guest's file is mapped again.
const SCANNER_LIMITED: &[SyscallRule] = &[(libc::SYS_ioctl, &[(1, u32::MAX as u64, 0xc020_aa00)])];

/// What connections of receivers and clients take.
const NETWORK: &[c_long] = &[
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
];
/// Without an address, as send(3) does it: what is sent goes where the socket is connected. Of
/// sendmsg(2), a filter does not see the address.
const NETWORK_LIMITED: &[SyscallRule] = &[(libc::SYS_sendto, &[(4, u64::MAX, 0)])];
const WRITER: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_copy_file_range,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_mkdirat,
    libc::SYS_openat,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_unlinkat,
];
#[cfg(target_arch = "x86_64")]
const WRITER_OLD: &[c_long] =
    &[libc::SYS_mkdir, libc::SYS_rename, libc::SYS_renameat, libc::SYS_rmdir, libc::SYS_unlink];
/// `renameat`, by which its C library renames (include/uapi/asm-generic/unistd.h).
#[cfg(target_arch = "aarch64")]
const WRITER_OLD: &[c_long] = &[38];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const WRITER_OLD: &[c_long] = &[];
const WRITER_LIMITED: &[SyscallRule] = &[
    (libc::SYS_ioctl, &[(1, u32::MAX as u64, number_of(libc::TIOCOUTQ))]),
    (libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_UNIX as u64)]),
    (libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_INET as u64)]),
    (libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_INET6 as u64)]),
];

/// Datagrams with mirrored packets.
const DATAGRAMS: &[c_long] = &[libc::SYS_recvmmsg];
/// What opening an interface takes, and asking the kernel which there are.
const PACKETS: &[c_long] = &[libc::SYS_bind, libc::SYS_setsockopt];
const PACKETS_LIMITED: &[SyscallRule] = &[
    // getifaddrs(3) sends to the address of netlink, which has 12 bytes. Those of IP and of
    // AF_PACKET are longer.
    (libc::SYS_sendto, &[(5, u32::MAX as u64, size_of::<libc::sockaddr_nl>() as u64)]),
    (libc::SYS_ioctl, &[(1, u32::MAX as u64, libc::SIOCETHTOOL)]),
    (libc::SYS_ioctl, &[(1, u32::MAX as u64, libc::SIOCGHWTSTAMP)]),
    (libc::SYS_ioctl, &[(1, u32::MAX as u64, libc::SIOCGIFHWADDR)]),
    (libc::SYS_ioctl, &[(1, u32::MAX as u64, libc::SIOCGIFINDEX)]),
    (libc::SYS_ioctl, &[(1, u32::MAX as u64, libc::SIOCSHWTSTAMP)]),
    (libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_NETLINK as u64)]),
    (libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_PACKET as u64)]),
    // For these questions about interfaces. Without connect and send, nothing leaves by them.
    (libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_INET as u64)]),
    (libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_UNIX as u64)]),
];
/// Those of XDP.
const XDP: &[c_long] = &[libc::SYS_bpf];
const XDP_LIMITED: &[SyscallRule] =
    &[(libc::SYS_socket, &[(0, u32::MAX as u64, libc::AF_XDP as u64)])];
/// Captures that may take long are read by threads that are started for them.
const CAPTURES_LIMITED: &[SyscallRule] =
    &[(libc::SYS_clone, &[(0, libc::CLONE_THREAD as u64, libc::CLONE_THREAD as u64)])];

const METRICS: &[c_long] = &[libc::SYS_accept4, libc::SYS_shutdown];
const CLIENTS: &[c_long] = &[libc::SYS_accept4, libc::SYS_setsockopt];
const SERVER_LIMITED: &[SyscallRule] =
    &[(libc::SYS_ioctl, &[(1, u32::MAX as u64, number_of(libc::FIONBIO))])];

/// What even a thread may not do on which NVIDIA's library runs: which calls that makes is not
/// known, but these are none of a library that copies memory. It stops no attacker: the thread
/// keeps all capabilities, and may write files.
const NEVER: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_capset,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    KEXEC_FILE_LOAD,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_kill,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_settimeofday,
    libc::SYS_setuid,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_tkill,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// Restricts the present thread, for good, and the threads that it starts.
pub(super) fn install(role: Role) -> Result<(), Error> {
    seccompiler::apply_filter(&program(role)?)
}

fn program(role: Role) -> Result<BpfProgram, BackendError> {
    let refused = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let (calls, limited): (&[&[c_long]], &[&[SyscallRule]]) = match role {
        Role::Scanner { has_dma: true } => {
            // They exist everywhere, so nothing is tried in their place.
            let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
            let rules = rules(&[NEVER], &[])?;
            let arch = ARCH.try_into()?;
            return SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into();
        }
        Role::Scanner { has_dma: false } => {
            (&[COMMON, COMMON_OLD], &[COMMON_LIMITED, SCANNER_LIMITED])
        }
        Role::Writer => (
            &[COMMON, COMMON_OLD, NETWORK, WRITER, WRITER_OLD, OPEN],
            &[COMMON_LIMITED, NETWORK_LIMITED, WRITER_LIMITED],
        ),
        Role::Metrics => (
            &[COMMON, COMMON_OLD, NETWORK, METRICS],
            &[COMMON_LIMITED, NETWORK_LIMITED, SERVER_LIMITED],
        ),
        Role::Clients => (
            &[COMMON, COMMON_OLD, NETWORK, CLIENTS],
            &[COMMON_LIMITED, NETWORK_LIMITED, SERVER_LIMITED],
        ),
        Role::Packets { from_interfaces: false, .. } => {
            (&[COMMON, COMMON_OLD, NETWORK, DATAGRAMS], &[COMMON_LIMITED, NETWORK_LIMITED])
        }
        Role::Packets { by_xdp: false, .. } => (
            &[COMMON, COMMON_OLD, NETWORK, DATAGRAMS, PACKETS],
            &[COMMON_LIMITED, NETWORK_LIMITED, PACKETS_LIMITED],
        ),
        Role::Packets { by_xdp: true, .. } => (
            &[COMMON, COMMON_OLD, NETWORK, DATAGRAMS, PACKETS, XDP],
            &[COMMON_LIMITED, NETWORK_LIMITED, PACKETS_LIMITED, XDP_LIMITED],
        ),
        Role::Captures { .. } => (
            &[COMMON, COMMON_OLD, NETWORK, WRITER, WRITER_OLD, OPEN],
            &[COMMON_LIMITED, NETWORK_LIMITED, WRITER_LIMITED, CAPTURES_LIMITED],
        ),
    };
    let mut rules = rules(calls, &[limited, &[OPEN_LIMITED]].concat())?;
    rules.insert(libc::SYS_tgkill, vec![to_this_process()?]);
    rules.insert(libc::SYS_fcntl, vec![without_signals()?]);
    SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH.try_into()?)?.try_into()
}

/// The number of an ioctl(2): glibc's type for it is another one than musl's.
const fn number_of(request: libc::Ioctl) -> u64 {
    request as u32 as u64
}

/// A panic that cannot unwind ends the process by a signal. musl raises it by tkill(2), whose
/// thread may be another process's: there, the process ends by an instruction that faults.
fn to_this_process() -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(0, Dword, Eq, std::process::id().into())?])
}

fn without_signals() -> Result<SeccompRule, BackendError> {
    let other = |command| SeccompCondition::new(1, Dword, Ne, command);
    SeccompRule::new(SIGNALS_OF_FILES.into_iter().map(other).collect::<Result<_, _>>()?)
}

/// The rules by system call: none for a call with any arguments.
fn rules(
    calls: &[&[c_long]],
    limited: &[&[SyscallRule]],
) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    let mut rules = BTreeMap::<c_long, Vec<SeccompRule>>::new();
    for (call, arguments) in limited.iter().copied().flatten() {
        let conditions = arguments.iter().map(|&(argument, bits, value)| {
            let (length, holds) = match bits {
                u64::MAX => (Qword, Eq),
                bits if bits == u64::from(u32::MAX) => (Dword, Eq),
                bits => (Dword, MaskedEq(bits)),
            };
            SeccompCondition::new(argument, length, holds, value)
        });
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        rules.entry(*call).or_default().push(rule);
    }
    rules.extend(calls.iter().copied().flatten().map(|call| (*call, Vec::new())));
    Ok(rules)
}
