//! Passwords that are tried, and short connections that are none.

use super::scene::SECOND;
use super::wire::*;
use crate::detect::*;

/// A login at ssh that fails.
fn failed(client: std::net::IpAddr) -> Talk {
    Talk::new(client, 22, 2_200, 2_600, 2 * SECOND)
}

#[test]
fn passwords_that_one_source_tries_are_found_while_it_goes_on() {
    for every in [SECOND / 10, SECOND, 4 * SECOND] {
        let mut wire = Wire::new("accept");
        for attempt in 0..60 {
            // Several at once, and not in step.
            let after = attempt * every + attempt * 7 % 5 * every / 3;
            wire.talk(after, &failed(visitor(9)));
        }
        wire.run(70.0 * every as f64 / 1e9 + 20.0);
        let alert = wire.expect_one(AlertKind::BruteForce, "203.0.113.9");
        assert!(alert.detected - alert.started <= 30 * every + 10 * SECOND);
    }
}

#[test]
fn passwords_that_a_prefix_tries_are_the_prefixes() {
    for (network, subject) in [
        ("203.0.113.", "203.0.113.0/24"),
        ("2001:db8:5:", "2001:db8:5::/48"),
    ] {
        let mut wire = Wire::new("accept");
        for attempt in 0..120_u64 {
            let number = attempt % 30;
            let client = match network.contains(':') {
                true => format!("{network}{number:x}::1"),
                false => format!("{network}{}", 10 + number),
            };
            let mut talk = failed(client.parse().unwrap());
            if network.contains(':') {
                talk.server = "2001:db8::1".parse().unwrap();
            }
            wire.talk(attempt * SECOND + attempt * 3 % 7 * SECOND / 5, &talk);
        }
        wire.run(140.0);
        wire.expect_one(AlertKind::BruteForce, subject);
    }
}

#[test]
fn a_probe_that_looks_in_every_few_seconds_is_no_attack() {
    let mut wire = Wire::new("accept");
    for probe in 0..200 {
        let mut talk = failed(visitor(9));
        talk.lasts = Some(SECOND / 5);
        wire.talk(probe * 3 * SECOND, &talk);
    }
    wire.run(650.0);
    assert_eq!(wire.fired(), []);
}

#[test]
fn short_visits_to_a_web_server_are_no_logins() {
    let mut wire = Wire::new("accept");
    for visit in 0..600 {
        wire.talk(
            visit * SECOND / 10,
            &Talk::new(visitor(9), 80, 400, 2_000, SECOND / 4),
        );
    }
    wire.run(70.0);
    assert_eq!(wire.fired(), []);
}

#[test]
fn sessions_in_which_work_is_done_are_no_attack() {
    let mut wire = Wire::new("accept");
    for session in 0..120 {
        let after = session * SECOND + session * 7 % 5 * SECOND / 3;
        wire.talk(after, &Talk::new(visitor(9), 22, 9_000, 60_000, 2 * SECOND));
    }
    wire.run(130.0);
    assert_eq!(wire.fired(), []);
}

#[test]
fn somebody_who_mistypes_a_password_now_and_then_is_left_alone() {
    let mut wire = Wire::new("accept");
    for attempt in 0..30 {
        let after = attempt * 30 * SECOND + attempt * 7 % 5 * SECOND;
        wire.talk(after, &failed(visitor(9)));
    }
    wire.run(1_000.0);
    assert_eq!(wire.fired(), []);
}
