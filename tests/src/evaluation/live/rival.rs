//! fastnetmon on the same wire: when it says that the host is under attack.
//!
//! It listens on the outer end of the wire (AF_PACKET), where it sees every packet in both
//! directions, also those that the fence drops later. Everything is as Debian ships it, but for the
//! threshold: 20,000 packets per second to a host there, and what its documentation says to set it
//! to here, twice what the host gets on an ordinary day.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;

use crate::namespace::Namespace;
use crate::process::{Background, wait_until};
use crate::topology::{INSIDE_V4, INSIDE_V6, WIRE};

/// Packets per second to or from the host, about twice what the visitors of
/// [`visitors`](super::visitors) cause.
pub const THRESHOLD: u64 = 4_000;

/// fastnetmon under way; it ends when this goes.
#[derive(Debug)]
pub struct Rival {
    folder: tempfile::TempDir,
    _process: Background,
}

impl Rival {
    pub fn start(outside: &Namespace) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let at = folder.path().display();
        fs::write(
            path("notify"),
            format!("#!/bin/sh\necho \"$(date +%s.%N) $4\" >> {at}/notified\ncat > /dev/null\n"),
        )?;
        fs::set_permissions(path("notify"), Permissions::from_mode(0o755))?;
        fs::write(
            path("networks"),
            format!("{INSIDE_V4}/32\n{INSIDE_V6}/128\n"),
        )?;
        fs::write(path("none"), "")?;
        fs::write(
            path("settings"),
            format!(
                "disable_usage_report = on\nenable_ban = on\nenable_ban_ipv6 = on\n\
                 process_incoming_traffic = on\nprocess_outgoing_traffic = on\n\
                 networks_list_path = {at}/networks\nwhite_list_path = {at}/none\n\
                 monitor_local_ip_addresses = off\n\
                 ban_for_pps = on\nban_for_bandwidth = on\nban_for_flows = off\n\
                 threshold_pps = {THRESHOLD}\nthreshold_mbps = 1000\nthreshold_flows = 3500\n\
                 ban_time = 1900\nunban_only_if_attack_finished = on\n\
                 mirror_afpacket = on\ninterfaces = {WIRE}\n\
                 average_calculation_time = 5\nspeed_calculation_delay = 1\ncheck_period = 1\n\
                 notify_script_path = {at}/notify\npid_path = {at}/pid\n\
                 cli_stats_file_path = {at}/stats\ncli_stats_ipv6_file_path = {at}/stats6\n\
                 enable_api = off\nprometheus = off\nlogging_local_syslog_logging = off\n"
            ),
        )?;
        let log = fs::File::create(path("log"))?;
        let mut command = outside.command("fastnetmon");
        command
            .args([
                "--log_to_console",
                "--disable_pid_logic",
                "--configuration_file",
            ])
            .arg(path("settings"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Background::spawn(&mut command)?;
        let log = path("log");
        wait_until("fastnetmon listens", Duration::from_secs(10), || {
            Ok(fs::read_to_string(&log)?.contains("AF_PACKET worker"))
        })?;
        Ok(Self {
            folder,
            _process: process,
        })
    }

    /// When it first called its script about an attack, in Unix seconds.
    pub fn noticed(&self) -> Option<f64> {
        let said = fs::read_to_string(self.folder.path().join("notified")).ok()?;
        let line = said.lines().find(|line| line.ends_with(" ban"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}
