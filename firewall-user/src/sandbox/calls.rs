//! System calls, by seccomp: a list of what may be called, some only with certain arguments. All others
//! fail with EPERM, and the kernel logs them where auditing is on.
//!
//! EPERM and not the end of the process: a call that this list forgot, in a C library that is newer
//! than it, would take the daemon down again and again, on every host at once. As an error it fails one
//! thing, with a message, and whoever sends forbidden calls on purpose gets nothing from either.
#![expect(
    unsafe_code,
    reason = "a filter is handed to the kernel as a raw pointer"
)]

mod lists;

use std::collections::BTreeMap;

use anyhow::Context;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

pub(super) use lists::{DAEMON, LOOKOUT};

/// What a process may call.
pub(super) struct Calls {
    /// With any arguments.
    plain: &'static [libc::c_long],
    /// With these arguments only.
    limited: &'static [Limited],
}

/// A call that is let through if one of its cases fits.
struct Limited {
    call: libc::c_long,
    cases: &'static [&'static [Argument]],
}

/// A condition on one argument, looked at as 32 or 64 bits.
enum Argument {
    Is(u8, u64),
    /// Of these bits, exactly these are set.
    Masked(u8, u64, u64),
    /// The process itself.
    OwnProcess(u8),
}

/// Filters the calls of the calling thread, and of all that it starts.
pub(super) fn restrict(calls: &Calls) -> anyhow::Result<()> {
    let allowed = allowed(calls)?;
    install(&unknown()?)?;
    // Last: it does not let another filter follow.
    install(&allowed)
}

fn allowed(calls: &Calls) -> anyhow::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls.plain {
        rules.insert(*call, Vec::new());
    }
    for limited in calls.limited {
        let cases: Result<Vec<SeccompRule>, _> = limited.cases.iter().map(rule).collect();
        rules.insert(limited.call, cases?);
    }
    // EPERM: see above.
    program(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
    )
}

/// `clone3` has its flags in memory, where a filter cannot look: as unknown, the C library goes back to
/// `clone`, of which only threads are let through.
fn unknown() -> anyhow::Result<BpfProgram> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    program(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> anyhow::Result<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)
        .context("no filter is known for this processor")?;
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture)?;
    Ok(filter.try_into()?)
}

fn rule(case: &&[Argument]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions: Result<Vec<SeccompCondition>, _> = case.iter().map(condition).collect();
    SeccompRule::new(conditions?)
}

fn condition(argument: &Argument) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (at, operator, value) = match *argument {
        Argument::Is(at, value) => (at, SeccompCmpOp::Eq, value),
        Argument::Masked(at, mask, value) => (at, SeccompCmpOp::MaskedEq(mask), value),
        Argument::OwnProcess(at) => (at, SeccompCmpOp::Eq, u64::from(std::process::id())),
    };
    // All that is looked at are ints: of the upper half of a register the kernel takes no notice.
    SeccompCondition::new(at, SeccompCmpArgLen::Dword, operator, value)
}

/// Hands a filter to the kernel, which is told to log what it refuses.
fn install(program: &BpfProgram) -> anyhow::Result<()> {
    let length = program.len().try_into().context("the filter is too long")?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program lives until the call returns, and the kernel copies it.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            &raw const filter,
        )
    };
    if failed != 0 {
        return Err(std::io::Error::last_os_error()).context("the kernel takes no filter");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_make_filters_that_the_kernel_can_take() {
        const LONGEST: usize = 4_096;
        for calls in [&DAEMON, &LOOKOUT] {
            assert!(allowed(calls).expect("a filter").len() <= LONGEST);
        }
        unknown().expect("a filter");
    }

    #[test]
    fn nothing_that_leads_out_of_a_process_is_let_through() {
        for calls in [&DAEMON, &LOOKOUT] {
            let limited = calls.limited.iter().map(|limited| limited.call);
            let all: Vec<libc::c_long> = calls.plain.iter().copied().chain(limited).collect();
            for forbidden in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_ptrace,
                libc::SYS_process_vm_readv,
                libc::SYS_process_vm_writev,
                libc::SYS_pidfd_getfd,
                libc::SYS_mount,
                libc::SYS_setns,
                libc::SYS_unshare,
                libc::SYS_chroot,
                libc::SYS_init_module,
                libc::SYS_finit_module,
                libc::SYS_kexec_load,
                libc::SYS_reboot,
                libc::SYS_setuid,
                libc::SYS_perf_event_open,
                libc::SYS_io_uring_setup,
                libc::SYS_userfaultfd,
                libc::SYS_keyctl,
                libc::SYS_open_by_handle_at,
            ] {
                assert!(!all.contains(&forbidden), "call {forbidden}");
            }
        }
    }
}
