//! A bounded storm of frames from senders that are bound to processors, with the time of each
//! frame: what was let through can then be compared with what the times allowed, however often the
//! senders were interrupted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::frames::FrameSocket;
use crate::namespace::{Namespace, join};

/// When each frame was sent, over all senders, in nanoseconds from the start; in order.
#[derive(Debug)]
pub struct Sent(pub Vec<u64>);

/// Sends from `interface` of a namespace for as long as `time`, or until every sender has sent
/// `most` frames: one sender on each of these processors. Each makes its frames by `frame`, from
/// the sender's number and the frame's.
pub fn storm(
    namespace: &Namespace,
    interface: &'static str,
    processors: &[usize],
    (time, most): (Duration, u64),
    frame: impl Fn(u64, u64, &mut Vec<u8>) + Clone + Send + 'static,
) -> Result<Sent> {
    let start = Instant::now() + Duration::from_millis(50);
    let senders = processors.iter().zip(0..).map(|(processor, sender)| {
        let (processor, frame) = (*processor, frame.clone());
        namespace.thread(move || {
            let mut set = rustix::thread::CpuSet::new();
            set.set(processor);
            rustix::thread::sched_setaffinity(None, &set).context("binding a sender")?;
            let socket = FrameSocket::open(interface)?;
            let mut bytes = Vec::new();
            let mut times = Vec::new();
            while Instant::now() < start {
                std::hint::spin_loop();
            }
            for number in 0..most {
                let after = start.elapsed();
                if after > time {
                    break;
                }
                frame(sender, number, &mut bytes);
                socket.send(&bytes)?;
                times.push(after.as_nanos() as u64);
            }
            Ok(times)
        })
    });
    let senders: Vec<_> = senders.collect::<Result<_>>()?;
    let mut times = Vec::new();
    for sender in senders {
        times.extend(join(sender)?);
    }
    times.sort_unstable();
    Ok(Sent(times))
}

impl Sent {
    /// How many frames there were.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// How many of them a bucket of tokens lets through that takes in `rate` each second and holds
    /// `burst`.
    pub fn allowed(&self, rate: u64, burst: u64) -> u64 {
        const SECOND: u128 = 1_000_000_000;
        let full = u128::from(burst) * SECOND;
        let (mut tokens, mut last, mut passed) = (full, 0, 0);
        for time in &self.0 {
            tokens = full.min(tokens + u128::from(time - last) * u128::from(rate));
            last = *time;
            if tokens >= SECOND {
                tokens -= SECOND;
                passed += 1;
            }
        }
        passed
    }

    /// Seconds from the first frame to the last.
    pub fn seconds(&self) -> f64 {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) => (last - first) as f64 / 1e9,
            _ => 0.0,
        }
    }
}

/// The processors that this process may use.
pub fn processors() -> Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None).context("asking for the processors")?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|processor| set.is_set(*processor))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_burst_through_and_then_its_rate() {
        let sent = Sent((0..10_000).map(|number| number * 1_000_000).collect());
        assert_eq!(sent.allowed(100, 50), 50 + 999);
        assert_eq!(sent.allowed(2_000, 50), 10_000);
    }
}
