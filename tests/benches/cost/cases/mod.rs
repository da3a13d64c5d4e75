//! What is timed of the programs, by subject.

pub mod bans;
pub mod classbench;
pub mod egress;
pub mod features;
pub mod flood;
pub mod lines;
pub mod rules;
pub mod sets;
pub mod whole;
