//! The audit log: who changed what, when, from where and why, in a file to which lines are only added.
//!
//! Each line holds the hash of the one before, so that a line that was changed, taken out or put in
//! between shows. The hash of the last line is kept beside the log, so that one that was cut off at the
//! end shows too. Whoever can write both files can make both anew: where that matters, the log of the
//! system, which tells each hash as it is made, must be kept on another host.

mod chain;
mod log;
mod record;

pub use chain::{Fault, Verified, verify};
pub use log::AuditLog;
pub use record::{Author, Channel, Entry, Outcome, Record};
