//! What outlives the daemon, the host, a full disk and a damaged file; and that the fence comes up whatever is left.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use palisade_tests::clients::{Connect, connect};
use palisade_tests::daemon::{Mode, metric};
use palisade_tests::leftovers::remove_pins;
use palisade_tests::process::succeed;
use palisade_tests::topology::{EDGE, INSIDE};
use palisade_tests::{Daemon, Topology, servers, skip_unless_root, stretched};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(5);
/// The disk is tried every five seconds.
const SOON: Duration = Duration::from_secs(60);

const POLICY: &str = "version = 1\n[[rule]]\nname = \"shop\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 7000\n\
                      owner = \"web team\"\nreason = \"customers\"\n\
                      [[rule]]\nname = \"old\"\naction = \"accept\"\nprotocol = \"tcp\"\nport = 7001\n";

/// A small disk of its own for a state folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self> {
        let mut mount = Command::new("mount");
        succeed(
            mount
                .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"])
                .arg(at),
        )?;
        Ok(Self(at.to_owned()))
    }

    /// Takes what room there is left.
    fn fill(&self) -> Result<()> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.0.join("filler"))?;
        for size in [1 << 16, 1 << 12, 1 << 8, 1] {
            loop {
                match file.write(&vec![b'x'; size]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A daemon that still holds it lets go of it at its end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(
            begun.elapsed() < stretched(SOON),
            "not within {SOON:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn bans(daemon: &Daemon) -> Result<Vec<String>> {
    let document = daemon.palisade(&["bans"])?;
    let bans = document["bans"].as_array().context("no bans")?;
    let prefixes = bans.iter().filter_map(|ban| ban["prefix"].as_str());
    Ok(prefixes.map(str::to_owned).collect())
}

fn state(daemon: &Daemon) -> Result<Value> {
    Ok(daemon.palisade(&["status"])?["state"].clone())
}

fn rule(daemon: &Daemon, name: &str) -> Result<Value> {
    let rules = daemon.ask("/v1/rules")?;
    let rules = rules["rules"].as_array().context("no rules")?;
    let found = rules.iter().find(|rule| rule["rule"] == name);
    found.cloned().with_context(|| format!("no rule {name}"))
}

fn knock(world: &Topology) -> Result<Vec<Connect>> {
    let to = INSIDE.iter().map(|to| SocketAddr::new(*to, 7000));
    to.map(|to| connect(&world.outside, to, PATIENCE)).collect()
}

#[test]
fn a_restart_and_a_reboot_leave_bans_hits_ages_and_the_history() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let mut daemon = Daemon::start(&world.inside, POLICY)?;
    daemon.palisade(&["ban", "203.0.113.7", "--for", "1d", "--reason", "stuffing"])?;
    daemon.palisade(&["ban", "2001:db8:bad::/48", "--for", "forever"])?;
    assert_eq!(knock(&world)?, [Connect::Accepted; 2]);
    let hit = || Ok(rule(&daemon, "shop")?["last_hit"].is_string());
    wait_until("the hit is noticed", hit)?;
    let before = rule(&daemon, "shop")?;
    let packets = before["packets"].as_u64().context("no packets")?;
    assert!(packets >= 2 && before["since"].is_string(), "{before:#}");

    // The host goes down in order, and nothing that was pinned is there when it comes up.
    daemon.stop()?;
    remove_pins(daemon.pins());
    daemon.launch()?;
    let after = rule(&daemon, "shop")?;
    assert!(after["packets"].as_u64() >= Some(packets), "{after:#}");
    assert_eq!(after["since"], before["since"]);
    assert!(
        after["last_hit"].as_str() >= before["last_hit"].as_str(),
        "{after:#}"
    );
    assert_eq!(rule(&daemon, "old")?["last_hit"], Value::Null);
    assert_eq!(bans(&daemon)?, ["203.0.113.7/32", "2001:db8:bad::/48"]);

    // The power fails.
    daemon.palisade(&["ban", "203.0.113.8", "--for", "1d"])?;
    daemon.kill()?;
    remove_pins(daemon.pins());
    daemon.launch()?;
    assert_eq!(bans(&daemon)?.len(), 3);
    assert!(rule(&daemon, "shop")?["packets"].as_u64() >= Some(packets));
    let history = daemon.palisade(&["history"])?;
    assert_eq!(
        history["entries"].as_array().map(Vec::len),
        Some(1),
        "{history:#}"
    );
    assert_eq!(state(&daemon)?["healthy"], true);

    let report = daemon.palisade(&["report", "--since", "1d"])?;
    assert_eq!(report["findings"]["no_owner"][0], "old", "{report:#}");
    assert_eq!(report["rules"][0]["owner"], "web team");
    assert!(report["rules"][0]["last_hit"].is_string());
    assert_eq!(report["bans"]["set"], 3);
    assert_eq!(report["audit"]["whole"], true);
    assert_eq!(report["changes"].as_array().map(Vec::len), Some(1));
    let file = daemon.folder().join("review.md");
    let path = file.to_str().context("a path")?;
    let written = daemon.try_palisade(&["report", "--output", path])?;
    assert!(written.success() && written.stdout.is_empty(), "{written}");
    let text = fs::read_to_string(file)?;
    for expected in [
        "# Firewall review of",
        "- Without an owner: old",
        "| shop | accept | inbound | enforce |",
        "| web team | customers |",
        "The hash chain of all",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let wrong = daemon.try_palisade(&["report", "--since", "soon"])?;
    assert_eq!(wrong.code(), 2, "{wrong}");
    Ok(())
}

#[test]
fn a_full_disk_is_told_and_holds_nothing_up_and_all_is_written_when_there_is_room() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let mut daemon = Daemon::prepare(&world.inside, POLICY, EDGE, Mode::Auto)?;
    let disk = SmallDisk::mount(&daemon.state_dir())?;
    daemon.launch()?;
    disk.fill()?;
    daemon.palisade(&["ban", "203.0.113.7", "--reason", "the disk is full"])?;
    daemon.write_policy(&POLICY.replace("port = 7001", "port = [7001, 7002]"))?;
    daemon.palisade(&["apply", "--reason", "the disk is full"])?;
    assert_eq!(bans(&daemon)?, ["203.0.113.7/32"]);
    assert_eq!(knock(&world)?, [Connect::Accepted; 2]);
    wait_until("the full disk is told", || {
        Ok(state(&daemon)?["healthy"] == false)
    })?;
    let told = state(&daemon)?["faults"].to_string();
    assert!(
        told.contains("the state: ") && told.contains("the audit log: "),
        "{told}"
    );
    let scrape = daemon.scrape()?;
    assert!(scrape.contains("palisade_state_healthy 0"), "{scrape}");
    assert!(metric(&scrape, "palisade_state_errors_total", &[]) > 0.0);

    // Whoever starts on a full disk comes up, too, with what can be read.
    daemon.kill()?;
    disk.fill()?;
    daemon.launch()?;
    assert_eq!(knock(&world)?, [Connect::Accepted; 2]);
    // The kernel held the ban all the while.
    assert_eq!(bans(&daemon)?, ["203.0.113.7/32"]);
    daemon.palisade(&["ban", "203.0.113.8", "--reason", "still full"])?;

    disk.make_room()?;
    wait_until("everything is written", || {
        Ok(state(&daemon)?["healthy"] == true)
    })?;
    daemon.kill()?;
    remove_pins(daemon.pins());
    daemon.launch()?;
    assert_eq!(bans(&daemon)?, ["203.0.113.7/32", "203.0.113.8/32"]);
    let audit = daemon.palisade(&["audit"])?;
    assert_eq!(audit["faults"], Value::Array(Vec::new()));
    let records = audit["records"].as_array().context("no records")?;
    let reasons: Vec<&str> = records
        .iter()
        .filter_map(|record| record["reason"].as_str())
        .collect();
    assert!(reasons.contains(&"still full"), "{reasons:?}");
    drop(daemon);
    drop(disk);
    Ok(())
}

#[test]
fn a_damaged_file_is_set_aside_and_the_fence_comes_up_with_what_is_whole() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let mut daemon = Daemon::start(&world.inside, POLICY)?;
    for last in 1..=40 {
        daemon.palisade(&["ban", &format!("203.0.113.{last}")])?;
    }
    daemon.stop()?;
    let path = daemon.state_dir().join("state.db");
    let whole = fs::read(&path)?;
    let half = whole.len() / 2;
    let noise: Vec<u8> = (0..whole.len()).map(|at| (at * 31 % 251) as u8).collect();
    let spoilt = [&whole[..half], &noise[half..]].concat();
    let damages: [&[u8]; 4] = [&whole[..half], &noise, &spoilt, b"SQLite format 3\0"];
    for (number, damaged) in damages.into_iter().enumerate() {
        fs::write(&path, damaged)?;
        // As after a reboot: nothing else knows of the bans.
        remove_pins(daemon.pins());
        fs::write(daemon.state_dir().join("datapath.json"), &noise[..200])?;
        daemon.launch()?;
        assert_eq!(knock(&world)?, [Connect::Accepted; 2]);
        let state = state(&daemon)?;
        let aside = format!("state.db.damaged-{}", number + 1);
        assert!(
            state["set_aside"][0].to_string().contains(&aside),
            "{state:#}"
        );
        assert_eq!(fs::read(daemon.state_dir().join(&aside))?, *damaged);
        assert_eq!(
            metric(&daemon.scrape()?, "palisade_state_damaged_total", &[]),
            1.0
        );
        let told = daemon.try_palisade(&["status"])?;
        assert!(told.stdout.contains(&aside), "{told}");
        // What is left are bans that were made, and new ones are kept.
        let left = bans(&daemon)?;
        assert!(
            left.iter().all(|ban| ban.starts_with("203.0.113.")),
            "{left:?}"
        );
        daemon.palisade(&["ban", "198.51.100.200"])?;
        daemon.stop()?;
        fs::write(&path, &whole)?;
    }
    Ok(())
}

/// Where SQLite keeps a file's `user_version`, big-endian ("Database File Format", 1.3).
const USER_VERSION: std::ops::Range<usize> = 60..64;

#[test]
fn a_state_of_a_later_version_is_left_as_it_is_and_can_be_put_back() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, POLICY)?;
    daemon.palisade(&["ban", "203.0.113.7", "--reason", "before"])?;
    daemon.stop()?;
    let path = daemon.state_dir().join("state.db");
    let ours = fs::read(&path)?;
    assert_eq!(ours[USER_VERSION], [0, 0, 0, 1]);
    let mut later = ours.clone();
    later[USER_VERSION].copy_from_slice(&[0, 0, 0, 9]);
    fs::write(&path, &later)?;
    // As after a reboot: nothing else knows of the ban.
    remove_pins(daemon.pins());
    daemon.launch()?;
    assert!(bans(&daemon)?.is_empty());
    let aside = daemon.state_dir().join("state.db.newer-1");
    let told = state(&daemon)?["set_aside"].to_string();
    for words in [
        "later version (format 9)",
        "state.db.newer-1",
        "put it back",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(fs::read(&aside)?, later);

    // The version that wrote it finds it as it was.
    daemon.stop()?;
    remove_pins(daemon.pins());
    fs::write(&path, &ours)?;
    daemon.launch()?;
    assert_eq!(bans(&daemon)?, ["203.0.113.7/32"]);
    Ok(())
}

