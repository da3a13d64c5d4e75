//! Sends frames into a wire, from one CPU.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
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
/// Frames of one call of a flood: a fraction of a second.
const PORTION: u32 = 1 << 20;

impl Generator {
    pub fn new(frame: Vec<u8>, sources: Sources) -> Result<Self> {
        Self::of_share(frame, sources, 1.0)
    }

    /// Sends only this share of its frames, drawn at random: the others are gone at once. That is how a
    /// flood gets a pace without coming in bursts.
    pub fn of_share(frame: Vec<u8>, sources: Sources, share: f64) -> Result<Self> {
        Ok(Self {
            program: prologue::generator(&frame, sources, share)?,
            frame,
        })
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

    /// Sends from another CPU until the flood is stopped.
    pub fn flood(&self, wire: &Wire, cpu: usize) -> Result<Flood> {
        let (program, frame) = (self.program.try_clone()?, self.frame.clone());
        let index = wire.index;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = wire.outside.thread(move || {
            bind(cpu)?;
            while !stopped.load(Ordering::Relaxed) {
                kernel::send(program.as_fd(), &frame, index, PORTION, BATCH)?;
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
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), join)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && join(thread).is_err()
        {
            eprintln!("a flood ended with an error");
        }
    }
}

/// Binds the calling thread to a CPU.
pub fn bind(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .with_context(|| format!("binding a thread to CPU {cpu}"))
}
