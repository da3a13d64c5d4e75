//! The world of the show: a shop behind the fence, visitors and attackers before it.

use std::{fs, net::IpAddr, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use palisade_tests::{
    Background, Daemon, Topology,
    clients::{Connect, connect},
    daemon::{METRICS, Mode, palisade},
    process::wait_until,
    servers::{self, Server},
    topology::{CLIENT_V4, CLIENT_V6, EDGE, INSIDE, INSIDE_V4, INSIDE_V6},
};
use serde_json::Value;
use tempfile::TempDir;

use super::screen::Screen;

/// What the shop puts in force.
pub const POLICY: &str = include_str!("policy.toml");
/// The sources of the scan and of the flood, in a range that is kept for documentation and that
/// leads nowhere but to the outside's namespace.
pub const SCANNER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 66));

/// Fields go in this order: the daemon and the servers before what they run in.
pub struct Stage {
    pub daemon: Daemon,
    _shop: Background,
    _others: Vec<Server>,
    _pages: TempDir,
    pub world: Topology,
}

impl Stage {
    pub fn build(screen: &Screen) -> Result<Self> {
        screen.heading("The stage");
        let world = Topology::untagged()?;
        world.add_client(SCANNER)?;
        screen.step(&format!(
            "two network namespaces, one wire: the shop ({INSIDE_V4}, {INSIDE_V6}), the outside ({CLIENT_V4}, {CLIENT_V6} and others)"
        ));

        let pages = tempfile::tempdir()?;
        fs::write(pages.path().join("index.html"), "welcome to the shop\n")?;
        let shop = Background::spawn(
            world
                .inside
                .command("python3")
                .args(["-m", "http.server", "80", "--bind", "::"])
                .current_dir(pages.path())
                // Its name is of no use to anybody; do not wait for a name server that is not there.
                .env("RES_OPTIONS", "attempts:1 timeout:1")
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        let others = vec![
            servers::http(&world.inside, 8080, "back office")?,
            servers::http(&world.outside, 80, "a supplier")?,
            servers::udp_echo(&world.outside, 53)?,
        ];
        let socket = (INSIDE[0], 80).into();
        wait_until("the shop's server answers", Duration::from_secs(10), || {
            let attempt = connect(&world.outside, socket, Duration::from_secs(1))?;
            Ok(attempt == Connect::Accepted)
        })?;
        screen.step("HTTP servers: the shop on port 80, a back office on port 8080 that nobody outside may see");

        let mut daemon = Daemon::prepare(&world.inside, POLICY, EDGE, Mode::Auto)?;
        daemon.write_settings(
            &format!("interfaces = [\"{EDGE}\"]"),
            "[respond]\nmode = \"ban\"\nban_for = \"1m\"\n",
        )?;
        daemon.launch()?;
        let status = daemon.palisade(&["status"])?;
        screen.step(&format!(
            "the daemon is up: {} mode, tc egress by {}, generation {}, {} rules",
            text(&status["interfaces"][0]["mode"]),
            text(&status["interfaces"][0]["egress"]),
            status["policy"]["generation"],
            status["policy"]["rules"],
        ));
        Ok(Self {
            daemon,
            _shop: shop,
            _others: others,
            _pages: pages,
            world,
        })
    }

    /// Inbound packets so far with this verdict, for any reason.
    pub fn inbound(&self, verdict: &str) -> Result<u64> {
        let status = self.daemon.palisade(&["status"])?;
        let totals = status["totals"]
            .as_array()
            .context("status has no totals")?;
        Ok(totals
            .iter()
            .filter(|total| total["direction"] == "inbound" && total["verdict"] == verdict)
            .filter_map(|total| total["packets"].as_u64())
            .sum())
    }

    /// What to try while the sandbox is left up.
    pub fn hints(&self, screen: &Screen) {
        let inside = self.world.inside.path();
        let outside = self.world.outside.path();
        let program = palisade().unwrap_or_else(|_| "palisade".into());
        screen.heading("The sandbox stays up until Ctrl-C. In another terminal, as root:");
        println!(
            "  export PALISADE_SOCKET={}",
            self.daemon.socket().display()
        );
        for verb in ["status", "top", "alerts", "bans", "rule list"] {
            println!("  {} {verb}", program.display());
        }
        println!(
            "  {} explain --from 198.51.100.9 --to {INSIDE_V4}:80 --protocol tcp",
            program.display()
        );
        println!(
            "  nsenter --net={} curl --interface 198.51.100.3 http://{INSIDE_V4}/",
            outside.display()
        );
        println!(
            "  nsenter --net={} nmap -n -Pn -F {INSIDE_V4}",
            outside.display()
        );
        println!("  nsenter --net={} curl {METRICS}", inside.display());
        println!("  the policy: {}", self.daemon.policy().display());
    }
}

/// A JSON string without its quotes; anything else as JSON writes it.
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => "-".to_owned(),
        None => value.to_string(),
    }
}
