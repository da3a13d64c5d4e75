use super::*;
use crate::detect::Alert;
use std::path::Path;

use crate::respond::{Regulars, RespondMode, RespondSettings};
use crate::state::{FILE, Health};

/// As when the daemon stops.
fn stopped(warden: Warden) {
    warden.save();
    warden.lock().store.close();
}

/// A warden over a table that no program reads.
pub fn warden(store: Store, protected: &[&str]) -> (Warden, BanTable) {
    let table = BanTable::unread();
    (restored(&table, store, protected), table)
}

fn open(folder: &Path) -> Store {
    Store::open(folder, Health::default()).expect("a store")
}

fn restored(table: &BanTable, store: Store, protected: &[&str]) -> Warden {
    let protected = protected
        .iter()
        .map(|text| text.parse().expect("a prefix"))
        .collect();
    Warden::restore(table.clone(), store, protected).expect("restored")
}

fn request(prefix: &str, duration: &str) -> BanRequest {
    BanRequest {
        prefix: prefix.to_owned(),
        duration: duration.parse().expect("a length"),
        reason: None,
    }
}

fn in_kernel(table: &BanTable) -> Vec<String> {
    let mut bans: Vec<String> = table
        .bans()
        .iter()
        .map(|ban| ban.prefix.to_string())
        .collect();
    bans.sort();
    bans
}

#[test]
fn a_ban_is_in_the_kernel_on_return_and_comes_back_from_the_file_in_an_empty_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &[]);
    for prefix in ["203.0.113.7", "2001:db8:bad::/48"] {
        warden.ban(request(prefix, "1h")).expect("banned");
    }
    assert_eq!(in_kernel(&table), ["2001:db8:bad::/48", "203.0.113.7/32"]);
    stopped(warden);
    let rebooted = BanTable::unread();
    let warden = restored(&rebooted, open(folder.path()), &[]);
    assert_eq!(in_kernel(&rebooted), in_kernel(&table));
    warden.unban("203.0.113.7").expect("lifted");
    assert_eq!(in_kernel(&rebooted), ["2001:db8:bad::/48"]);
    assert_eq!(warden.counts().manual, 1);
}

#[test]
fn bans_whose_file_was_lost_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &[]);
    warden.ban(request("203.0.113.7", "1h")).expect("banned");
    stopped(warden);
    std::fs::write(folder.path().join(FILE), "no database").expect("written");
    let warden = restored(&table, open(folder.path()), &[]);
    assert_eq!(in_kernel(&table), ["203.0.113.7/32"]);
    let left = warden.list(usize::MAX).bans[0]
        .remaining_seconds
        .expect("it ends");
    assert!((3500..=3600).contains(&left), "{left}");
    assert!(folder.path().join("state.db.damaged-1").exists());
}

#[test]
fn sources_are_marked_with_the_narrowest_ban_that_covers_them_and_a_list_has_a_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, _) = warden(open(folder.path()), &[]);
    for prefix in ["203.0.113.0/24", "203.0.113.7", "2001:db8:bad::/48"] {
        warden.ban(request(prefix, "1h")).expect("banned");
    }
    let mut sources = [
        "203.0.113.7",
        "203.0.113.8",
        "203.0.114.7",
        "2001:db8:bad:5::",
    ]
    .map(|source| SourceDocument {
        source: source.parse().expect("an address"),
        packets_per_second: 0.0,
        bytes_per_second: 0.0,
        syns_per_second: 0.0,
        requests_per_second: 0.0,
        packets: 1,
        bytes: 60,
        syns: 0,
        requests: 0,
        drops: 0,
        failed: 0,
        last_seen: Timestamp::UNIX_EPOCH,
        ban: None,
    });
    warden.mark(&mut sources);
    let covered = sources.map(|source| source.ban.map(|ban| ban.prefix.to_string()));
    let covered: Vec<Option<&str>> = covered.iter().map(Option::as_deref).collect();
    assert_eq!(
        covered,
        [
            Some("203.0.113.7/32"),
            Some("203.0.113.0/24"),
            None,
            Some("2001:db8:bad::/48")
        ]
    );
    let listed = |most| warden.list(most).bans.len();
    assert_eq!([0, 2, 3, 99].map(listed), [0, 2, 3, 3]);
}

