//! How the kernel's tick counter tells the time.
//!
//! The packet path reads the time with every packet. Asking for the coarse clock is a call of some 17 ns;
//! the tick counter (`jiffies`) is one load, and moves in the same steps: the kernel adds one whenever
//! another tick of CLOCK_MONOTONIC has passed. So a factor and an offset turn it into that clock's
//! nanoseconds, and both are found here by looking at both at one moment.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

use super::sys;

/// Time in nanoseconds is `count * length + offset`, modulo 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    /// Nanoseconds of a tick; 0 when the counter cannot be used.
    pub(super) length: u64,
    pub(super) offset: u64,
}

/// What kernels are built with (CONFIG_HZ).
const RATES: [u64; 4] = [100, 250, 300, 1_000];
/// How often both are looked at until no tick falls between.
const ATTEMPTS: usize = 100;

/// The counter of this kernel, found once.
pub(super) fn ticks() -> Ticks {
    static FOUND: OnceLock<Ticks> = OnceLock::new();
    *FOUND.get_or_init(|| match measure() {
        Ok(ticks) => ticks,
        Err(error) => {
            tracing::debug!(%error, "the packet path asks for the coarse clock with every packet");
            Ticks::default()
        }
    })
}

fn measure() -> anyhow::Result<Ticks> {
    let counter = sys::TickCounter::load()?;
    for _ in 0..ATTEMPTS {
        let before = coarse();
        let count = counter.read()?;
        if before != coarse() {
            continue;
        }
        return match_rate(count, before).ok_or_else(|| {
            anyhow::anyhow!("{count} ticks in {before} ns are none of the known rates")
        });
    }
    anyhow::bail!("a tick fell into each of {ATTEMPTS} readings")
}

/// The time of the last tick.
fn coarse() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The rate at which so many ticks have passed when the clock shows `now`. The counter begins 300
/// seconds before its lower half wraps (INITIAL_JIFFIES).
fn match_rate(count: u64, now: u64) -> Option<Ticks> {
    RATES.into_iter().find_map(|rate| {
        let length = (1_000_000_000 + rate / 2) / rate;
        let passed = count
            .checked_sub((1 << 32) - 300 * rate)?
            .checked_mul(length)?;
        // The clock begins a little before the counter, and is steered.
        let slack = now / 1_000 + 2_000_000_000;
        (passed.abs_diff(now) < slack).then(|| Ticks {
            length,
            offset: now.wrapping_sub(count.wrapping_mul(length)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_counter_is_told_from_the_uptime() {
        for rate in RATES {
            let uptime = 90_000;
            let count = (1 << 32) - 300 * rate + uptime * rate;
            let now = uptime * 1_000_000_000 + 3_000_000;
            let ticks = match_rate(count, now).unwrap();
            assert_eq!(ticks.length, (1_000_000_000 + rate / 2) / rate);
            let later = (count + 10 * rate)
                .wrapping_mul(ticks.length)
                .wrapping_add(ticks.offset);
            assert!(
                later.abs_diff(now + 10_000_000_000) < 10_000_000,
                "{rate}: {later}"
            );
        }
        assert_eq!(match_rate(1 << 40, 5_000_000_000), None);
    }

    #[test]
    fn the_counter_tells_the_time_of_the_coarse_clock() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: loading a program needs root");
            return;
        }
        let ticks = measure().unwrap();
        let counter = sys::TickCounter::load().unwrap();
        for _ in 0..20 {
            let count = counter.read().unwrap();
            let told = count.wrapping_mul(ticks.length).wrapping_add(ticks.offset);
            let now = super::super::clock::monotonic();
            // A reading may be interrupted for some ticks on a busy machine.
            assert!(told <= now && now - told < 100_000_000, "{told} {now}");
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    }
}
