//! The detectors over synthetic traffic: each fires once, names the right subject, and resolves;
//! and nothing fires where nothing happened.

mod accidents;
mod addresses;
mod departures;
mod floods;
mod forged;
mod logins;
mod outgoing;
mod prefixes;
mod requests;
mod scans;
mod scene;
mod slow_clients;
mod slow_scans;
mod stream_accidents;
mod syn_floods;
mod wire;
