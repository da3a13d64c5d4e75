//! Finds what is out of the ordinary: a pure function of time and counts, so that a live host, a
//! recorded capture and a synthetic series go through the same code. No I/O, no clock, no maps.

use std::hash::{DefaultHasher, Hash, Hasher};

mod addresses;
mod alert;
pub mod baseline;
mod book;
mod config;
mod contacts;
mod crowd;
mod delta;
mod departures;
mod detector;
mod exchange;
mod fifo;
mod forged;
mod glance;
pub(crate) mod hashed;
mod holders;
mod host;
mod incident;
mod input;
pub mod learned;
mod logins;
mod outgoing;
mod pace;
mod per_source;
mod prefixes;
mod relaxed;
mod requests;
mod scanners;
mod service_name;
mod sighting;
pub mod signature;
mod socket;
mod sources;
mod strays;
mod suspects;
mod walk;
mod watchers;
mod web_logins;
mod window;

pub use alert::*;
pub use config::*;
pub use departures::KeptRanges;
pub use detector::*;
pub use glance::Glance;
pub use incident::*;
pub use input::*;
pub use pace::*;
pub use prefixes::prefix_of;
pub use service_name::ServiceName;
pub use sighting::*;
pub use socket::*;

/// The same for the same value, in one run of the program.
fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
