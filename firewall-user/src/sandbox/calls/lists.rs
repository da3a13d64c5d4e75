//! What the daemon calls, and what the process that looks for it does. Found by reading what the parts do
//! (tokio, the BPF loader, sockets, state files) and by running all whole-system tests under the filter.

use super::{Argument, Calls, Limited};
use Argument::{Is, Masked, OwnProcess};

/// The daemon.
pub(in super::super) const DAEMON: Calls = Calls {
    plain: &[
        // Files and folders. Which ones is for Landlock to say.
        libc::SYS_openat,
        libc::SYS_close,
        libc::SYS_close_range,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_pwrite64,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_statfs,
        libc::SYS_fstatfs,
        libc::SYS_getdents64,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_getcwd,
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_flock,
        libc::SYS_fcntl,
        libc::SYS_fadvise64,
        libc::SYS_copy_file_range,
        libc::SYS_sendfile,
        libc::SYS_umask,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_pipe2,
        libc::SYS_eventfd2,
        libc::SYS_timerfd_create,
        libc::SYS_timerfd_settime,
        libc::SYS_memfd_create,
        // Sockets that are there.
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_connect,
        libc::SYS_shutdown,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_getsockopt,
        libc::SYS_setsockopt,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        // Waiting.
        libc::SYS_epoll_create1,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_futex,
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_gettimeofday,
        libc::SYS_restart_syscall,
        // Memory. Code cannot be added: see mmap and mprotect below.
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_msync,
        libc::SYS_brk,
        // Threads, and itself.
        libc::SYS_clone3,
        libc::SYS_set_robust_list,
        libc::SYS_get_robust_list,
        libc::SYS_set_tid_address,
        libc::SYS_rseq,
        libc::SYS_membarrier,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_getcpu,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_getrusage,
        libc::SYS_getrandom,
        libc::SYS_uname,
        libc::SYS_sysinfo,
        libc::SYS_capget,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_sigaltstack,
        // Older names of what stands above, where there are any.
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_lstat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rmdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_link,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_pipe,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_arch_prctl,
    ],
    limited: &[
        Limited {
            call: libc::SYS_bpf,
            cases: BPF,
        },
        Limited {
            call: libc::SYS_socket,
            cases: &[
                &[Is(0, libc::AF_UNIX as u64)],
                &[
                    Is(0, libc::AF_INET as u64),
                    Masked(1, SOCKET_TYPE, libc::SOCK_STREAM as u64),
                ],
                &[
                    Is(0, libc::AF_INET as u64),
                    Masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64),
                ],
                &[
                    Is(0, libc::AF_INET6 as u64),
                    Masked(1, SOCKET_TYPE, libc::SOCK_STREAM as u64),
                ],
                &[
                    Is(0, libc::AF_INET6 as u64),
                    Masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64),
                ],
                // To attach, and to look at the table of sockets.
                &[
                    Is(0, libc::AF_NETLINK as u64),
                    Is(2, libc::NETLINK_ROUTE as u64),
                ],
                &[
                    Is(0, libc::AF_NETLINK as u64),
                    Is(2, libc::NETLINK_SOCK_DIAG as u64),
                ],
            ],
        },
        Limited {
            call: libc::SYS_socketpair,
            cases: &[&[Is(0, libc::AF_UNIX as u64)]],
        },
        MAP_WITHOUT_CODE,
        PROTECT_WITHOUT_CODE,
        ONLY_THREADS,
        SIGNAL_ITSELF,
        NAME_A_THREAD,
        // Limits of its own; the loader asks whether memory may be locked.
        Limited {
            call: libc::SYS_prlimit64,
            cases: &[&[Is(0, 0)]],
        },
        Limited {
            call: libc::SYS_ioctl,
            cases: &[
                // Whether standard error is a terminal, and sockets that do not wait.
                &[Is(1, libc::TCGETS)],
                &[Is(1, libc::TIOCGWINSZ)],
                &[Is(1, libc::FIONBIO)],
                &[Is(1, libc::FIONREAD)],
                &[Is(1, libc::FIOCLEX)],
                // What an interface is, and its driver's counts and features.
                &[Is(1, SIOCGIFFLAGS)],
                &[Is(1, SIOCGIFHWADDR)],
                &[Is(1, SIOCGIFINDEX)],
                &[Is(1, SIOCETHTOOL)],
            ],
        },
    ],
};

