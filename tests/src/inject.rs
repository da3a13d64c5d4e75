//! Has a thread of a running process make a system call of a test's choice: what that process may do, tried
//! by itself, with its own capabilities, filters and view of the files.
//!
//! The thread is stopped where it waits in the kernel (ptrace(2)), made to execute the same `syscall`
//! instruction once more with other registers, and put back as it was.
#![cfg(target_arch = "x86_64")]

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc::user_regs_struct;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::patience::stretched;

/// A thread that is held. Let go when dropped.
#[derive(Debug)]
pub struct Held {
    thread: Pid,
    registers: user_regs_struct,
}

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    Number(u64),
    /// A string, written where the thread can read it.
    Text(&'a str),
    /// Bytes, likewise.
    Bytes(&'a [u8]),
}

/// Room below the thread's stack for what is passed, past the area that its code may use without saying so.
const ROOM: u64 = 16_384;
/// How long a thread may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// `syscall`.
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];

impl Held {
    /// Stops a thread in the call that it waits in.
    pub fn stop(thread: i32) -> Result<Self> {
        let thread = Pid::from_raw(thread);
        // One that happens to run is let go on, and caught the next time.
        let began = Instant::now();
        while began.elapsed() < stretched(PATIENCE) {
            ptrace::seize(thread, ptrace::Options::empty()).context("cannot trace")?;
            let held = Self {
                thread,
                registers: interrupt(thread)?,
            };
            let mut before = [0; 2];
            held.memory()?
                .read_exact_at(&mut before, held.registers.rip - 2)?;
            if before == INSTRUCTION {
                return Ok(held);
            }
            drop(held);
            std::thread::sleep(Duration::from_millis(3));
        }
        bail!("thread {thread} is never found waiting")
    }

    /// Makes the thread call; what the kernel answers.
    pub fn call(&self, number: i64, arguments: &[Argument<'_>]) -> Result<Result<u64, Errno>> {
        let mut registers = self.registers;
        let mut room = (registers.rsp - ROOM) & !15;
        let mut words = [0; 6];
        for (word, argument) in words.iter_mut().zip(arguments) {
            let bytes = match argument {
                Argument::Number(number) => {
                    *word = *number;
                    continue;
                }
                Argument::Text(text) => CString::new(*text)?.into_bytes_with_nul(),
                Argument::Bytes(bytes) => bytes.to_vec(),
            };
            self.memory()?.write_all_at(&bytes, room)?;
            *word = room;
            room += (bytes.len() as u64).next_multiple_of(16);
        }
        registers.rip -= INSTRUCTION.len() as u64;
        registers.rax = number.cast_unsigned();
        // No call is under way that the kernel would begin again.
        registers.orig_rax = u64::MAX;
        [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ] = words;
        ptrace::setregs(self.thread, registers)?;
        ptrace::step(self.thread, None)?;
        match waitpid(self.thread, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Stopped(_, nix::sys::signal::Signal::SIGTRAP) => {}
            other => bail!("after call {number} the thread is {other:?}"),
        }
        let answer = ptrace::getregs(self.thread)?.rax.cast_signed();
        Ok(if (-4095..0).contains(&answer) {
            Err(Errno::from_raw(-answer as i32))
        } else {
            Ok(answer.cast_unsigned())
        })
    }

    fn memory(&self) -> Result<fs::File> {
        let path = format!("/proc/{}/mem", self.thread);
        Ok(fs::OpenOptions::new().read(true).write(true).open(path)?)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A thread that has gone needs nothing.
        let _ = ptrace::setregs(self.thread, self.registers);
        let _ = ptrace::detach(self.thread, None);
    }
}

fn interrupt(thread: Pid) -> Result<user_regs_struct> {
    ptrace::interrupt(thread)?;
    match waitpid(thread, Some(WaitPidFlag::__WALL))? {
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => Ok(ptrace::getregs(thread)?),
        other => bail!("thread {thread} is {other:?}"),
    }
}

/// The threads of a process, with their names.
pub fn threads(process: u32) -> Result<Vec<(i32, String)>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/task"))? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("comm"))?;
        let thread = entry.file_name().to_string_lossy().parse()?;
        threads.push((thread, name.trim_end().to_owned()));
    }
    Ok(threads)
}

/// The processes that a process has started and that still run.
pub fn children(process: u32) -> Result<Vec<i32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        // It may end while it is looked at.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if field(&status, "PPid") == Some(&process.to_string()) {
            children.push(child);
        }
    }
    Ok(children)
}

/// A field of `/proc/PID/status`.
pub fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}
