//! A kernel that lacks something: a seccomp filter makes one bpf(2) command fail for a child the
//! way it fails where the kernel does not know it.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Whether this kernel is at least as new as `wanted`, such as `(6, 6)`.
pub fn is_at_least(wanted: (u32, u32)) -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .ok()
        .and_then(|release| numbers(&release))
        .is_some_and(|own| own >= wanted)
}

/// The first two numbers of a release.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release
        .split(|each: char| !each.is_ascii_digit())
        .map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The first kernel with tcx.
pub const TCX: (u32, u32) = (6, 6);

/// Which commands of bpf(2) are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The whole system call, as in a kernel without CONFIG_BPF_SYSCALL.
    Bpf,
    /// One command, as in a kernel older than it.
    Command(u32),
    /// A system call, as in a kernel that has it switched off.
    Call(libc::c_long),
}

/// Landlock, as in a kernel that was started without it.
pub const LANDLOCK: Missing = Missing::Call(libc::SYS_landlock_create_ruleset);
/// BPF_MAP_CREATE: what asking for an unknown kind of map comes to.
pub const MAPS: Missing = Missing::Command(0);
/// BPF_PROG_LOAD: what a program with unknown features comes to.
pub const PROGRAMS: Missing = Missing::Command(5);

/// Makes `command` run under a kernel that lacks something.
pub fn without(command: &mut Command, missing: Missing) -> &mut Command {
    let filter = filter(missing);
    // SAFETY: between fork and exec the closure only makes two system calls with memory that it
    // owns; it does not allocate.
    unsafe { command.pre_exec(move || install(&filter)) }
}

fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to the filter, which outlives the calls.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A classic BPF program over `struct seccomp_data`: the system call's number is at 0, the low
/// half of its first argument (bpf's command) at 16.
fn filter(missing: Missing) -> Vec<libc::sock_filter> {
    const NUMBER: u32 = 0;
    const FIRST_ARGUMENT: u32 = 16;
    let load = |k| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, k, 0, 0);
    let unless_equal = |k, skip| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, 0, skip);
    let answer = |k| statement(libc::BPF_RET | libc::BPF_K, k, 0, 0);
    let fail = |error: i32| answer(libc::SECCOMP_RET_ERRNO | error as u32);
    match missing {
        Missing::Bpf => filter(Missing::Call(libc::SYS_bpf)),
        Missing::Call(number) => vec![
            load(NUMBER),
            unless_equal(number as u32, 1),
            fail(libc::ENOSYS),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
        Missing::Command(number) => vec![
            load(NUMBER),
            unless_equal(libc::SYS_bpf as u32, 3),
            load(FIRST_ARGUMENT),
            unless_equal(number, 1),
            fail(libc::EINVAL),
            answer(libc::SECCOMP_RET_ALLOW),
        ],
    }
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_its_two_numbers() {
        assert_eq!(numbers("6.1.0-56-cloud-amd64\n"), Some((6, 1)));
        assert_eq!(numbers("6.12.117+deb12"), Some((6, 12)));
        assert_eq!(numbers("next"), None);
    }
}
