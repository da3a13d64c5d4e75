//! The view with documents as a daemon sends them: keys in, screens out.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

use super::draw::{Theme, draw};
use super::snapshot::Documents;
use super::view::{Command, View};
use crate::daemon::documents::SourceOrder;

/// Where the screens of the documentation stand.
const DOCUMENTATION: &str = include_str!("../../../../docs/terminal.md");

/// What a daemon would send after so many seconds.
fn documents(seconds: u64) -> Documents {
    let total = |verdict: &str, reason: &str, packets: u64| {
        json!({
            "interface": "eth0", "direction": "inbound", "verdict": verdict, "reason": reason,
            "packets": packets, "bytes": packets * 400,
        })
    };
    let status = json!({
        "version": "0.1.0", "revision": "unknown", "pid": 812, "started": "2026-05-01T09:00:00Z",
        "settings": "/etc/palisade/palisade.toml",
        "policy": {
            "file": "/etc/palisade/policy.toml", "source": "/etc/palisade/policy.toml", "valid": true,
            "error": null, "generation": 7, "applied": "2026-05-01T09:00:00Z", "mode": "enforce",
            "rules": 4, "sets": 2,
        },
        "interfaces": [{
            "name": "eth0", "index": 2, "mode": "native", "fallback": null, "egress": "tcx",
            "taken_over": false,
        }],
        "totals": [
            total("pass", "rule", seconds * 900),
            total("pass", "established", seconds * 2_100),
            total("drop", "ban", seconds.saturating_sub(120) * 700),
            total("drop", "default", seconds * 12),
        ],
        "bans": {"manual": 1, "automatic": 0},
        "alerts_active": 1, "incidents_active": 1, "sources_tracked": 1_840,
        "maps": [],
        "health": {
            "events_throttled": 0, "events_lost": 0, "connections_refused": 0, "sources_contended": 0,
        },
        "syn_cookies": {
            "setting": "auto", "automatic": true, "unavailable": null, "problem": null, "armed": [],
            "orders": {}, "sent": 0, "accepted": 0, "rejected": 0, "bytes_received": 0, "bytes_sent": 0,
        },
    });
    let ban = json!({
        "prefix": "203.0.113.7/32", "measure": "ban", "origin": "manual", "kind": null,
        "reason": "credential stuffing", "created": "2026-05-01T09:10:00Z",
        "expires": "2026-05-01T10:10:00Z", "remaining_seconds": 3_000,
    });
    let mut banned = source("203.0.113.7", 700.0, 690.0, seconds * 700, 69_000);
    banned.ban = Some(read(ban.clone()));
    Documents {
        status: read(status),
        sources: vec![
            banned,
            source("198.51.100.23", 412.0, 3.1, 91_000, 0),
            source("2001:db8:40:12::", 95.5, 0.8, 20_400, 3),
            source("203.0.113.66", 22.4, 22.4, 2_200, 2_180),
        ],
        services: read(json!({
            "services": [
                {"service": "shop", "packets": seconds * 800, "bytes": seconds * 300_000,
                 "connections": seconds * 9, "requests": seconds * 30},
                {"service": "ssh", "packets": 300, "bytes": 40_000, "connections": 0, "requests": 0},
            ],
            "ranges": [
                {"service": "shop", "measure": "packets", "observed": 812.0, "expected_low": 420.0,
                 "expected": 700.0, "expected_high": 1_150.0},
                {"service": "shop", "measure": "requests", "observed": 61.0, "expected_low": 12.0,
                 "expected": 25.0, "expected_high": 44.0},
                {"service": "*", "measure": "new_sources", "observed": 0.1, "expected_low": 0.5,
                 "expected": 1.2, "expected_high": 3.0},
            ],
        })),
        rules: read(json!([
            {"rule": "link:arp", "built_in": true, "mode": "enforce", "packets": 812, "bytes": 34_104},
            {"rule": "hostile", "built_in": false, "mode": "observe", "packets": 5_300, "bytes": 318_000,
             "observed": {"packets": 5_300, "bytes": 318_000, "first": "2026-05-01T09:01:00Z",
                          "latest": "2026-05-01T09:20:00Z"}},
            {"rule": "shop", "built_in": false, "mode": "enforce", "packets": seconds * 800,
             "bytes": seconds * 300_000, "limited": {"packets": 1_240, "bytes": 99_000}},
            {"rule": "ssh", "built_in": false, "mode": "enforce", "packets": 300, "bytes": 40_000},
        ])),
        incidents: read(json!([
            incident(
                1,
                "port_scan",
                "203.0.113.66/32",
                Value::Null,
                "203.0.113.66 tried about 102 ports on one host in 0.75 s."
            ),
            incident(
                2,
                "syn_flood",
                "host",
                json!(1_777_626_000.0),
                "8109 SYNs came in 2.00 s."
            ),
        ])),
        bans: read(json!([ban])),
    }
}

