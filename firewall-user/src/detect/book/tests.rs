use super::*;

const SECOND: Time = 1_000_000_000;
const QUIET: Quiet = Quiet {
    floods: 15 * SECOND,
    scans: 60 * SECOND,
};

fn sign(observed: f64) -> Sign {
    Sign {
        kind: AlertKind::SynFlood,
        subject: Subject::Host,
        observed,
        expected: 100.0,
        unit: "SYNs/s",
        started: 0,
    }
}

fn note(book: &mut Book, now: Time, observed: f64) -> Vec<AlertChange> {
    book.note(now, sign(observed), Details::default);
    book.settle(now)
}

#[test]
fn an_alert_fires_once_and_resolves_once_it_is_quiet() {
    let mut book = Book::new(8, QUIET);
    assert!(note(&mut book, SECOND, 99.0).is_empty());
    assert!(matches!(
        note(&mut book, 2 * SECOND, 100.0)[..],
        [AlertChange::Fired(_)]
    ));
    assert!(note(&mut book, 3 * SECOND, 60.0).is_empty());
    assert!(note(&mut book, 17 * SECOND, 10.0).is_empty());
    let changes = note(&mut book, 18 * SECOND, 10.0);
    let [AlertChange::Resolved(alert)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(alert.ended, Some(3 * SECOND));
    assert_eq!(alert.state, AlertState::Resolved);
    assert_eq!(book.alerts().count(), 0);
}

#[test]
fn the_sensitivity_halves_and_doubles_thresholds() {
    for (sensitivity, least) in [
        (Sensitivity::Low, 200.0),
        (Sensitivity::Medium, 100.0),
        (Sensitivity::High, 50.0),
    ] {
        let mut book = Book::new(8, QUIET).with_sensitivity(sensitivity);
        assert!(note(&mut book, SECOND, least - 1.0).is_empty());
        assert_eq!(note(&mut book, 2 * SECOND, least).len(), 1);
    }
}

#[test]
fn a_scan_that_pauses_is_still_the_same_scan() {
    let mut book = Book::new(8, QUIET);
    let scan = Sign {
        kind: AlertKind::PortScan,
        ..sign(100.0)
    };
    book.note(0, scan, Details::default);
    assert_eq!(book.settle(0).len(), 1);
    assert!(book.settle(59 * SECOND).is_empty());
    assert_eq!(book.settle(60 * SECOND).len(), 1);
}

#[test]
fn getting_much_worse_is_an_update_with_the_higher_severity() {
    let mut book = Book::new(8, QUIET);
    note(&mut book, SECOND, 100.0);
    assert!(note(&mut book, 2 * SECOND, 120.0).is_empty());
    assert!(matches!(
        note(&mut book, 3 * SECOND, 150.0)[..],
        [AlertChange::Updated(_)]
    ));
    let changes = note(&mut book, 4 * SECOND, 1_000.0);
    assert_eq!(changes[0].alert().severity, Severity::Critical);
    assert!(note(&mut book, 5 * SECOND, 200.0).is_empty());
    let observed: Vec<_> = book.alerts().map(|alert| alert.observed).collect();
    assert_eq!(observed, [1_000.0]);
}

#[test]
fn no_more_alerts_than_the_capacity_are_raised() {
    let mut book = Book::new(2, QUIET);
    for last in 0..5 {
        let subject = Subject::source(std::net::Ipv4Addr::new(198, 51, 100, last).into());
        book.note(
            SECOND,
            Sign {
                subject,
                ..sign(500.0)
            },
            Details::default,
        );
    }
    assert_eq!(book.alerts().count(), 2);
    assert_eq!(book.suppressed(), 3);
}

#[test]
fn ids_grow_within_one_moment_too() {
    let mut book = Book::new(8, QUIET);
    note(&mut book, SECOND, 100.0);
    book.close();
    note(&mut book, SECOND, 100.0);
    let ids: Vec<_> = book.alerts().map(|alert| alert.id).collect();
    assert_eq!(ids, [SECOND / 1_000 + 1]);
}

/// Shows SYNs of addresses of one /64: `(address, packets, whether they are dropped for a ban)`.
fn show(book: &mut Book, now: Time, of: &[(&str, usize, bool)]) {
    use crate::packet_build::PacketBuilder;
    use firewall_common::Reason;
    use firewall_common::packet::{Frame, NO_VLAN, Packet, flag, parse};
    use firewall_common::sampling::Class;

    let mut sightings = Vec::new();
    for (from, packets, banned) in of {
        let to = "2001:db8::1".parse().unwrap();
        let builder = PacketBuilder::new(from.parse().unwrap(), to).unwrap();
        let frame = builder.tcp(40_000, 443, flag::SYN).build();
        let mut packet = Packet::default();
        parse(&mut Frame::new(&frame), NO_VLAN, &mut packet);
        let mut sighting = Sighting::new(now, packet, Class::Contact, &frame);
        if *banned {
            sighting.reason = Reason::Ban;
        }
        sightings.extend(std::iter::repeat_n(sighting, *packets));
    }
    book.ban(&HashSet::new());
    book.see(now, &sightings);
}

/// What changed, in short: `+` fired, `-` resolved.
fn changes(book: &mut Book, now: Time, observed: f64) -> Vec<String> {
    let sign = Sign {
        subject: "2001:db8:7::/64".parse().unwrap(),
        ..sign(observed)
    };
    book.note(now, sign, Details::default);
    let said = |change| match change {
        AlertChange::Fired(alert) => format!("+{}", alert.subject),
        AlertChange::Updated(alert) => format!("={}", alert.subject),
        AlertChange::Resolved(alert) => format!("-{}", alert.subject),
    };
    book.settle(now).into_iter().map(said).collect()
}

#[test]
fn who_follows_a_banned_address_of_a_64_is_named_anew() {
    let mut book = Book::new(8, QUIET);
    show(
        &mut book,
        SECOND,
        &[("2001:db8:7::1", 95, false), ("2001:db8:7::2", 5, false)],
    );
    assert_eq!(changes(&mut book, SECOND, 120.0), ["+2001:db8:7::1"]);
    // Banned, it goes on: the same alert.
    for second in 2..10 {
        let now = second * SECOND;
        show(
            &mut book,
            now,
            &[("2001:db8:7::1", 95, true), ("2001:db8:7::2", 5, false)],
        );
        assert_eq!(changes(&mut book, now, 120.0), [""; 0]);
    }
    // Another one begins as well.
    for second in 10..16 {
        let now = second * SECOND;
        show(
            &mut book,
            now,
            &[("2001:db8:7::1", 95, true), ("2001:db8:7::3", 95, false)],
        );
        let mut changed = changes(&mut book, now, 300.0);
        // That there is more now comes first.
        changed.retain(|change| !change.starts_with('='));
        if !changed.is_empty() {
            assert_eq!(changed, ["-2001:db8:7::1", "+2001:db8:7::3"]);
            return;
        }
    }
    panic!("the second is never named");
}

#[test]
fn what_a_banned_address_goes_on_to_send_raises_nothing_about_its_64() {
    let mut book = Book::new(8, QUIET);
    for second in 1..10 {
        let now = second * SECOND;
        show(
            &mut book,
            now,
            &[("2001:db8:7::1", 95, true), ("2001:db8:7::2", 15, false)],
        );
        assert_eq!(changes(&mut book, now, 120.0), [""; 0]);
    }
}

#[test]
fn an_alert_about_a_64_becomes_that_of_one_address_once_it_is_known() {
    let mut book = Book::new(8, QUIET);
    assert_eq!(changes(&mut book, SECOND, 120.0), ["+2001:db8:7::/64"]);
    show(&mut book, 3 * SECOND, &[("2001:db8:7::1", 50, false)]);
    assert_eq!(
        changes(&mut book, 3 * SECOND, 120.0),
        ["-2001:db8:7::/64", "+2001:db8:7::1"]
    );
}

#[test]
fn a_64_that_is_banned_becomes_one_address_once_it_is_known_and_raises_nothing_else() {
    let banned = HashSet::from(["2001:db8:7::".parse().unwrap()]);
    let mut book = Book::new(8, QUIET);
    assert_eq!(changes(&mut book, SECOND, 120.0), ["+2001:db8:7::/64"]);
    // What is dropped for the ban of all of it tells who it is.
    show(&mut book, 3 * SECOND, &[("2001:db8:7::1", 50, true)]);
    book.ban(&banned);
    assert_eq!(
        changes(&mut book, 3 * SECOND, 120.0),
        ["-2001:db8:7::/64", "+2001:db8:7::1"]
    );
    // Somebody else who is banned with all of it is not named instead.
    for second in 4..10 {
        let now = second * SECOND;
        show(&mut book, now, &[("2001:db8:7::2", 500, true)]);
        book.ban(&banned);
        assert_eq!(changes(&mut book, now, 120.0), [""; 0]);
    }
}

#[test]
fn the_ban_of_a_single_address_leaves_its_64_to_be_judged() {
    let mut book = Book::new(8, QUIET);
    book.ban(&HashSet::from(["2001:db8:7::9".parse().unwrap()]));
    assert_eq!(changes(&mut book, SECOND, 120.0), ["+2001:db8:7::/64"]);
    let mut book = Book::new(8, QUIET);
    book.ban(&HashSet::from(["2001:db8:7::".parse().unwrap()]));
    assert_eq!(changes(&mut book, SECOND, 120.0), [""; 0]);
}
