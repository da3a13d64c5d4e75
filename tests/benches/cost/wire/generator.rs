//! Sends frames into a wire, from one CPU.

use std::collections::HashSet;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::namespace::join;
use serde::Serialize;

use super::Wire;
use crate::kernel;
use crate::prologue::{self, Sources};

/// One frame and what is done to it before each is sent.
pub struct Generator {
    program: OwnedFd,
    frame: Vec<u8>,
}

/// What got through the wire.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rate {
    pub sent: u64,
    /// Frames that the filter's end took, and judged.
    pub received: u64,
    pub seconds: f64,
}

/// Frames handed to the interface at a time, as a driver's poll would.
const BATCH: u32 = 64;
/// Frames of the first call, when it is not yet known how long they take.
const FIRST: u32 = 512;
/// Frames of one call of a flood: more than it will live to send.
const ENDLESS: u32 = 1 << 31;
/// Interrupts the call of a flood that is to end.
const WAKE_UP: libc::c_int = libc::SIGUSR1;

impl Generator {
    pub fn new(frame: Vec<u8>, sources: Sources) -> Result<Self> {
        Self::of_share(frame, sources, 1.0)
    }

    /// Sends only this share of its frames, drawn at random: the others are gone at once. That is how a
    /// flood gets a pace without coming in bursts.
    pub fn of_share(frame: Vec<u8>, sources: Sources, share: f64) -> Result<Self> {
        let program = prologue::generator(&frame, sources, share)?;
        if sources == Sources::Random {
            check(program.as_fd(), &frame)?;
        }
        Ok(Self { program, frame })
    }

    /// Sends for about this long, from the CPU that also receives: the rate is what generator
    /// and filter reach together on one core.
    pub fn rate(&self, wire: &Wire, cpu: usize, time: Duration) -> Result<Rate> {
        let (program, frame) = (self.program.try_clone()?, self.frame.clone());
        let index = wire.index;
        let before = wire.received()?;
        let (sent, seconds) = wire.outside.inside(move || {
            bind(cpu)?;
            let time = time.as_secs_f64();
            let (mut sent, mut seconds, mut count) = (0_u64, 0.0, FIRST);
            while seconds < time {
                let each = kernel::send(program.as_fd(), &frame, index, count, BATCH)?;
                let each = f64::from(each.max(1)) / 1e9;
                sent += u64::from(count);
                seconds += each * f64::from(count);
                let left = (time - seconds).max(time / 10.0);
                count = (left / each).clamp(f64::from(BATCH), 1e7) as u32;
            }
            Ok((sent, seconds))
        })?;
        let received = wire.received()?.saturating_sub(before);
        Ok(Rate {
            sent,
            received,
            seconds,
        })
    }

    /// Sends from another CPU until the flood is stopped, in one call: between two calls the kernel
    /// takes a while, and the flood would have gaps.
    pub fn flood(&self, wire: &Wire, cpu: usize) -> Result<Flood> {
        let (program, frame) = (self.program.try_clone()?, self.frame.clone());
        let index = wire.index;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        take_wake_up()?;
        let thread = wire.outside.thread(move || {
            bind(cpu)?;
            while !stopped.load(Ordering::Relaxed) {
                match kernel::send(program.as_fd(), &frame, index, ENDLESS, BATCH) {
                    Err(error) if !interrupted(&error) => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })?;
        Ok(Flood {
            stop,
            thread: Some(thread),
        })
    }
}

impl Rate {
    pub fn per_second(&self) -> f64 {
        self.received as f64 / self.seconds.max(1e-9)
    }
}

/// Frames on their way; they end when this goes.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.stop.store(true, Ordering::Relaxed);
        // It may be about to call when it is interrupted: so again, until it has seen the word.
        while !thread.is_finished() {
            // SAFETY: the thread has not been joined, so its number is its own.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), WAKE_UP) };
            std::thread::sleep(Duration::from_millis(5));
        }
        join(thread)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("a flood ended with an error: {error:#}");
        }
    }
}

/// What it sends are frames that a host would take: each from another source, with its checksum right, and all else as it was.
fn check(program: BorrowedFd<'_>, frame: &[u8]) -> Result<()> {
    const TRIES: usize = 256;
    // The checksum of the IP header and the source behind it, and the port.
    const DRAWN: [Range<usize>; 2] = [24..30, 34..36];
    let (mut sources, mut frames) = (HashSet::new(), 0);
    for _ in 0..TRIES {
        let (verdict, sent) = kernel::change(program, frame)?;
        if verdict == prologue::XDP_DROP {
            continue;
        }
        let sum: u32 = sent[14..34]
            .chunks_exact(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        // The carries are less than 16.
        let sum = (sum + (sum >> 16)) & 0xffff;
        let mut rest = sent.clone();
        for drawn in DRAWN {
            rest[drawn.clone()].copy_from_slice(&frame[drawn]);
        }
        ensure!(
            sum == 0xffff && sent[26] < 224 && rest == frame,
            "the generator made a frame that is wrong: {sent:02x?}, verdict {verdict}"
        );
        sources.insert(sent[26..30].to_vec());
        frames += 1;
    }
    // Two of a few hundred may be the same by chance.
    ensure!(
        sources.len() + 1 >= frames,
        "{} sources in {frames} frames",
        sources.len()
    );
    Ok(())
}

/// Makes [`WAKE_UP`] interrupt a call and do nothing else.
fn take_wake_up() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: a zeroed sigaction is a valid one, and the handler does nothing at all.
    let failed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(WAKE_UP, &raw const action, std::ptr::null_mut()) != 0
    };
    if failed {
        return Err(std::io::Error::last_os_error()).context("taking a signal");
    }
    Ok(())
}

fn interrupted(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::Interrupted)
}

/// Binds the calling thread to a CPU.
fn bind(cpu: usize) -> Result<()> {
    bind_to(None, &[cpu])
}

/// Binds a process or a thread of the kernel to CPUs.
pub fn bind_process(process: i32, cpus: &[usize]) -> Result<()> {
    let process = rustix::process::Pid::from_raw(process).context("no process number")?;
    bind_to(Some(process), cpus)
}

fn bind_to(process: Option<rustix::process::Pid>, cpus: &[usize]) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    rustix::thread::sched_setaffinity(process, &set)
        .with_context(|| format!("binding to CPUs {cpus:?}"))
}
