//! A short part of `cargo xtask evaluate`: what detection is worth must not become less.

use anyhow::{Context, Result};
use palisade_tests::evaluation::captures;
use palisade_tests::evaluation::case::Outcome;
use palisade_tests::evaluation::live::{self, Scene};
use palisade_tests::{note, skip_unless_root, skipped};

/// Visitors of any kind that are served while a host is attacked, at least.
const SERVED: f64 = 0.9;
/// And of their connections to a service that SYN cookies stand before.
const CONNECTED: f64 = 0.95;

#[test]
fn captures_of_attacks_raise_the_right_kind() -> Result<()> {
    let Some(folder) = captures::folder() else {
        skipped("no captures (PALISADE_DATA names the folder that has them)");
        return Ok(());
    };
    let found = captures::run(&folder, "", true)?;
    let missed = found
        .attack
        .iter()
        .filter(|case| case.outcome == Outcome::Missed);
    let missed: Vec<String> = missed
        .map(|case| format!("{} ({})", case.name, case.setting))
        .collect();
    assert!(missed.is_empty(), "missed: {missed:#?}");
    let wrong: Vec<_> = found.attack.iter().flat_map(|case| &case.wrong).collect();
    assert!(wrong.is_empty(), "of a wrong kind: {wrong:#?}");
    let alarms: Vec<_> = found.benign.iter().flat_map(|case| &case.wrong).collect();
    assert!(alarms.is_empty(), "false alarms: {alarms:#?}");
    Ok(())
}

#[test]
fn a_scan_among_visitors_is_seen_and_costs_them_nothing() -> Result<()> {
    attacked_by("nmap-syn")
}

#[test]
fn a_spoofed_flood_among_visitors_is_seen_and_answered_with_cookies_and_costs_them_nothing()
-> Result<()> {
    attacked_by("syn-flood-cookies")
}

#[test]
fn a_flood_of_requests_among_visitors_is_seen_and_costs_them_nothing() -> Result<()> {
    attacked_by("http-flood")
}

/// The attack must be seen as what it is, and visitors must be left alone.
fn attacked_by(name: &str) -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let attack = live::named(name).with_context(|| format!("no attack {name}"))?;
    let scene = live::assail(attack, false)?;
    note(&scene.line());
    let Scene {
        case, false_alarms, ..
    } = &scene;
    assert_eq!(case.outcome, Outcome::Detected, "{scene:#?}");
    assert!(false_alarms.is_empty(), "{false_alarms:#?}");
    assert_eq!(scene.visitors_dropped, 0, "{scene:#?}");
    let served = scene.served_during().context("nobody asked for anything")?;
    assert!(served > SERVED, "{scene:#?}");
    if let Some(cookies) = &scene.cookies {
        assert!(cookies.served_their_purpose(CONNECTED), "{scene:#?}");
    }
    Ok(())
}
