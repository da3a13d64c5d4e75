//! System calls made by the daemon's own threads: what it needs succeeds, what it does not need fails.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc::*;
use palisade_tests::inject::Argument::{Bytes, Number, Text};
use palisade_tests::inject::{Held, children, field, threads};
use palisade_tests::policies::PING;
use palisade_tests::{Daemon, Topology, skip_unless_root};

const HERE: u64 = AT_FDCWD as i64 as u64;
/// CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF.
const DAEMON: u64 = 1 << 12 | 1 << 38 | 1 << 39;
/// CAP_SYS_PTRACE.
const LOOKOUT: u64 = 1 << 19;

#[test]
fn no_thread_of_the_running_daemon_can_do_what_it_does_not_need() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    let process = daemon.process()?.id();
    let threads = threads(process)?;
    for wanted in ["palisade", "tokio-rt-worker", "fence", "sockets"] {
        let known = threads.iter().any(|(_, name)| name == wanted);
        ensure!(known, "no thread {wanted}: {threads:?}");
    }
    for (thread, name) in &threads {
        has_only(*thread, DAEMON).with_context(|| name.clone())?;
        let held = Held::stop(*thread).with_context(|| name.clone())?;
        files(&held, &daemon).with_context(|| format!("thread {name}"))?;
        calls(&held).with_context(|| format!("thread {name}"))?;
    }
    // And goes on as if nothing had been.
    daemon.palisade(&["status"])?;
    daemon.palisade(&["apply"])?;
    Ok(())
}

#[test]
fn the_process_that_looks_at_others_can_look_and_nothing_else() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, PING)?;
    let lookouts = children(daemon.process()?.id())?;
    let [lookout] = lookouts[..] else {
        anyhow::bail!("the daemon has started {lookouts:?}");
    };
    has_only(lookout, LOOKOUT)?;
    let held = Held::stop(lookout)?;
    let opened = open(&held, "/proc/1/comm", O_RDONLY)?;
    ensure!(opened.is_ok(), "it must be able to look: {opened:?}");
    let secret = daemon.state_dir().join("stolen").display().to_string();
    for (path, how) in [
        ("/proc/1/mem", O_RDWR),
        ("/etc/passwd", O_WRONLY),
        ("/etc/passwd", O_RDONLY | O_TRUNC),
        (secret.as_str(), O_RDONLY | O_CREAT),
    ] {
        assert_eq!(open(&held, path, how)?, Err(Errno::EPERM), "{path}");
    }
    calls(&held)?;
    for family in [AF_INET, AF_INET6, AF_UNIX, AF_NETLINK] {
        let arguments = [Number(family as u64), Number(SOCK_DGRAM as u64), Number(0)];
        assert_eq!(held.call(SYS_socket, &arguments)?, Err(Errno::EPERM));
    }
    assert_eq!(held.call(SYS_bpf, &[Number(0)])?, Err(Errno::EPERM));
    drop(held);

    daemon.kill()?;
    palisade_tests::process::wait_until("it ends with the daemon", PATIENCE, || {
        Ok(!fs::exists(format!("/proc/{lookout}"))?)
    })?;
    Ok(())
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A thread has these capabilities and can get no others.
fn has_only(thread: i32, capabilities: u64) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let found = u64::from_str_radix(field(&status, set).context("no such field")?, 16)?;
        assert_eq!(found, capabilities, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), Some("0000000000000000"), "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs"), Some("1"));
    assert_eq!(field(&status, "Seccomp"), Some("2"));
    Ok(())
}

/// Files that are needed open, and others do not.
fn files(held: &Held, daemon: &Daemon) -> Result<()> {
    let policy = daemon.policy().display().to_string();
    let state = daemon.state_dir().join("tried").display().to_string();
    for (path, how) in [
        (policy.as_str(), O_RDONLY),
        (state.as_str(), O_RDWR | O_CREAT),
        ("/proc/self/stat", O_RDONLY),
        ("/proc/sys/net/ipv4/tcp_syncookies", O_RDWR),
    ] {
        let opened = open(held, path, how)?;
        let Ok(file) = opened else {
            anyhow::bail!("{path} is needed: {opened:?}");
        };
        held.call(SYS_close, &[Number(file)])?.context("close")?;
    }
    let beside = daemon.folder().join("tried").display().to_string();
    for (path, how) in [
        ("/etc/shadow", O_RDONLY),
        ("/etc/ssh", O_RDONLY | O_DIRECTORY),
        ("/root", O_RDONLY | O_DIRECTORY),
        ("/", O_RDONLY | O_DIRECTORY),
        ("/proc/1/environ", O_RDONLY),
        ("/proc/1/cmdline", O_RDONLY),
        ("/proc/sys/kernel/core_pattern", O_RDWR),
        ("/proc/sysrq-trigger", O_WRONLY),
        ("/dev/kmsg", O_RDONLY),
        ("/bin/sh", O_RDONLY),
        ("/tmp/palisade-tried", O_RDWR | O_CREAT),
        (policy.as_str(), O_RDWR),
        (beside.as_str(), O_RDWR | O_CREAT),
    ] {
        // Some kernels are built without it.
        if how & O_CREAT == 0 && !fs::exists(path)? {
            continue;
        }
        assert_eq!(open(held, path, how)?, Err(Errno::EACCES), "{path}");
    }
    let pins = daemon.pins().join("tried").display().to_string();
    let made = held.call(SYS_mkdir, &[Text(&pins), Number(0o700)])?;
    ensure!(made.is_ok(), "pins are needed: {made:?}");
    held.call(SYS_rmdir, &[Text(&pins)])?.context("rmdir")?;
    let other = tempfile::NamedTempFile::new()?;
    let other = other.path().display().to_string();
    let removed = held.call(SYS_unlink, &[Text(&other)])?;
    assert_eq!(removed, Err(Errno::EACCES));
    let moved = held.call(SYS_rename, &[Text(&other), Text(&state)])?;
    assert_eq!(moved, Err(Errno::EACCES));
    Ok(())
}

