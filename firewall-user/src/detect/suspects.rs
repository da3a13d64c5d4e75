//! Sources that seem to scan, but opened no connection: whether each tries around, or all are names in one
//! flood of datagrams to many ports.
//!
//! Anybody can write any name on a datagram. In a flood that takes another port for each packet every name soon
//! has as many ports as a scanner. What tells them apart is their number: scanners come one by one, the names
//! of a flood all at once.

use super::Time;
use super::book::{Book, Details, Sign};

/// More than so many such sources in one tick are the names of a flood.
const MOST: usize = 8;

/// Those of one tick.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// All that are half way to an alert or beyond.
    count: usize,
    told: Vec<(Sign, Details)>,
}

impl Suspects {
    /// Adds one that has reached the release level of an alert.
    pub fn add(&mut self, sign: Sign, details: impl FnOnce() -> Details) {
        self.count += 1;
        if self.told.len() < MOST {
            self.told.push((sign, details()));
        }
    }

    /// Notes them, unless they are too many.
    pub fn settle(self, now: Time, book: &mut Book) {
        if self.count > MOST {
            return;
        }
        for (sign, details) in self.told {
            book.note(now, sign, || details);
        }
    }
}
