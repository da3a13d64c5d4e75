//! What has to outlive the daemon, in one place: bans, learned ranges, alerts, incidents, hits, policies.
//!
//! It is kept as rows of one SQLite file, `state.db` in the state folder. Each row has a kind, a key, a value and
//! a checksum, so that what is read is what was written, or nothing. A thread of its own writes, several changes in
//! one transaction, as a disk may be slow or full and neither the fence nor an answer to an attack may wait for it.
//! What cannot be written waits in memory and is tried again; the latest value of a key is enough. A damaged file is
//! set aside, and what can still be read of it goes on in a new one.

mod database;
mod health;
mod migrate;
mod row;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use health::{Health, HealthReport};
pub use row::{Kind, number};
pub use store::Store;

/// The file in the state folder.
pub const FILE: &str = "state.db";
