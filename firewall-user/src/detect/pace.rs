//! When to tick over a recording: at the capture's own time, and not a million times over a gap.

use std::time::Duration;

use super::Time;

/// Tells the times at which a replay owes the detector a tick.
///
/// Ask [`Pacer::due`] before each packet is counted; tick once for every time it gives, with the
/// counts of the packets before. After the last packet, tick once more at [`Pacer::end`].
#[derive(Clone, Debug)]
pub struct Pacer {
    every: Time,
    next: Option<Time>,
    latest: Time,
}

impl Pacer {
    /// A tick every `every`; less than a millisecond counts as one.
    pub fn new(every: Duration) -> Self {
        let every = every.max(Duration::from_millis(1)).as_nanos();
        Self {
            every: Time::try_from(every).unwrap_or(Time::MAX),
            next: None,
            latest: 0,
        }
    }

    /// The times to tick at before counting a packet of time `packet`: none, the time that was due,
    /// or after a gap also the packet's own, so that what follows the gap is not spread over it.
    /// A recording that jumps back starts over there.
    pub fn due(&mut self, packet: Time) -> impl Iterator<Item = Time> + use<> {
        let (mut first, mut second) = (None, None);
        match self.next {
            Some(next) if packet >= next => {
                first = Some(next);
                if packet - next >= self.every {
                    second = Some(packet);
                    self.next = Some(packet.saturating_add(self.every));
                } else {
                    self.next = Some(next.saturating_add(self.every));
                }
            }
            Some(next) if next - packet > self.every.saturating_mul(2) => {
                first = Some(packet);
                self.next = Some(packet.saturating_add(self.every));
            }
            Some(_) => {}
            None => self.next = Some(packet.saturating_add(self.every)),
        }
        self.latest = packet;
        first.into_iter().chain(second)
    }

    /// The time of the closing tick: the latest packet's.
    pub fn end(&self) -> Time {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;

    fn ticks(packets: &[Time]) -> Vec<Time> {
        let mut pacer = Pacer::new(Duration::from_secs(1));
        packets.iter().flat_map(|time| pacer.due(*time)).collect()
    }

    #[test]
    fn a_steady_recording_ticks_on_the_grid() {
        let packets: Vec<Time> = (0..=8).map(|half| half * SECOND / 2).collect();
        assert_eq!(
            ticks(&packets),
            [SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]
        );
    }

    #[test]
    fn a_gap_of_years_costs_two_ticks() {
        let year = 31_556_952 * SECOND;
        assert_eq!(ticks(&[0, year]), [SECOND, year]);
    }

    #[test]
    fn a_recording_that_jumps_back_starts_over_there() {
        assert_eq!(
            ticks(&[100 * SECOND, 5 * SECOND, 6 * SECOND]),
            [5 * SECOND, 6 * SECOND]
        );
    }

    #[test]
    fn packets_slightly_out_of_order_cause_no_tick() {
        assert_eq!(ticks(&[SECOND, SECOND / 2, SECOND]), Vec::<Time>::new());
    }

    #[test]
    fn the_end_is_the_latest_packet() {
        let mut pacer = Pacer::new(Duration::from_secs(1));
        let _ = pacer.due(5 * SECOND);
        let _ = pacer.due(5 * SECOND + 7);
        assert_eq!(pacer.end(), 5 * SECOND + 7);
    }
}