#[test]
fn settings_and_a_policy_of_a_later_version_are_refused_by_name_and_the_fence_stays() -> Result<()>
{
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let _echo = servers::tcp_echo(&world.inside, 7000)?;
    let _closed = servers::tcp_echo(&world.inside, 7002)?;
    let mut daemon = Daemon::start(&world.inside, POLICY)?;
    let stays = || -> Result<()> {
        assert_eq!(knock(&world)?, [Connect::Accepted; 2]);
        let closed = SocketAddr::new(INSIDE[0], 7002);
        let attempt = connect(&world.outside, closed, Duration::from_millis(200))?;
        assert_eq!(attempt, Connect::Silent);
        Ok(())
    };
    daemon.write_policy(&POLICY.replace("version = 1", "version = 2"))?;
    let refused = daemon.try_palisade(&["apply"])?;
    let words = "version 2 of the policy language is not supported";
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains(words), "{refused}");
    stays()?;
    daemon.stop()?;
    let refused = daemon.run_to_end()?;
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains(words), "{refused}");
    stays()?;

    daemon.write_policy(POLICY)?;
    daemon.write_settings("version = 2\ninterfaces = [\"edge\"]", "")?;
    let refused = daemon.run_to_end()?;
    assert_eq!(refused.code(), 1, "{refused}");
    let words = "version 2 of the settings is for a later palisade";
    assert!(refused.stderr.contains(words), "{refused}");
    stays()
}

