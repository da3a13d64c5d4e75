//! The page in a real browser, served by a real daemon that sees real traffic: what it shows is what happened, and it asks nothing of
//! anybody else. With `PALISADE_SCREENSHOTS=docs/images` pictures are kept, too.

mod judge;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use palisade_tests::chromium::{Browser, View};
use palisade_tests::clients::curl;
use palisade_tests::daemon::Mode;
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, LISTED, OTHER, WIRE};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root};
use serde_json::Value;

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const PAGE: &str = "http://127.0.0.1:9477/";
/// An address that only the scanner uses.
const SCANNER: &str = "203.0.113.66";
const SECOND_SCANNER: &str = "203.0.113.99";
/// A reason that would like to be markup; not in the pictures.
const MARKUP: &str = "<img src=x onerror=alert(1)>";
/// Asks for pictures, and says where to.
const PICTURES: &str = "PALISADE_SCREENSHOTS";

const DESKTOP: View = View {
    width: 1280,
    height: 900,
    dark: false,
    phone: false,
};
const NIGHT: View = View {
    dark: true,
    ..DESKTOP
};
const PHONE: View = View {
    width: 390,
    height: 844,
    dark: false,
    phone: true,
};

/// A shop whose rules have reasons, one of which would like to be markup.
const SHOP: &str = r#"
version = 1

[defaults]
inbound = "drop"

[sets]
hostile = ["198.51.100.9", "2001:db8:51::9"]
office  = ["198.51.100.3"]

[[rule]]
name   = "hostile"
action = "drop"
from   = ["hostile"]
reason = "known offenders"
owner  = "security"

[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = 80
reason   = "<img src=x onerror=alert(1)>"
owner    = "web team"
limit    = { rate = "200/s", burst = 400, per = "source", unit = "requests" }

[[rule]]
name     = "old-clients"
action   = "drop"
protocol = "tcp"
port     = 81
mode     = "observe"

[[rule]]
name     = "ssh"
action   = "accept"
protocol = "tcp"
port     = 22
from     = ["office"]
reason   = "administration"
owner    = "operations"
"#;

fn vigilant(world: &Topology) -> Result<Daemon> {
    let policy = match std::env::var_os(PICTURES) {
        Some(_) => SHOP.replace(MARKUP, "the shop"),
        None => SHOP.to_owned(),
    };
    let mut daemon = Daemon::prepare(&world.inside, &policy, EDGE, Mode::Auto)?;
    daemon.write_settings(
        &format!("interfaces = [\"{EDGE}\"]"),
        "[detect]\nport_scan = { window = \"3s\" }\n\n[respond]\nmode = \"ban\"\nban_for = \"10m\"\n",
    )?;
    daemon.launch()?;
    Ok(daemon)
}

/// Ordinary visits, and some that are turned away.
fn visit(world: &Topology, times: usize) -> Result<()> {
    for _ in 0..times {
        for (index, to) in INSIDE.into_iter().enumerate() {
            for from in [CLIENT[index], OTHER[index]] {
                let page = curl(&world.outside, from, to, 80, Duration::from_secs(5))?;
                assert_eq!(page.stdout, "shop", "{page}");
            }
        }
    }
    for to in [80, 81] {
        let from: IpAddr = if to == 80 { LISTED[0] } else { CLIENT[0] };
        let turned_away = curl(
            &world.outside,
            from,
            INSIDE[0],
            to,
            Duration::from_millis(300),
        )?;
        assert!(!turned_away.success(), "{turned_away}");
    }
    Ok(())
}

fn scan(world: &Topology, scanner: &str) -> Result<()> {
    world.outside.run(&format!(
        "nmap -n -Pn -sS -p 1-100 --min-rate 100 --max-retries 0 -e {WIRE} -S {scanner} {}",
        INSIDE[0]
    ))?;
    Ok(())
}

/// The cells of the row of `table` whose head is `name`.
fn row(browser: &mut Browser, table: &str, name: &str) -> Result<Vec<String>> {
    let name = serde_json::to_string(name)?;
    let cells = browser.evaluate(&format!(
        "[...document.querySelectorAll('#{table} tbody tr')]\
         .filter((row) => row.querySelector('th')?.firstChild?.textContent === {name})\
         .flatMap((row) => [...row.cells].map((cell) => cell.innerText))"
    ))?;
    Ok(serde_json::from_value(cells)?)
}

#[test]
fn the_page_shows_what_happens_and_speaks_to_nobody_else() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl", "nmap", "chromium", "npm"])?;
    let world = Topology::untagged()?;
    world.add_client(SCANNER.parse()?)?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let daemon = vigilant(&world)?;
    let mut browser = Browser::start(&world.inside)?;
    browser.look(DESKTOP)?;
    judge::note_violations(&mut browser)?;
    browser.open(PAGE)?;
    browser.wait(
        "a quiet page",
        SOON,
        "document.querySelector('#verdict').innerText === 'All quiet'",
    )?;
    visit(&world, 3)?;
    browser.wait(
        "a visitor among the sources",
        SOON,
        "document.querySelector('#source-table').innerText.includes('198.51.100.3')",
    )?;
    browser.wait(
        "traffic in the chart and its table",
        SOON,
        "document.querySelector('#traffic-text').innerText.startsWith('Now ') && !!document.querySelector('#chart canvas') && \
         document.querySelectorAll('#traffic-table tbody tr').length > 0",
    )?;

    scan(&world, SCANNER)?;
    browser.wait(
        "the incident",
        SOON,
        "document.querySelector('#incident-list').innerText.includes('port scan')",
    )?;
    let incident = browser.text("#incident-list article")?;
    assert!(incident.contains(SCANNER), "{incident}");
    browser.wait(
        "what was done",
        SOON,
        "document.querySelector('#incident-list .done').innerText.includes('banned')",
    )?;
    assert!(browser.text("#verdict")?.contains("1 incident"));
    browser.evaluate("document.querySelector('#incident-list details').open = true")?;
    browser.wait(
        "the evidence",
        SOON,
        "document.querySelector('#incident-list .evidence').innerText.length > 20",
    )?;
    browser.wait(
        "the ban beside its source",
        SOON,
        &format!(
            "[...document.querySelectorAll('#source-table tr')].some((row) => \
             row.innerText.includes('{SCANNER}') && row.innerText.includes('banned'))"
        ),
    )?;

    // Rules are asked for every ten seconds: by now with all that was sent.
    let packets = daemon.rule_packets("shop")?;
    let wanted = format!(
        "[...document.querySelectorAll('#rule-table tr')].some((row) => row.cells[0].innerText.startsWith('shop') && \
         Number(row.cells[3].innerText.replaceAll(',', '')) >= {packets})"
    );
    browser.wait("the shop's hits", SOON, &wanted)?;
    let observed = row(&mut browser, "rule-table", "old-clients")?;
    assert!(observed[1].contains("observe"), "{observed:?}");
    assert!(observed[6].starts_with("dropped "), "{observed:?}");
    assert_ne!(observed[6], "dropped 0", "{observed:?}");
    let shop = row(&mut browser, "rule-table", "shop")?;
    let is_text = shop[0].contains(MARKUP) || std::env::var_os(PICTURES).is_some();
    assert!(is_text, "text stays text: {shop:?}");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('main img').length")?,
        0
    );
    browser.wait(
        "what listens",
        SOON,
        "document.querySelector('#surface-table').innerText.includes(':80')",
    )?;
    let exposed = browser.text("#exposure-table")?;
    assert!(
        exposed.contains("everybody") && exposed.contains("listed sources"),
        "{exposed}"
    );

    judge::nothing_is_wrong(&mut browser, PAGE)?;
    keyboard(&mut browser)?;
    for view in [DESKTOP, NIGHT, PHONE] {
        browser.look(view)?;
        let wide = browser.evaluate("document.documentElement.scrollWidth - innerWidth")?;
        assert_eq!(wide, 0, "{view:?}: nothing stands out at the side");
        judge::accessible(&mut browser).with_context(|| format!("{view:?}"))?;
    }
    if let Some(folder) = std::env::var_os(PICTURES) {
        pictures(&world, &mut browser, &PathBuf::from(folder))?;
    }
    Ok(())
}

