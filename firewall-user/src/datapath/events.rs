//! The stream of sampled packets.
#![expect(unsafe_code, reason = "an event is read from the ring buffer's bytes")]

use anyhow::Context;
use aya::maps::{MapData, RingBuf};
use firewall_common::layout::Event;
use tokio::io::unix::AsyncFd;

use super::object::open_map;
use super::pins::Pins;

/// The reading end; one at a time.
pub struct Events {
    ring: AsyncRing,
}

enum AsyncRing {
    /// Not yet known to a runtime.
    Idle(Option<RingBuf<MapData>>),
    Registered(AsyncFd<RingBuf<MapData>>),
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn open(pins: &Pins) -> anyhow::Result<Self> {
        let ring = RingBuf::try_from(open_map(pins, "EVENTS")?)?;
        Ok(Self {
            ring: AsyncRing::Idle(Some(ring)),
        })
    }

    /// Waits for the next sampled packet. Must run within a tokio runtime.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        if let AsyncRing::Idle(ring) = &mut self.ring {
            let ring = ring.take().context("the event stream was lost")?;
            // SAFETY: the ring owns its descriptor and gives the same one until it is dropped.
            let registered = unsafe { AsyncFd::register(ring) }.map_err(std::io::Error::from)?;
            self.ring = AsyncRing::Registered(registered);
        }
        let AsyncRing::Registered(ring) = &mut self.ring else {
            anyhow::bail!("the event stream was lost");
        };
        loop {
            if let Some(event) = take(ring.get_mut()) {
                return Ok(event);
            }
            ring.readable_mut().await?.clear_ready();
        }
    }
}

fn take(ring: &mut RingBuf<MapData>) -> Option<Event> {
    loop {
        let item = ring.next()?;
        if item.len() == size_of::<Event>() {
            // SAFETY: the bytes are as long as an event, and any bytes are one.
            return Some(unsafe { item.as_ptr().cast::<Event>().read_unaligned() });
        }
    }
}
