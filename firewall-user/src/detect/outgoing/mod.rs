//! What goes out that should not: data carried off, contacts that a program makes by the clock, and
//! data hidden in the packets of services that nobody looks at.
//!
//! These detectors look at sampled packets, as counts do not tell to whom and when.

mod beaconing;
mod echo;
mod exfiltration;
mod names;
mod recent;
mod tunnel;

use super::book::Book;
use super::sources::Interval;
use super::{Sighting, Subject, Time};
use beaconing::Beacons;
use echo::Echoes;
use exfiltration::Uploads;
use firewall_common::Direction;
use tunnel::Tunnels;

const SECOND: Time = 1_000_000_000;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    tunnels: Tunnels,
    echoes: Echoes,
    beacons: Beacons,
    uploads: Uploads,
}

impl Outgoing {
    /// Takes in what was seen, and notes what stands out.
    pub fn judge(&mut self, book: &mut Book, interval: Interval, sightings: &[Sighting]) {
        let now = interval.now;
        for sighting in sightings {
            // What is stamped outside the tick, as after a step of the clock, belongs to its end.
            let at = sighting.time.clamp(interval.from, now);
            self.tunnels.see(at, sighting);
            self.echoes.see(at, sighting);
            self.beacons.see(at, sighting);
            self.uploads.see(at, sighting);
        }
        self.tunnels.judge(book, now);
        self.echoes.judge(book, now);
        self.beacons.judge(book, now);
        self.uploads.judge(book, now);
    }
}

/// Who is to blame for a question: who asked it, and for the host's own, the host.
fn asker(sighting: &Sighting) -> Subject {
    match sighting.direction {
        Direction::Inbound => Subject::source(sighting.sender()),
        Direction::Outbound => Subject::Host,
    }
}
