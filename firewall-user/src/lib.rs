//! Palisade's user space: the daemon and the command line, as a library so that tests and
//! benchmarks use the same parts as the binary.

pub mod audit;
pub mod bans;
pub mod cli;
pub mod daemon;
pub mod datapath;
pub mod detect;
pub mod doctor;
pub mod engine;
pub mod export;
pub mod guard;
pub mod host;
pub mod import;
pub mod packet_build;
pub mod policy;
pub mod propose;
pub mod replay;
pub mod respond;
pub mod sandbox;
pub mod settings;
pub mod state;
pub mod surface;
pub mod terminal;
