//! The detectors that follow exchanges: they are shown packets, and keep a memory of their own.

use super::book::Book;
use super::exchange::{Event, Exchanges};
use super::logins::Logins;
use super::scanners::Scanners;
use super::sources::Interval;
use super::{AlertKind, Snapshot, Subject};

/// All of them, over one stream of packets.
#[derive(Debug)]
pub(super) struct Watchers {
    exchanges: Exchanges,
    scanners: Scanners,
    logins: Logins,
    events: Vec<Event>,
}

impl Watchers {
    pub fn new() -> Self {
        Self {
            exchanges: Exchanges::new(),
            scanners: Scanners::new(),
            logins: Logins::new(),
            events: Vec::new(),
        }
    }

    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        self.exchanges.clear();
        self.scanners.clear();
        self.logins.clear();
    }

    /// Takes in what was seen since the last tick, and notes what stands out.
    pub fn judge(&mut self, book: &mut Book, interval: Interval, snapshot: &Snapshot) {
        let now = interval.now;
        let mut events = std::mem::take(&mut self.events);
        for sighting in &snapshot.sightings {
            self.exchanges
                .see(sighting, &mut |event| events.push(event));
        }
        self.exchanges
            .settle(interval, &mut |event| events.push(event));
        for event in events.drain(..) {
            match event {
                Event::Attempt(attempt) => {
                    let arranged = self.exchanges.arranges(&attempt.parties);
                    self.scanners.note(&attempt, arranged);
                }
                Event::Ended(session) => self.logins.note(now, &session, book),
            }
        }
        self.events = events;
        // In a flood with forged sources, only who has shown to be there is named.
        let flooded = book.fires(AlertKind::SynFlood, Subject::Host);
        self.scanners.judge(now, flooded, book);
    }
}