fn source(
    address: &str,
    packets: f64,
    syns: f64,
    total: u64,
    drops: u64,
) -> crate::daemon::documents::SourceDocument {
    read(json!({
        "source": address, "packets_per_second": packets, "bytes_per_second": packets * 410.0,
        "syns_per_second": syns, "requests_per_second": packets / 40.0, "packets": total,
        "bytes": total * 410, "syns": total / 2, "requests": total / 40, "drops": drops, "failed": drops,
        "last_seen": "2026-05-01T09:20:00Z",
    }))
}

fn incident(id: u64, kind: &str, subject: &str, ended: Value, why: &str) -> Value {
    json!({
        "id": id, "kinds": [kind], "severity": "warning",
        "state": if ended.is_null() { "firing" } else { "resolved" },
        "started": 1_777_625_900.0, "detected": 1_777_625_901.0, "ended": ended, "why": why,
        "subjects": [{"subject": subject, "times_expected": 5.1}], "subject_count": 1,
        "alerts": [id], "alert_count": 1, "evidence": {}, "response": ["banned for 1h"],
    })
}

fn read<T: serde::de::DeserializeOwned>(document: Value) -> T {
    serde_json::from_value(document).expect("a document")
}

/// A view that has been open for four minutes.
fn view() -> View {
    let mut view = View::new(SourceOrder::Packets);
    for second in 0..=240 {
        view.take(second as f64, documents(second));
    }
    view
}