#[test]
fn the_page_says_how_old_it_is_and_goes_on_after_a_restart() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["chromium"])?;
    let world = Topology::untagged()?;
    let mut daemon = vigilant(&world)?;
    let mut browser = Browser::start(&world.inside)?;
    browser.open(PAGE)?;
    let fresh = "document.querySelector('#fresh').innerText.startsWith('As of')";
    browser.wait("fresh numbers", SOON, fresh)?;
    daemon.kill()?;
    browser.wait(
        "that it is stale",
        SOON,
        "document.querySelector('#fresh').innerText.startsWith('Stale since')",
    )?;
    let kept = browser.text("#rule-table")?;
    assert!(kept.contains("shop"), "what was read stays: {kept}");
    daemon.launch()?;
    browser.wait("fresh numbers again", SOON, fresh)?;
    Ok(())
}

/// The first stop is the way past the header; the theme can be chosen without a mouse.
fn keyboard(browser: &mut Browser) -> Result<()> {
    browser.evaluate("document.activeElement.blur()")?;
    browser.press("Tab")?;
    let first = browser.evaluate("document.activeElement.className")?;
    assert_eq!(first, "skip");
    for (theme, ground) in [("light", "rgb(244, 246, 248)"), ("dark", "rgb(15, 21, 27)")] {
        browser.evaluate("document.getElementById('theme').focus()")?;
        browser.press("Enter")?;
        assert_eq!(browser.text("#theme")?, format!("Theme: {theme}"));
        let shown = browser.evaluate("getComputedStyle(document.body).backgroundColor")?;
        assert_eq!(shown, ground);
    }
    browser.press("Enter")?;
    assert_eq!(browser.text("#theme")?, "Theme: system");
    Ok(())
}

/// Pictures for the documentation, once there are minutes of traffic to show.
fn pictures(world: &Topology, browser: &mut Browser, folder: &std::path::Path) -> Result<()> {
    let started = Instant::now();
    let learned = "document.querySelectorAll('#service-table tbody th').length > 1";
    while browser.evaluate(learned)? != Value::Bool(true)
        || started.elapsed() < Duration::from_secs(150)
    {
        visit(world, 2 + started.elapsed().as_secs() as usize % 3)?;
        if started.elapsed() > Duration::from_secs(400) {
            break;
        }
    }
    // Another scanner, so that the page shows an incident that goes on.
    world.add_client(SECOND_SCANNER.parse()?)?;
    scan(world, SECOND_SCANNER)?;
    browser.wait(
        "its ban",
        SOON,
        &format!("document.querySelector('#source-table').innerText.includes('{SECOND_SCANNER}')"),
    )?;
    browser.evaluate("document.activeElement.blur()")?;
    browser.evaluate(
        "document.querySelectorAll('#incidents details').forEach((each) => { each.open = false })",
    )?;
    let small = View {
        height: 1400,
        ..PHONE
    };
    for (name, view) in [
        ("page-light", DESKTOP),
        ("page-dark", NIGHT),
        ("page-phone", small),
    ] {
        browser.look(view)?;
        browser.picture(&folder.join(format!("{name}.png")), view)?;
    }
    Ok(())
}
