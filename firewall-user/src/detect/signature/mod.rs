//! Finds what the packets of a flood have in common and ordinary ones have not: the *signature*, a few
//! conditions on header fields.
//!
//! A flood from forged or very many sources cannot be banned by source, but its packets come from one
//! program and show it. The search is that of association rules: items are conditions on fields,
//! and wanted is the smallest conjunction that many packets of the flood and next to none of the
//! ordinary ones satisfy (D. Brauckhoff, X. Dimitropoulos, A. Wagner, K. Salamatian: "Anomaly extraction
//! in backbone networks using association rules", IMC 2009). Instead of all frequent item sets only
//! the best few are followed (a beam), judged by information gain (J. R. Quinlan: "Induction of
//! decision trees", Machine Learning 1, 1986).
//!
//! Pure: samples in, conditions and estimates out.

mod about;
mod condition;
mod estimate;
mod propose;
mod sample;
mod search;
mod specimen;
#[cfg(test)]
mod tests;
mod told;
mod watch;

pub use about::About;
pub use condition::{Condition, conditions, in_words, rule_text};
pub use estimate::Share;
pub use sample::Reservoir;
pub use search::{Limits, Material, Search, Signature, search, search_all};
pub use specimen::{Service, Specimen};
pub use told::{EVIDENCE, evidence, name, reason};
pub use watch::{Finding, KeptOrdinary, Watch};
