use super::*;
use crate::respond::book::tests::record;
use crate::respond::regulars::tests::regulars;

const HOUR: i64 = 3_600;
/// When the alerts' causes began: after the connections of those who are ordinarily there.
const STARTED: Time = 300_000_000_000;

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// A decision with all its circumstances.
struct Scene {
    settings: RespondSettings,
    protected: Vec<IpNet>,
    bans: BanBook,
    offenders: Offenders,
    regulars: Regulars,
    now: Timestamp,
}

impl Scene {
    fn new(mode: RespondMode) -> Self {
        Self {
            settings: RespondSettings {
                mode,
                prefix_after: 3,
                ..RespondSettings::default()
            },
            protected: vec![net("198.51.100.0/24"), net("2001:db8:1::5/128")],
            bans: BanBook::default(),
            offenders: Offenders::default(),
            regulars: Regulars::default(),
            now: at(0),
        }
    }

    fn answer(&self, kind: AlertKind, source: &str) -> Response {
        Case {
            settings: &self.settings,
            protected: &self.protected,
            bans: &self.bans,
            offenders: &self.offenders,
            regulars: &self.regulars,
            kind,
            source: net(source),
            started: STARTED,
            now: self.now,
        }
        .decide()
    }

    fn act(&self, kind: AlertKind, source: &str) -> Act {
        match self.answer(kind, source) {
            Response::Act(act) => act,
            other => panic!("{kind} by {source}: {other:?}"),
        }
    }

    /// Puts an answer in force, as the warden does.
    fn put(&mut self, act: &Act) {
        self.offenders.note(
            act.record.prefix,
            self.now,
            act.record.expires,
            self.settings.forget_after,
        );
        self.bans.insert(act.record.clone());
    }
}

#[test]
fn nothing_is_done_unless_the_settings_ask_for_it() {
    let scene = Scene::new(RespondMode::Observe);
    for kind in AlertKind::ALL {
        assert_eq!(scene.answer(kind, "203.0.113.7/32"), Response::Nothing);
    }
}

#[test]
fn a_scanner_is_banned_or_limited_as_the_settings_say() {
    for (mode, measure) in [
        (RespondMode::Ban, Measure::Ban),
        (RespondMode::Limit, Measure::Limit),
    ] {
        for source in ["203.0.113.7/32", "2001:db8:7:7::/64"] {
            let act = Scene::new(mode).act(AlertKind::PortScan, source);
            assert_eq!(act.record.prefix, net(source));
            assert_eq!(act.record.measure, measure);
            assert_eq!(act.record.origin, Origin::Automatic);
            assert_eq!(act.record.expires, Some(at(600)));
            assert_eq!((act.note, act.ordinary), (None, 0));
        }
    }
}

#[test]
fn each_offence_is_answered_for_longer_and_clean_time_forgives() {
    let mut scene = Scene::new(RespondMode::Ban);
    let mut expected = 600;
    for offence in 1..=3 {
        let act = scene.act(AlertKind::PortScan, "203.0.113.7/32");
        let length = act.record.expires.expect("an end").as_second() - scene.now.as_second();
        assert_eq!(length, expected, "offence {offence}");
        scene.put(&act);
        scene.now = act.record.expires.expect("an end");
        scene.bans.expire(scene.now);
        expected *= 2;
    }
    let reason = scene
        .act(AlertKind::PortScan, "203.0.113.7/32")
        .record
        .reason;
    assert_eq!(reason.as_deref(), Some("alert port_scan, offence 4"));
    scene.now = at(scene.now.as_second() + 4 * 24 * HOUR);
    let act = scene.act(AlertKind::PortScan, "203.0.113.7/32");
    assert_eq!(act.duration.to_string(), "10m");
}

#[test]
fn whoever_goes_on_under_a_ban_stays_out_and_it_is_no_new_offence() {
    let mut scene = Scene::new(RespondMode::Ban);
    let act = scene.act(AlertKind::PortScan, "203.0.113.7/32");
    scene.put(&act);
    scene.now = at(500);
    let Response::Renew(record) = scene.answer(AlertKind::BruteForce, "203.0.113.7/32") else {
        panic!("not renewed");
    };
    assert_eq!(record.expires, Some(at(1_100)));
    assert_eq!(record.created, at(0));
}

#[test]
fn protected_sources_are_spared_and_so_is_a_subnet_that_holds_one() {
    let scene = Scene::new(RespondMode::Ban);
    for source in ["198.51.100.9/32", "2001:db8:1::/64"] {
        let answer = scene.answer(AlertKind::BruteForce, source);
        assert!(
            matches!(answer, Response::Spared(_)),
            "{source}: {answer:?}"
        );
    }
}