#[test]
fn what_an_earlier_version_left_is_taken_over() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::prepare(&world.inside, POLICY, EDGE, Mode::Auto)?;
    let put = |name: &str, text: String| fs::write(daemon.state_dir().join(name), text);
    let ban = "{\"prefix\":\"203.0.113.7/32\",\"origin\":\"manual\",\"measure\":\"ban\",\"kind\":null,\"reason\":\"before\",\
               \"created\":\"2026-01-01T00:00:00Z\",\"expires\":null}";
    put("bans.json", format!("{{\"version\":1,\"bans\":[{ban}]}}"))?;
    put(
        "bans.journal",
        format!("{{\"ban\":{}}}\n", ban.replace("113.7", "113.8")),
    )?;
    put(
        "rules.json",
        "{\"version\":1,\"rules\":{\"shop\":{\"observing\":false,\"reading\":{\"packets\":5,\"bytes\":300},\
         \"before\":{\"packets\":1000,\"bytes\":60000},\"observed\":{\"packets\":0,\"bytes\":0,\"first\":null,\"latest\":null}}}}"
            .to_owned(),
    )?;
    put("ranges.json", "not even JSON".to_owned())?;
    daemon.launch()?;
    assert_eq!(bans(&daemon)?, ["203.0.113.7/32", "203.0.113.8/32"]);
    assert_eq!(rule(&daemon, "shop")?["packets"], 1005);
    let told = state(&daemon)?["set_aside"].to_string();
    assert!(told.contains("ranges.json"), "{told}");
    let aside = daemon.state_dir().join("before-state.db");
    wait_until("the files go aside", || {
        Ok(aside.join("ranges.json").exists())
    })?;
    let moved = fs::read_dir(&aside)?.count();
    assert_eq!(moved, 4);
    // The next start has them from the state.
    daemon.kill()?;
    remove_pins(daemon.pins());
    daemon.launch()?;
    assert_eq!(bans(&daemon)?.len(), 2);
    assert_eq!(rule(&daemon, "shop")?["packets"], 1005);
    Ok(())
}