fn press(view: &mut View, code: KeyCode) -> Option<Command> {
    view.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_text(view: &mut View, text: &str) -> Option<Command> {
    let pressed = text
        .chars()
        .map(|letter| press(view, KeyCode::Char(letter)));
    pressed.last().flatten()
}

fn terminal(view: &mut View, width: u16, height: u16, colour: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    let theme = Theme { colour };
    terminal
        .draw(|frame| draw(frame, view, theme))
        .expect("memory");
    terminal
}

/// The screen as text, without what is empty at the ends of its lines.
fn screen(view: &mut View, width: u16, height: u16) -> String {
    let terminal = terminal(view, width, height, false);
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width)).map(|cells| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn first_row(view: &View) -> String {
    let rows = view.rows();
    rows.first().map_or_else(String::new, |row| row.key.clone())
}

#[test]
fn the_screens_of_the_documentation_are_those_that_are_drawn() {
    let mut view = view();
    let mut wrong = Vec::new();
    for (name, keys) in [
        ("sources", "1"),
        ("services", "2"),
        ("rules", "3"),
        ("incidents", "4"),
        ("ban", "1b"),
    ] {
        type_text(&mut view, keys);
        let drawn = screen(&mut view, 80, 24);
        press(&mut view, KeyCode::Esc);
        let block = format!("<!-- screen: {name} -->\n\n```text\n{drawn}\n```\n");
        if !DOCUMENTATION.contains(&block) {
            wrong.push(block);
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/terminal.md should have these screens:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_tab_and_overlay_fits_any_size() {
    let mut view = view();
    for keys in ["1", "2", "3", "4", "5", "?", "b", "1b", "1u", "\n"] {
        for key in keys.chars() {
            let code = if key == '\n' {
                KeyCode::Enter
            } else {
                KeyCode::Char(key)
            };
            press(&mut view, code);
        }
        for (width, height) in [(1, 1), (39, 24), (80, 7), (40, 8), (80, 24), (300, 100)] {
            let text = screen(&mut view, width, height);
            assert!(text.lines().count() <= usize::from(height));
        }
        press(&mut view, KeyCode::Esc);
    }
    assert!(!view.is_over, "escape ended overlays only");
}

#[test]
fn a_small_terminal_keeps_who_how_much_and_what_is_done() {
    let text = screen(&mut view(), 48, 10);
    for kept in ["203.0.113.7", "PKT/S", "700", "ban 50m", "Incidents"] {
        assert!(text.contains(kept), "{kept} in\n{text}");
    }
}

#[test]
fn a_key_sorts_by_another_column_and_asks_the_daemon_for_its_order() {
    let mut view = view();
    assert_eq!(first_row(&view), "203.0.113.7");
    let by_bytes = press(&mut view, KeyCode::Char('s'));
    assert_eq!(by_bytes, Some(Command::OrderBy(SourceOrder::Bytes)));
    let by_syns = press(&mut view, KeyCode::Char('s'));
    assert_eq!(by_syns, Some(Command::OrderBy(SourceOrder::Syns)));
    press(&mut view, KeyCode::Char('r'));
    assert_eq!(first_row(&view), "2001:db8:40:12::");
    press(&mut view, KeyCode::Char('S'));
    press(&mut view, KeyCode::Char('S'));
    assert_eq!(
        press(&mut view, KeyCode::Char('S')),
        Some(Command::OrderBy(SourceOrder::Packets))
    );
    assert_eq!(first_row(&view), "198.51.100.23", "by name");
}

#[test]
fn what_is_typed_after_a_slash_leaves_only_rows_that_have_it() {
    let mut view = view();
    type_text(&mut view, "/203.0.113.6q");
    press(&mut view, KeyCode::Backspace);
    assert!(screen(&mut view, 80, 24).contains("filter: 203.0.113.6"));
    press(&mut view, KeyCode::Enter);
    let keys: Vec<String> = view.rows().into_iter().map(|row| row.key).collect();
    assert_eq!(keys, ["203.0.113.66"]);
    press(&mut view, KeyCode::Esc);
    assert_eq!(view.rows().len(), 4);
    type_text(&mut view, "/PORT_SCAN");
    assert_eq!(view.rows().len(), 1, "whatever the case, in any column");
}

#[test]
fn what_is_frozen_stays_and_goes_on_where_time_is_by_then() {
    let mut view = view();
    press(&mut view, KeyCode::Char(' '));
    let frozen = screen(&mut view, 80, 24);
    assert!(frozen.contains("FROZEN"));
    let mut later = documents(300);
    later.sources.clear();
    view.take(300.0, later);
    assert_eq!(view.rows().len(), 4);
    press(&mut view, KeyCode::Char(' '));
    assert!(view.rows().is_empty());
}

#[test]
fn the_chosen_row_is_followed_when_others_overtake_it() {
    let mut view = view();
    press(&mut view, KeyCode::Down);
    let chosen = |view: &View| view.chosen(&view.rows());
    assert_eq!(chosen(&view), Some(1));
    let mut later = documents(241);
    later.sources[3].packets_per_second = 5_000.0;
    view.take(241.0, later);
    assert_eq!(chosen(&view), Some(2), "198.51.100.23 still");
    let mut gone = documents(242);
    gone.sources.truncate(1);
    view.take(242.0, gone);
    assert_eq!(chosen(&view), Some(0));
}

#[test]
fn a_ban_takes_a_length_that_is_one_and_a_confirmation() {
    let mut view = view();
    press(&mut view, KeyCode::End);
    press(&mut view, KeyCode::Char('b'));
    let asked = screen(&mut view, 80, 24);
    assert!(asked.contains("Ban 203.0.113.66/32"), "{asked}");
    view.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
    type_text(&mut view, "soon");
    assert_eq!(press(&mut view, KeyCode::Enter), None);
    assert!(
        screen(&mut view, 80, 24).contains("10m"),
        "what would be right"
    );
    view.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
    type_text(&mut view, "30m");
    press(&mut view, KeyCode::Tab);
    type_text(&mut view, "scans, again");
    match press(&mut view, KeyCode::Enter) {
        Some(Command::Ban {
            prefix,
            duration,
            reason,
        }) => {
            assert_eq!(prefix.to_string(), "203.0.113.66/32");
            assert_eq!(
                (duration.to_string(), reason),
                ("30m".to_owned(), "scans, again".to_owned())
            );
        }
        other => panic!("{other:?}"),
    }
    press(&mut view, KeyCode::Char('b'));
    assert_eq!(press(&mut view, KeyCode::Esc), None, "nobody is banned");
    assert!(screen(&mut view, 80, 24).contains("nobody was banned"));
}

#[test]
fn an_ipv6_source_is_banned_as_the_prefix_it_is_accounted_by() {
    let mut view = view();
    type_text(&mut view, "/2001:db8");
    press(&mut view, KeyCode::Enter);
    press(&mut view, KeyCode::Char('b'));
    assert!(screen(&mut view, 80, 24).contains("Ban 2001:db8:40:12::/64"));
}

#[test]
fn a_ban_is_lifted_from_whichever_row_it_covers_but_only_once_confirmed() {
    let mut view = view();
    for keys in ["1u", "5u"] {
        type_text(&mut view, keys);
        assert!(screen(&mut view, 80, 24).contains("Lift the ban of 203.0.113.7/32?"));
        assert_eq!(press(&mut view, KeyCode::Enter), None);
        let order = type_text(&mut view, "uy");
        assert_eq!(
            order,
            Some(Command::Unban("203.0.113.7/32".parse().expect("a prefix")))
        );
    }
    type_text(&mut view, "3u");
    assert!(screen(&mut view, 80, 24).contains("there is no ban here"));
    type_text(&mut view, "3b");
    assert!(screen(&mut view, 80, 24).contains("there is no source here"));
}

#[test]
fn an_incident_shows_all_of_itself_and_its_source_can_be_banned() {
    let mut view = view();
    type_text(&mut view, "4");
    press(&mut view, KeyCode::Enter);
    let text = screen(&mut view, 80, 24);
    for told in ["done: banned for 1h", "5.1 times", "palisade alerts show 1"] {
        assert!(text.contains(told), "{told} in\n{text}");
    }
    press(&mut view, KeyCode::Esc);
    press(&mut view, KeyCode::Char('b'));
    assert!(screen(&mut view, 80, 24).contains("Ban 203.0.113.66/32"));
}

#[test]
fn without_colours_weight_alone_tells_things_apart() {
    let mut view = view();
    for tab in ["1", "2", "3", "4", "5", "?"] {
        type_text(&mut view, tab);
        let plain = terminal(&mut view, 80, 24, false);
        let cells = plain.backend().buffer().content();
        assert!(
            cells
                .iter()
                .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
        );
        let chosen = cells
            .iter()
            .filter(|cell| cell.modifier.contains(Modifier::REVERSED));
        assert!(chosen.count() > 0);
    }
    type_text(&mut view, "q1");
    let coloured = terminal(&mut view, 80, 24, true);
    let cells = coloured.backend().buffer().content();
    assert!(cells.iter().any(|cell| cell.fg != Color::Reset));
}

#[test]
fn a_name_from_elsewhere_cannot_move_the_cursor() {
    let mut view = View::new(SourceOrder::Packets);
    let mut documents = documents(1);
    documents.bans[0].reason = Some("\x1b[2J\nnothing".to_owned());
    view.take(0.0, documents);
    type_text(&mut view, "5");
    let text = screen(&mut view, 80, 24);
    assert!(text.contains(" [2J nothing"), "{text:?}");
}

#[test]
fn a_daemon_that_is_silent_is_told_of_while_what_was_known_stays() {
    let mut view = view();
    view.silence = Some("no daemon answers".to_owned());
    let text = screen(&mut view, 80, 24);
    assert!(
        text.contains("no daemon answers") && text.contains("203.0.113.7"),
        "{text}"
    );
    view.take(241.0, documents(241));
    assert!(!screen(&mut view, 80, 24).contains("no daemon answers"));
}