#[test]
fn a_source_that_comes_under_protection_is_let_in_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &["198.51.100.0/24"]);
    let refused = warden.ban(request("198.51.100.7", "1h"));
    assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
    for prefix in ["203.0.113.7", "203.0.112.0/22", "203.0.100.1"] {
        warden.ban(request(prefix, "1h")).expect("banned");
    }
    let office = "203.0.113.0/24".parse().expect("a prefix");
    let lifted = warden.protect(vec![office]).expect("protected");
    assert_eq!(lifted.len(), 1, "{lifted:?}");
    assert_eq!(in_kernel(&table), ["203.0.100.1/32", "203.0.112.0/22"]);
}

fn scan(source: &str) -> Alert {
    let mut alert = crate::daemon::alerts::tests::alert(1, false);
    alert.subject = source.parse().expect("a subject");
    alert
}

fn answer(warden: &Warden, settings: &RespondSettings, source: &str) -> String {
    let answered = warden.respond(settings, &Regulars::default(), &scan(source));
    answered.unwrap_or_default()
}

#[test]
fn an_alert_bans_when_the_settings_say_so_and_says_what_was_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &["198.51.100.0/24"]);
    let settings = RespondSettings {
        mode: RespondMode::Ban,
        ..RespondSettings::default()
    };
    let said = answer(&warden, &settings, "203.0.113.7");
    assert_eq!(said, "banned 203.0.113.7/32 for 10m");
    let said = answer(&warden, &settings, "198.51.100.9");
    assert!(said.starts_with("not banned"), "{said}");
    assert_eq!(in_kernel(&table), ["203.0.113.7/32"]);
    assert_eq!(warden.counts().automatic, 1);
}

#[test]
fn a_64_is_let_in_again_when_the_alert_names_one_address_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &[]);
    let settings = RespondSettings {
        mode: RespondMode::Ban,
        ..RespondSettings::default()
    };
    // What people ban is left alone, also around and beside it.
    for prefix in ["2001:db8:7:7::1", "2001:db8:7::/48"] {
        warden.ban(request(prefix, "1h")).expect("banned");
    }
    warden.unban("2001:db8:7::/48").expect("lifted");
    answer(&warden, &settings, "2001:db8:7:7::/64");
    assert_eq!(
        in_kernel(&table),
        ["2001:db8:7:7::/64", "2001:db8:7:7::1/128"]
    );
    let said = answer(&warden, &settings, "2001:db8:7:7::9");
    assert_eq!(
        said,
        "banned 2001:db8:7:7::9/128 for 10m: it came from there alone, so 2001:db8:7:7::/64 is let in again"
    );
    assert_eq!(
        in_kernel(&table),
        ["2001:db8:7:7::1/128", "2001:db8:7:7::9/128"]
    );
    let deeds = warden.take_deeds();
    assert_eq!(deeds.len(), 2);
    let whole: IpNet = "2001:db8:7:7::/64".parse().expect("a prefix");
    assert_eq!(deeds[1].instead_of, Some(whole));
    // The offence was the address's, and the next daemon knows it.
    stopped(warden);
    let warden = restored(&table, open(folder.path()), &[]);
    let dealings = |address: &str| {
        let address = address.parse().expect("an address");
        warden.dealings(address, whole, &settings)
    };
    assert_eq!(dealings("2001:db8:7:7::9").offences, 1);
    let neighbour = dealings("2001:db8:7:7::8");
    assert_eq!((neighbour.offences, neighbour.bans.len()), (0, 0));
    assert!(neighbour.past.iter().any(|past| past.lifted));
}