#[test]
fn a_ban_that_a_person_set_is_not_replaced() {
    let mut scene = Scene::new(RespondMode::Ban);
    for prefix in ["203.0.113.7/32", "203.0.112.0/24"] {
        scene.bans.insert(record(prefix, None));
    }
    for source in ["203.0.113.7/32", "203.0.112.4/32"] {
        let answer = scene.answer(AlertKind::PortScan, source);
        assert!(
            matches!(answer, Response::Spared(_)),
            "{source}: {answer:?}"
        );
    }
}

#[test]
fn a_limit_gives_way_to_a_ban_and_not_the_other_way_round() {
    let mut scene = Scene::new(RespondMode::Limit);
    scene.settings.kinds = [(AlertKind::BruteForce, RespondMode::Ban)].into();
    let limit = scene.act(AlertKind::PortScan, "203.0.113.7/32");
    scene.put(&limit);
    let ban = scene.act(AlertKind::BruteForce, "203.0.113.7/32");
    assert_eq!(ban.record.measure, Measure::Ban);
    scene.put(&ban);
    let answer = scene.answer(AlertKind::PortScan, "203.0.113.7/32");
    assert!(matches!(answer, Response::Renew(record) if record.measure == Measure::Ban));
}

#[test]
fn no_source_is_banned_for_a_flood_that_can_be_forged() {
    let scene = Scene::new(RespondMode::Ban);
    for kind in [
        AlertKind::SynFlood,
        AlertKind::UdpFlood,
        AlertKind::IcmpFlood,
        AlertKind::TrafficSpike,
        AlertKind::Malformed,
    ] {
        let answer = scene.answer(kind, "203.0.113.7/32");
        let Response::Spared(why) = answer else {
            panic!("{kind}: {answer:?}");
        };
        assert!(why.contains("forge"), "{why}");
    }
    for kind in [AlertKind::SpoofedSource, AlertKind::Beaconing] {
        assert_eq!(scene.answer(kind, "203.0.113.7/32"), Response::Nothing);
    }
    let mut scene = scene;
    scene.settings.kinds = [(AlertKind::UdpFlood, RespondMode::Limit)].into();
    let act = scene.act(AlertKind::UdpFlood, "203.0.113.7/32");
    assert_eq!(act.record.measure, Measure::Limit);
}

#[test]
fn a_visitor_in_whose_name_somebody_scans_is_limited_and_a_proven_one_is_banned() {
    let mut scene = Scene::new(RespondMode::Ban);
    scene.regulars = regulars(&["203.0.113.7", "2001:db8:7:7::1"]);
    for source in ["203.0.113.7/32", "2001:db8:7:7::/64"] {
        let act = scene.act(AlertKind::PortScan, source);
        assert_eq!(act.record.measure, Measure::Limit);
        assert!(act.note.is_some_and(|note| note.contains("forged")));
        let act = scene.act(AlertKind::BruteForce, source);
        assert_eq!((act.record.measure, act.ordinary), (Measure::Ban, 1));
    }
    let act = scene.act(AlertKind::PortScan, "203.0.113.8/32");
    assert_eq!(act.record.measure, Measure::Ban);
}

#[test]
fn a_prefix_of_which_several_sources_misbehave_is_answered_as_a_whole() {
    for (sources, prefix) in [
        (
            ["203.0.113.7/32", "203.0.113.8/32", "203.0.113.9/32"],
            "203.0.113.0/24",
        ),
        (
            [
                "2001:db8:7:1::/64",
                "2001:db8:7:2::/64",
                "2001:db8:7:3::/64",
            ],
            "2001:db8:7::/48",
        ),
    ] {
        let mut scene = Scene::new(RespondMode::Ban);
        for source in &sources[..2] {
            let act = scene.act(AlertKind::PortScan, source);
            assert_eq!(act.record.prefix, net(source));
            scene.put(&act);
        }
        let act = scene.act(AlertKind::PortScan, sources[2]);
        assert_eq!(act.record.prefix, net(prefix));
        assert!(
            act.note
                .as_ref()
                .is_some_and(|note| note.starts_with("3 sources"))
        );
        scene.put(&act);
        // Those who follow are out already.
        let next = sources[2].replace('9', "10").replace(":3:", ":4:");
        let answer = scene.answer(AlertKind::PortScan, &next);
        assert!(matches!(answer, Response::Spared(_)), "{next}: {answer:?}");
    }
}

#[test]
fn a_prefix_with_visitors_or_protected_sources_is_not_answered_as_a_whole() {
    for (visitors, protected) in [
        (&["203.0.113.99"][..], None),
        (&[], Some("203.0.113.50/32")),
    ] {
        let mut scene = Scene::new(RespondMode::Ban);
        scene.regulars = regulars(visitors);
        scene.protected.extend(protected.map(net));
        for last in 1..=9 {
            let source = format!("203.0.113.{last}/32");
            let act = scene.act(AlertKind::PortScan, &source);
            assert_eq!(act.record.prefix, net(&source));
            scene.put(&act);
        }
    }
}