fn open(held: &Held, path: &str, how: i32) -> Result<Result<u64, Errno>> {
    let arguments = [Number(HERE), Text(path), Number(how as u64), Number(0o600)];
    held.call(SYS_openat, &arguments)
}

/// Calls that lead out of the process, or change the host.
fn calls(held: &Held) -> Result<()> {
    let none = Number(0);
    let page = Number(4_096);
    let anywhere = Number(-1_i64 as u64);
    let code = Number((PROT_READ | PROT_EXEC) as u64);
    let private = Number((MAP_PRIVATE | MAP_ANONYMOUS) as u64);
    let socket = |family: i32, kind: i32| [Number(family as u64), Number(kind as u64), none];
    for (name, call, arguments) in [
        ("execve", SYS_execve, vec![Text("/bin/true"), none, none]),
        (
            "execveat",
            SYS_execveat,
            vec![Number(HERE), Text("/bin/true"), none, none, none],
        ),
        ("fork", SYS_fork, vec![]),
        ("vfork", SYS_vfork, vec![]),
        (
            "clone",
            SYS_clone,
            vec![Number(SIGCHLD as u64), none, none, none, none],
        ),
        (
            "ptrace",
            SYS_ptrace,
            vec![Number(16), Number(1), none, none],
        ),
        ("kill", SYS_kill, vec![Number(1), none]),
        ("tgkill", SYS_tgkill, vec![Number(1), Number(1), none]),
        ("process_vm_readv", SYS_process_vm_readv, vec![Number(1)]),
        ("process_vm_writev", SYS_process_vm_writev, vec![Number(1)]),
        (
            "packet socket",
            SYS_socket,
            socket(AF_PACKET, SOCK_RAW).to_vec(),
        ),
        ("raw socket", SYS_socket, socket(AF_INET, SOCK_RAW).to_vec()),
        ("vsock", SYS_socket, socket(AF_VSOCK, SOCK_STREAM).to_vec()),
        (
            "netfilter",
            SYS_socket,
            vec![
                Number(AF_NETLINK as u64),
                Number(SOCK_RAW as u64),
                Number(12),
            ],
        ),
        (
            "mount",
            SYS_mount,
            vec![none, Text("/mnt"), Text("tmpfs"), none, none],
        ),
        ("umount", SYS_umount2, vec![Text("/mnt"), none]),
        ("unshare", SYS_unshare, vec![Number(CLONE_NEWUSER as u64)]),
        ("setns", SYS_setns, vec![none, none]),
        ("chroot", SYS_chroot, vec![Text("/")]),
        ("setuid", SYS_setuid, vec![none]),
        ("chown", SYS_chown, vec![Text("/etc/passwd"), none, none]),
        ("init_module", SYS_init_module, vec![none, none, Text("")]),
        (
            "bpf: next map",
            SYS_bpf,
            vec![Number(12), Bytes(&[0; 64]), Number(64)],
        ),
        (
            "bpf: program by number",
            SYS_bpf,
            vec![Number(13), Bytes(&[0; 64]), Number(64)],
        ),
        (
            "perf_event_open",
            SYS_perf_event_open,
            vec![none, none, none, anywhere, none],
        ),
        ("io_uring_setup", SYS_io_uring_setup, vec![Number(1), none]),
        ("userfaultfd", SYS_userfaultfd, vec![none]),
        ("keyctl", SYS_keyctl, vec![none]),
        ("personality", SYS_personality, vec![Number(0x0040_0000)]),
        ("settimeofday", SYS_settimeofday, vec![none, none]),
        ("sethostname", SYS_sethostname, vec![Text("x"), Number(1)]),
        ("reboot", SYS_reboot, vec![none, none, none, none]),
        (
            "code in memory",
            SYS_mmap,
            vec![none, page, code, private, anywhere, none],
        ),
        (
            "typing for a terminal",
            SYS_ioctl,
            vec![none, Number(TIOCSTI), none],
        ),
    ] {
        assert_eq!(held.call(call, &arguments)?, Err(Errno::EPERM), "{name}");
    }
    // As unknown, so that the C library starts threads in the way that can be judged.
    let threads = held.call(SYS_clone3, &[Bytes(&[0; 88]), Number(88)])?;
    ensure!(
        [Err(Errno::ENOSYS), Err(Errno::EPERM)].contains(&threads),
        "{threads:?}"
    );
    Ok(())
}
