//! Recorded traffic through the fence: reads captures, judges their packets with either engine on
//! the capture's own clock, and feeds the detectors what a live host would have counted.

pub mod capture;
mod clock;
pub mod compare;
mod direction;
pub mod explain;
mod judges;
mod outcome;
mod report;
mod run;
mod supplement;

pub use crate::engine::ip_address;
pub use clock::ReplayClock;
pub use direction::Inside;
pub use judges::Judges;
pub use outcome::Outcome;
pub use report::{EngineKind, Report, Rules, Tally};
pub use run::{Options, Replay};
