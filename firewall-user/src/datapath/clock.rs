//! The packet path's clock beside the calendar.

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the clock of everything in the kernel's maps.
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds since the Unix epoch.
pub fn realtime() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What to take from a Unix time to get the packet clock's.
pub fn offset() -> i128 {
    i128::from(realtime()) - i128::from(monotonic())
}
