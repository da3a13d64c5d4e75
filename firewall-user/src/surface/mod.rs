//! What of this host can be reached: every listening socket against a policy, judged by the decision
//! itself, and every opening of the policy against what listens.

mod judge;
mod openings;
mod shape;
#[cfg(test)]
mod tests;

pub use judge::{Exposure, Judge, Passage, Reach};
pub use openings::{Opening, openings};
