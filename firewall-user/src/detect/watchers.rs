//! The detectors that follow exchanges: they are shown packets, and keep a memory of their own.

use super::book::Book;
use super::exchange::{Event, Exchanges};
use super::forged::Forged;
use super::holders::Holders;
use super::logins::Logins;
use super::requests::Requests;
use super::scanners::Scanners;
use super::sources::Interval;
use super::web_logins::WebLogins;
use super::{AlertKind, Snapshot, Subject, Time};

/// How often open connections are looked through.
const LOOK: Time = 2_000_000_000;

/// All of them, over one stream of packets.
#[derive(Debug)]
pub(super) struct Watchers {
    exchanges: Exchanges,
    scanners: Scanners,
    logins: Logins,
    web_logins: WebLogins,
    holders: Holders,
    requests: Requests,
    forged: Forged,
    looked: Time,
    events: Vec<Event>,
}

impl Watchers {
    pub fn new() -> Self {
        Self {
            exchanges: Exchanges::new(),
            scanners: Scanners::new(),
            logins: Logins::new(),
            web_logins: WebLogins::new(),
            holders: Holders::default(),
            requests: Requests::default(),
            forged: Forged::new(),
            looked: 0,
            events: Vec::new(),
        }
    }

    /// Forgets everything, because time has been lost.
    pub fn clear(&mut self) {
        self.exchanges.clear();
        self.scanners.clear();
        self.logins.clear();
        self.web_logins.clear();
        self.holders.clear();
        self.requests.clear();
        self.forged.clear();
        self.looked = 0;
    }

    /// Takes in what was seen since the last tick, and notes what stands out.
    pub fn judge(&mut self, book: &mut Book, interval: Interval, snapshot: &Snapshot) {
        let now = interval.now;
        let mut events = std::mem::take(&mut self.events);
        for sighting in &snapshot.sightings {
            self.forged.see(sighting);
            self.exchanges
                .see(sighting, &mut |event| events.push(event));
        }
        self.exchanges
            .settle(interval, &mut |event| events.push(event));
        for event in events.drain(..) {
            match event {
                Event::Attempt(attempt) => {
                    // What a data connection does, or perhaps somebody else, weighs little.
                    let doubtful = self.forged.is_astray(&attempt)
                        || (attempt.parties.server_port >= 1024
                            && self.exchanges.arranges(&attempt.parties));
                    self.scanners.note(&attempt, doubtful);
                    if attempt.is_in_vain() {
                        let who = attempt.parties.client_address();
                        book.blame(attempt.time, AlertKind::PortScan, who);
                    }
                }
                Event::Ended(session) => {
                    self.forged.learn(&session);
                    self.logins.note(now, &session, book);
                    self.web_logins.note(now, &session, book);
                }
            }
        }
        self.events = events;
        // In a flood with forged sources, only who has shown to be there is named.
        let flooded = [
            AlertKind::SynFlood,
            AlertKind::UdpFlood,
            AlertKind::Amplification,
        ]
        .into_iter()
        .any(|kind| book.fires(kind, Subject::Host));
        self.scanners.judge(now, flooded, book);
        self.forged.judge(interval, book);
        self.requests.judge(interval, snapshot, book);
        if let Some(sockets) = &snapshot.sockets {
            self.holders.judge_sockets(now, sockets, book);
        }
        if now.saturating_sub(self.looked) >= LOOK {
            self.looked = now;
            self.holders.judge_seen(now, self.exchanges.open(), book);
        }
    }
}
