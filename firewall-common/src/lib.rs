//! What the kernel programs and user space must agree on.
//!
//! The packet parser, the decision and the source accounting are written once, here, over traits:
//! the kernel program implements them over the packet and BPF maps, user space over slices.
//! `explain`, `replay` and the fuzzers therefore run the very code that the kernel runs.

#![no_std]

pub mod address;
pub mod address_table;
pub mod bans;
pub mod cookies;
pub mod decide;
pub mod fragments;
pub mod image;
pub mod layout;
pub mod limit;
pub mod packet;
pub mod sampling;
pub mod signature;
pub mod sources;
pub mod trial;
pub mod verdict;

pub use address::Address;
pub use verdict::{Direction, Reason, Verdict};
