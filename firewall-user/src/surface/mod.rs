//! What of this host can be reached: every listening socket against a policy, judged by the decision
//! itself, and every opening of the policy against what listens.

mod judge;
mod openings;
mod report;
mod shape;
#[cfg(test)]
mod tests;

pub use judge::{Exposure, Judge, Passage, Reach};
pub use openings::{Opening, openings};
pub use report::{ListenerReport, OpeningReport, Surface, Traffic, survey};