#[test]
fn sources_that_were_answered_long_ago_do_not_condemn_their_prefix() {
    let mut scene = Scene::new(RespondMode::Ban);
    scene.settings.ban_for = BanDuration(None);
    for (minute, last) in (0..9).map(|number| (number * 6, number)) {
        scene.now = at(minute * 60);
        let source = format!("203.0.113.{last}/32");
        let act = scene.act(AlertKind::PortScan, &source);
        assert_eq!(act.record.prefix, net(&source), "minute {minute}");
        scene.put(&act);
    }
}

#[test]
fn single_addresses_of_a_64_lead_to_the_64_and_not_farther() {
    let mut scene = Scene::new(RespondMode::Ban);
    for (host, prefix) in [
        (1, "2001:db8:7:1::1/128"),
        (2, "2001:db8:7:1::2/128"),
        (3, "2001:db8:7:1::/64"),
    ] {
        let act = scene.act(AlertKind::PortScan, &format!("2001:db8:7:1::{host}/128"));
        assert_eq!(act.record.prefix, net(prefix));
        scene.put(&act);
    }
    // Three networks of the /48 are needed for that, however many addresses of one there were.
    let act = scene.act(AlertKind::PortScan, "2001:db8:7:2::1/128");
    assert_eq!(act.record.prefix, net("2001:db8:7:2::1/128"));
    scene.put(&act);
    let act = scene.act(AlertKind::PortScan, "2001:db8:7:3::1/128");
    assert_eq!(act.record.prefix, net("2001:db8:7::/48"));
}

#[test]
fn a_64_is_let_in_again_when_it_becomes_known_which_address_it_was() {
    let mut scene = Scene::new(RespondMode::Ban);
    let whole = net("2001:db8:7:7::/64");
    scene.put(&scene.act(AlertKind::PortScan, "2001:db8:7:7::/64"));
    let act = scene.act(AlertKind::PortScan, "2001:db8:7:7::9/128");
    assert_eq!(act.record.prefix, net("2001:db8:7:7::9/128"));
    assert_eq!(
        (act.record.measure, act.instead_of),
        (Measure::Ban, Some(whole))
    );
    // What was found about it otherwise says nothing of that ban.
    let answer = scene.answer(AlertKind::BruteForce, "2001:db8:7:7::9/128");
    assert!(matches!(answer, Response::Spared(_)), "{answer:?}");
    // Once it is lifted, there is nothing left to lift.
    scene.put(&act);
    scene.bans.remove(&whole);
    let again = scene.answer(AlertKind::PortScan, "2001:db8:7:7::9/128");
    assert!(matches!(again, Response::Renew(_)), "{again:?}");
}

#[test]
fn a_64_that_a_person_banned_or_that_others_were_banned_for_stays_banned() {
    let mut scene = Scene::new(RespondMode::Ban);
    scene.bans.insert(record("2001:db8:7:1::/64", None));
    let answer = scene.answer(AlertKind::PortScan, "2001:db8:7:1::9/128");
    assert!(matches!(answer, Response::Spared(_)), "{answer:?}");
    // Three addresses of it, the last of which has the /64 banned.
    for host in 1..=3 {
        scene.put(&scene.act(AlertKind::PortScan, &format!("2001:db8:7:2::{host}/128")));
    }
    assert!(scene.bans.get(&net("2001:db8:7:2::/64")).is_some());
    scene.now = at(500);
    let answer = scene.answer(AlertKind::PortScan, "2001:db8:7:2::4/128");
    assert!(matches!(answer, Response::Spared(_)), "{answer:?}");
}

#[test]
fn a_64_that_is_lifted_spares_what_is_protected() {
    let mut scene = Scene::new(RespondMode::Ban);
    scene.put(&scene.act(AlertKind::PortScan, "2001:db8:7:7::/64"));
    scene.protected.push(net("2001:db8:7:7::9/128"));
    let answer = scene.answer(AlertKind::PortScan, "2001:db8:7:7::9/128");
    let Response::Spared(why) = answer else {
        panic!("{answer:?}");
    };
    assert!(why.contains("never_block"), "{why}");
}

#[test]
fn an_address_of_a_64_with_visitors_is_limited_where_its_name_could_be_forged() {
    let mut scene = Scene::new(RespondMode::Ban);
    scene.regulars = regulars(&["2001:db8:7:7::1"]);
    let act = scene.act(AlertKind::PortScan, "2001:db8:7:7::9/128");
    assert_eq!((act.record.measure, act.ordinary), (Measure::Limit, 1));
    let act = scene.act(AlertKind::BruteForce, "2001:db8:7:7::9/128");
    assert_eq!(act.record.measure, Measure::Ban);
    assert_eq!(act.record.prefix, net("2001:db8:7:7::9/128"));
    // The /64 itself is left alone, however many of it scan.
    for host in 20..40 {
        let act = scene.act(AlertKind::PortScan, &format!("2001:db8:7:7::{host}/128"));
        assert_eq!(act.record.prefix.prefix_len(), 128);
        scene.put(&act);
    }
}
