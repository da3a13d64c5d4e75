//! What an operations team sees from afar: each query of the dashboard has an answer, each metric that it and
//! the alerting rules name is exported and documented, and an attack arrives as an alert.

mod dashboard;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::clients::curl;
use palisade_tests::daemon::Mode;
use palisade_tests::monitoring::{Alertmanager, Prometheus, packaging};
use palisade_tests::process::wait_until;
use palisade_tests::topology::{CLIENT, EDGE, INSIDE, LISTED, WIRE};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root};
use serde_json::Value;

use dashboard::Dashboard;

const PATIENCE: Duration = Duration::from_secs(3);
/// Scrapes and evaluations come each second; the rest is for a machine that is busy.
const SOON: Duration = Duration::from_secs(60);
const SCANNER: &str = "203.0.113.66";

/// A shop with something for every panel: a limit, a rule under observation, a drop rule.
const POLICY: &str = r#"
version = 1

[defaults]
inbound = "drop"

[[rule]]
name   = "hostile"
action = "drop"
from   = ["198.51.100.9", "2001:db8:51::9"]

[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = 80
limit    = { rate = "100/s", burst = 100, per = "source", unit = "connections" }

[[rule]]
name     = "pings"
action   = "drop"
protocol = "icmp"
mode     = "observe"
"#;

/// Queries that have nothing to show here, and why.
const EMPTY: [(&str, &str); 1] = [(
    "palisade_baseline_",
    "a range is expected only once enough was learned, which takes an hour",
)];

#[test]
fn every_query_of_the_dashboard_is_answered_and_an_attack_arrives_at_alertmanager() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["nmap", "curl", "prometheus", "prometheus-alertmanager"])?;
    let world = Topology::untagged()?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let mut daemon = Daemon::prepare(&world.inside, POLICY, EDGE, Mode::Auto)?;
    daemon.write_settings(
        &format!("interfaces = [\"{EDGE}\"]"),
        "[detect]\nquiet = \"2m\"\n[[notify]]\nname = \"journal\"\nkind = \"journald\"\nsocket = \"none\"\n",
    )?;
    daemon.launch()?;
    let alertmanager = Alertmanager::start(&world.inside)?;
    let prometheus = Prometheus::start(&world.inside)?;

    for from in [CLIENT[0], LISTED[0]] {
        curl(&world.outside, from, INSIDE[0], 80, PATIENCE)?;
    }
    world
        .outside
        .try_run("ping -c 2 -i 0.2 -W 1 198.51.100.1")?;
    daemon.palisade(&["ban", "198.51.100.8"])?;
    let mut empty = EMPTY.map(|(part, _)| part).to_vec();
    if !daemon.try_palisade(&["cookies", "on", "shop"])?.success() {
        // An old kernel cannot send them.
        empty.push("palisade_syn_cookies_armed");
    }
    wait_until("a scrape", SOON, || {
        Ok(!prometheus.query("palisade_policy_generation")?.is_empty())
    })?;
    daemon.palisade(&["apply", "--confirm", "10m", "--force"])?;
    world.add_client(SCANNER.parse()?)?;
    world.outside.run(&format!(
        "nmap -n -Pn -sS -p 1-100 --min-rate 100 --max-retries 0 -e {WIRE} -S {SCANNER} {}",
        INSIDE[0]
    ))?;

    let told = |name: &str| -> Result<Option<Value>> {
        let is = |alert: &Value| {
            alert["labels"]["alertname"] == name && alert["labels"]["kind"] == "port_scan"
        };
        Ok(alertmanager.alerts()?.into_iter().find(is))
    };
    wait_until("the alerts are at Alertmanager", SOON, || {
        Ok(told("PalisadeAttack")?.is_some() && told("PalisadeIncident")?.is_some())
    })?;
    let attack = told("PalisadeAttack")?.context("it was there")?;
    assert_eq!(attack["labels"]["subject"], SCANNER, "{attack:#}");
    assert_eq!(attack["labels"]["instance"], "127.0.0.1:9477", "{attack:#}");
    assert_eq!(
        attack["annotations"]["runbook"], "docs/runbook.md#port_scan",
        "{attack:#}"
    );

    let dashboard = Dashboard::load()?;
    let mut silent = Vec::new();
    wait_until("every query has an answer", SOON, || {
        silent = dashboard.silent(&prometheus)?;
        silent.retain(|query| !empty.iter().any(|part| query.contains(part)));
        Ok(silent.is_empty())
    })
    .with_context(|| format!("{silent:#?}"))?;
    let scrape = daemon.scrape()?;
    named_metrics_exist(&dashboard, &scrape, &empty)
}

/// Every metric that the dashboard and the rules name is documented, and is there.
fn named_metrics_exist(dashboard: &Dashboard, scrape: &str, empty: &[&str]) -> Result<()> {
    let rules = std::fs::read_to_string(packaging("prometheus/palisade.rules.yml"))?;
    let documented = std::fs::read_to_string(packaging("../docs/metrics.md"))?;
    let mut named = metrics(&rules);
    for query in dashboard.queries() {
        named.extend(metrics(query));
    }
    ensure!(named.len() > 25, "too few to be right: {named:?}");
    for metric in named {
        let has_nothing_to_show = empty.iter().any(|part| metric.starts_with(part));
        let typed = format!("# TYPE {metric} ");
        ensure!(
            has_nothing_to_show || scrape.contains(&typed),
            "{metric} is not exported"
        );
        if metric.starts_with("palisade_") {
            ensure!(
                documented.contains(&format!("`{metric}`")),
                "{metric} is not in docs/metrics.md"
            );
        }
    }
    Ok(())
}

/// The names in a text that are metrics of the daemon.
fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("palisade_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}
