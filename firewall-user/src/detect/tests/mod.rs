//! The detectors over synthetic traffic: each fires once, names the right subject, and resolves;
//! and nothing fires where nothing happened.

mod accidents;
mod floods;
mod logins;
mod outgoing;
mod prefixes;
mod scans;
mod scene;
mod slow_scans;
mod syn_floods;
mod wire;
