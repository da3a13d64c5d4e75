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
fn addresses_of_a_prefix_that_try_in_turn_by_the_clock_are_found() {
    let mut wire = Wire::new("accept");
    for attempt in 0..200 {
        let from = visitor(100 + (attempt % 20) as u8);
        let talk = Talk::new(from, 21, 40, 120, SECOND / 25);
        wire.talk(attempt * SECOND / 10, &talk);
    }
    wire.run(30.0);
    wire.expect_one(AlertKind::BruteForce, "203.0.113.0/24");
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

#[test]
fn a_tool_that_tries_several_passwords_in_each_of_a_few_connections_at_once_is_found() {
    let mut wire = Wire::new("accept");
    wire.talk(0, &Talk::new(visitor(9), 22, 1_100, 1_800, SECOND / 10));
    for number in 0..4 {
        let lasts = SECOND / 5 + number * SECOND / 100;
        wire.talk(SECOND / 3, &Talk::new(visitor(9), 22, 1_600, 2_200, lasts));
    }
    wire.run(2.0);
    wire.expect_one(AlertKind::BruteForce, "203.0.113.9");
}

#[test]
fn a_few_logins_one_after_the_other_are_no_attack() {
    let mut wire = Wire::new("accept");
    for number in 0..12 {
        wire.talk(
            number * SECOND,
            &Talk::new(visitor(9), 22, 1_600, 2_200, SECOND / 2),
        );
    }
    wire.run(20.0);
    assert_eq!(wire.fired(), []);
}

/// Visitors who get pages.
fn readers(wire: &mut Wire) {
    for visit in 0..60_u64 {
        let from = visitor(100 + (visit % 20) as u8);
        wire.talk(
            visit * SECOND / 2,
            &Talk::new(from, 80, 900, 30_000, SECOND),
        );
    }
}

#[test]
fn passwords_that_are_tried_at_a_web_server_are_found_where_others_get_pages() {
    let mut wire = Wire::new("accept");
    readers(&mut wire);
    for attempt in 0..600 {
        let after = 15 * SECOND + attempt * SECOND / 50;
        wire.talk(after, &Talk::new(visitor(9), 80, 180, 400, SECOND / 20));
    }
    wire.run(40.0);
    wire.expect_one(AlertKind::BruteForce, "203.0.113.9");
}

#[test]
fn a_web_service_that_programs_ask_for_a_word_at_a_time_is_left_alone() {
    let mut wire = Wire::new("accept");
    for ask in 0..900 {
        // One of them asks for all those behind it.
        let from = visitor(if ask % 3 == 0 {
            9
        } else {
            20 + (ask % 40) as u8
        });
        wire.talk(
            ask * SECOND / 30,
            &Talk::new(from, 80, 180, 400, SECOND / 20),
        );
    }
    wire.run(40.0);
    assert_eq!(wire.fired(), []);
}