#[test]
fn a_repeat_offender_is_known_as_one_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = RespondSettings {
        mode: RespondMode::Limit,
        ..RespondSettings::default()
    };
    for (prefix, expected) in [
        ("203.0.113.7", "limited 203.0.113.7/32 to 10/s packets for"),
        (
            "2001:db8:7:7::/64",
            "limited 2001:db8:7:7::/64 to 10/s packets for",
        ),
    ] {
        for duration in ["10m", "20m", "40m"] {
            let table = BanTable::unread();
            let warden = restored(&table, open(folder.path()), &[]);
            let said = answer(&warden, &settings, prefix);
            assert_eq!(said, format!("{expected} {duration}"));
            assert!(table.bans()[0].limited);
            warden.unban(prefix).expect("lifted");
            stopped(warden);
        }
    }
    let warden = restored(&BanTable::unread(), open(folder.path()), &[]);
    let address = "203.0.113.7".parse().expect("an address");
    let dealings = warden.dealings(address, IpNet::from(address), &settings);
    assert_eq!((dealings.bans.len(), dealings.past.len()), (0, 3));
    assert_eq!(dealings.offences, 3);
}

#[test]
fn beyond_the_cap_answers_are_off_and_it_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &[]);
    let settings = RespondSettings {
        mode: RespondMode::Ban,
        bans_per_minute: 2,
        ..RespondSettings::default()
    };
    assert_eq!(warden.withheld(), None);
    for last in 1..=4 {
        answer(&warden, &settings, &format!("203.0.{last}.7"));
    }
    assert_eq!(in_kernel(&table).len(), 2);
    let withheld = warden.withheld().expect("off");
    assert!(
        withheld.why.contains("more than 2 new bans"),
        "{}",
        withheld.why
    );
    let said = answer(&warden, &settings, "203.0.9.7");
    assert!(said.starts_with("not answered: answers are off"), "{said}");
}

#[test]
fn beyond_the_share_of_ordinary_sources_answers_are_off_and_it_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &[]);
    let settings = RespondSettings {
        mode: RespondMode::Ban,
        ..RespondSettings::default()
    };
    let regulars = crate::respond::regulars_of(&["203.0.113.7", "203.0.114.7", "2001:db8:7::1"]);
    let force = |source: &str| {
        let mut alert = scan(source);
        alert.kind = crate::detect::AlertKind::BruteForce;
        alert.started = 300_000_000_000;
        let said = warden.respond(&settings, &regulars, &alert);
        said.unwrap_or_default()
    };
    // One may be hit however few there are, and strangers besides.
    assert!(force("203.0.113.7").starts_with("banned"));
    assert!(force("203.0.115.7").starts_with("banned"));
    assert_eq!(warden.withheld(), None);
    for source in ["203.0.114.7", "203.0.116.7", "2001:db8:7::/64"] {
        let said = force(source);
        assert!(said.starts_with("not answered: answers are off"), "{said}");
    }
    assert_eq!(in_kernel(&table), ["203.0.113.7/32", "203.0.115.7/32"]);
    let withheld = warden.withheld().expect("off");
    assert_eq!((withheld.wanted, withheld.cap), (2.0, 1.0));
    assert!(
        withheld.why.contains("2 of the 3 ordinary sources"),
        "{}",
        withheld.why
    );
}

#[tokio::test]
async fn an_answer_waits_until_the_ban_is_on_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let (warden, _) = warden(store.clone(), &[]);
    warden.ban(request("203.0.113.7", "1h")).expect("banned");
    store.settle().await;
    // What another daemon would find if this one was killed now.
    let killed = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(folder.path()).expect("listed") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), killed.path().join(entry.file_name())).expect("copied");
    }
    assert_eq!(load_bans(&open(killed.path())).len(), 1);
}

#[test]
fn reasons_that_would_drive_a_terminal_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (warden, table) = warden(open(folder.path()), &[]);
    for reason in ["\u{1b}[31m", "two\nlines", &"x".repeat(501)] {
        let mut request = request("203.0.113.7", "1h");
        request.reason = Some(reason.to_owned());
        assert!(matches!(warden.ban(request), Err(Failure::Invalid(_))));
    }
    assert!(in_kernel(&table).is_empty());
}
