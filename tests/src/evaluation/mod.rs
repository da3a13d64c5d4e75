//! What detection is worth, measured: labelled captures, labelled series, and attacks on a live host among ordinary
//! visitors. `cargo xtask evaluate` runs it all and writes docs/detection.md; a short part of it is a test.
//!
//! What a case must raise is said beforehand ([`case::Expectation`]); what it did raise is read
//! from the program's own documents, as anybody's script would.

pub mod captures;
pub mod case;
pub mod live;
pub mod report;
pub mod series;