/// Whoever looks at other processes for the daemon: it opens files for reading, and reads.
pub(in super::super) const LOOKOUT: Calls = Calls {
    plain: &[
        libc::SYS_close,
        libc::SYS_read,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_write,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_getdents64,
        libc::SYS_readlinkat,
        libc::SYS_fcntl,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_restart_syscall,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_readlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_stat,
    ],
    limited: &[
        Limited {
            call: libc::SYS_openat,
            cases: &[&[Masked(2, WRITING, libc::O_RDONLY as u64)]],
        },
        MAP_WITHOUT_CODE,
        PROTECT_WITHOUT_CODE,
        SIGNAL_ITSELF,
    ],
};

const SOCKET_TYPE: u64 = 0xf;
/// What would make or change a file.
const WRITING: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u64;
const SIOCGIFFLAGS: u64 = 0x8913;
const SIOCGIFHWADDR: u64 = 0x8927;
const SIOCGIFINDEX: u64 = 0x8933;
const SIOCETHTOOL: u64 = 0x8946;

const MAP_WITHOUT_CODE: Limited = Limited {
    call: libc::SYS_mmap,
    cases: &[&[Masked(2, libc::PROT_EXEC as u64, 0)]],
};
const PROTECT_WITHOUT_CODE: Limited = Limited {
    call: libc::SYS_mprotect,
    cases: &[&[Masked(2, libc::PROT_EXEC as u64, 0)]],
};
const ONLY_THREADS: Limited = Limited {
    call: libc::SYS_clone,
    cases: &[&[Masked(
        0,
        libc::CLONE_THREAD as u64,
        libc::CLONE_THREAD as u64,
    )]],
};
/// As abort does.
const SIGNAL_ITSELF: Limited = Limited {
    call: libc::SYS_tgkill,
    cases: &[&[OwnProcess(0)]],
};
const NAME_A_THREAD: Limited = Limited {
    call: libc::SYS_prctl,
    cases: &[
        &[Is(0, libc::PR_SET_NAME as u64)],
        &[Is(0, libc::PR_CAPBSET_READ as u64)],
    ],
};

/// Commands of bpf(2): none that finds objects of others by their number, or attaches to other than a
/// link.
const BPF: &[&[Argument]] = &[
    &[Is(0, 0)],  // MAP_CREATE
    &[Is(0, 1)],  // MAP_LOOKUP_ELEM
    &[Is(0, 2)],  // MAP_UPDATE_ELEM
    &[Is(0, 3)],  // MAP_DELETE_ELEM
    &[Is(0, 4)],  // MAP_GET_NEXT_KEY
    &[Is(0, 5)],  // PROG_LOAD
    &[Is(0, 6)],  // OBJ_PIN
    &[Is(0, 7)],  // OBJ_GET
    &[Is(0, 10)], // PROG_TEST_RUN
    &[Is(0, 15)], // OBJ_GET_INFO_BY_FD
    &[Is(0, 16)], // PROG_QUERY
    &[Is(0, 18)], // BTF_LOAD
    &[Is(0, 22)], // MAP_FREEZE
    &[Is(0, 24)], // MAP_LOOKUP_BATCH
    &[Is(0, 28)], // LINK_CREATE
    &[Is(0, 29)], // LINK_UPDATE
    &[Is(0, 34)], // LINK_DETACH
    &[Is(0, 35)], // PROG_BIND_MAP
];
