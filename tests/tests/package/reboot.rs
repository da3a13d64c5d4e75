//! Reboots of a whole machine, with a kernel, a disk, drivers and a network card of its own, while packets arrive.
//!
//! Nothing outside sees what XDP dropped, so the guest counts: its card what it received, Palisade what it judged,
//! and nftables, behind the fence, what came through to the stack.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palisade_tests::clients::UdpStream;
use palisade_tests::disk::Disk;
use palisade_tests::process::wait_until;
use palisade_tests::topology::{INSIDE, OTHER, WIRE};
use palisade_tests::virtual_machine::{HARDWARE, VirtualMachine, unavailable};
use palisade_tests::{Namespace, debian_root, note, skip_unless_root, skipped};
use serde_json::Value;

use super::scene::Packages;
use super::traffic::{CLOSED, OPEN, POLICY};

/// Four streams, each one packet in this time.
const PACE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// The first to see what the card's driver hands to the stack.
const WITNESS: &str = "table inet witness {
    counter open { }
    counter closed { }
    chain first {
        type filter hook prerouting priority raw; policy accept;
        udp dport 5000 counter name open
        udp dport 5001 counter name closed
    }
}
";
/// Loaded before the network, like the fence; unlike Debian's own service for nftables it stays to the end.
const WITNESS_SERVICE: &str = "[Unit]
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target
After=local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft --file /etc/witness.nft
";
/// Run by systemd when all services and file systems are gone, right before the machine is reset.
const LAST_WORDS: &str = "#!/bin/sh
{ echo; nft --json list counters; } >/dev/ttyS1
";

#[test]
fn a_virtual_machine_that_is_rebooted_and_reset_lets_no_packet_past_the_fence() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    if let Some(why) = unavailable() {
        skipped(&why);
        return Ok(());
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-root");
    let root = match debian_root::with_kernel(&kept)? {
        Ok(root) => root,
        Err(why) => {
            skipped(&why);
            return Ok(());
        }
    };
    let outside = Namespace::create("outside")?;
    let mut guest = Guest::boot(&root, &outside)?;

    let traffic = Traffic::start(&outside)?;
    guest.wait_for_open("packets get in")?;
    let seen = guest.seen()?;
    ensure!(seen.closed > 100, "no fence is not noticed: {seen:?}");
    guest.install()?;
    let before = guest.seen()?;
    guest.wait_for_open("packets get in past the fence")?;
    let down = guest.machine.boots_again_by("systemctl reboot")?;
    let last = Seen::read(last_words(&down)?)?;
    ensure!(
        last.closed == before.closed && last.open > before.open,
        "while the machine went down: {before:?}, then {last:?}"
    );
    guest.fenced_since_boot(traffic, "after a reboot")?;

    let traffic = Traffic::start(&outside)?;
    guest.wait_for_open("packets get in after the reboot")?;
    let seen = guest.seen()?;
    ensure!(seen.closed == 0, "before the reset: {seen:?}");
    guest
        .machine
        .boots_again_by("sync; echo b >/proc/sysrq-trigger")?;
    guest.fenced_since_boot(traffic, "after a reset")
}

struct Guest {
    machine: VirtualMachine,
    interface: String,
    /// Goes last: the emulator has the kernel open.
    _disk: Disk,
}

impl Guest {
    fn boot(root: &Path, outside: &Namespace) -> Result<Self> {
        let disk = Disk::over(root)?;
        VirtualMachine::prepare(&disk)?;
        let network = format!(
            "[Match]\nMACAddress={HARDWARE}\n\n[Network]\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n\
             Address=198.51.100.1/24\nAddress=2001:db8:51::1/64\nGateway=198.51.100.2\n"
        );
        disk.write("etc/systemd/network/wire.network", &network, 0o644)?;
        disk.write("etc/witness.nft", WITNESS, 0o644)?;
        let service = "etc/systemd/system/witness.service";
        disk.write(service, WITNESS_SERVICE, 0o644)?;
        disk.write("usr/lib/systemd/system-shutdown/witness", LAST_WORDS, 0o755)?;
        disk.enable("witness.service", "sysinit.target")?;
        disk.enable("systemd-networkd.service", "multi-user.target")?;
        disk.write("root/policy.toml", POLICY, 0o644)?;
        let package = Packages::get()?.path("+1", ".deb")?;
        std::fs::copy(&package, disk.path().join("root/palisade.deb"))
            .with_context(|| package.display().to_string())?;
        let mut machine = VirtualMachine::boot(&disk, outside, WIRE)?;
        // Neighbours that need not be asked for: packets go out whatever the guest does.
        for (index, address) in OTHER.into_iter().enumerate() {
            let length = [24, 64][index];
            outside.run(&format!("ip addr add {address}/{length} dev {WIRE}"))?;
            let neighbour = format!(
                "ip neigh replace {} lladdr {HARDWARE} dev {WIRE} nud permanent",
                INSIDE[index]
            );
            outside.run(&neighbour)?;
        }
        let mut interface = String::new();
        wait_until("there is a default route", PATIENCE, || {
            let route = machine.run("ip -oneline route show default")?;
            let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
            interface = words.nth(1).unwrap_or_default().to_owned();
            Ok(!interface.is_empty())
        })?;
        Ok(Self {
            machine,
            interface,
            _disk: disk,
        })
    }

    /// As people do: on the running machine, which has a default route.
    fn install(&mut self) -> Result<()> {
        self.machine.run("dpkg --install /root/palisade.deb")?;
        self.machine
            .run("cp /root/policy.toml /etc/palisade/policy.toml && palisade apply")?;
        let status = self.status()?;
        ensure!(
            status["interfaces"][0]["name"] == self.interface.as_str(),
            "{status:#}"
        );
        // The service manager's filter must leave the daemon what it confines itself with.
        let confined = &status["confinement"];
        ensure!(
            confined["system_calls"] == true && confined["file_system"] != "none",
            "{status:#}"
        );
        Ok(())
    }

    fn status(&mut self) -> Result<Value> {
        let text = self.machine.run("palisade status --json")?;
        serde_json::from_str(&text).context(text)
    }

    /// Packets that Palisade has judged on their way in, since it stands.
    fn judged(&mut self) -> Result<u64> {
        let status = self.status()?;
        let totals = status["totals"].as_array().context("no totals")?;
        let inbound = totals
            .iter()
            .filter(|total| total["direction"] == "inbound");
        Ok(inbound.filter_map(|total| total["packets"].as_u64()).sum())
    }

    fn seen(&mut self) -> Result<Seen> {
        let file = format!("/sys/class/net/{}/statistics/rx_packets", self.interface);
        let said = format!("cat {file}; nft --json list counters");
        let said = self.machine.run(&said)?;
        let (received, counters) = said.split_once('\n').context("one line")?;
        let mut seen = Seen::read(counters)?;
        seen.received = received.parse()?;
        Ok(seen)
    }

    /// Waits until packets to the open port come in.
    fn wait_for_open(&mut self, what: &str) -> Result<()> {
        let before = self.seen()?.open;
        wait_until(what, PATIENCE, || Ok(self.seen()?.open > before + 300))?;
        Ok(())
    }

    /// Ends the streams that went on through the boot: all that the card received since then was judged.
    fn fenced_since_boot(&mut self, traffic: Traffic, when: &str) -> Result<()> {
        self.wait_for_open(when)?;
        traffic.stop()?;
        let mut counts = (Seen::default(), 0);
        let compared = wait_until(
            "every packet that came in was judged",
            Duration::from_secs(30),
            || {
                // A daemon that comes too late does not answer yet.
                counts = (self.seen()?, self.judged().unwrap_or_default());
                Ok(counts.0.received == counts.1)
            },
        );
        if let Err(error) = compared {
            let units = "-u palisade -u systemd-networkd -u witness";
            let journal = format!("journalctl -b --no-pager -o short-monotonic {units}");
            let journal = self.machine.run(&journal)?;
            return Err(error.context(format!("{when}: {counts:?}\n{journal}")));
        }
        ensure!(counts.0.closed == 0 && counts.1 > 500, "{when}: {counts:?}");
        note(&format!(
            "{when}: {} packets received, {} judged, {} to the open port and {} to the closed one in the stack",
            counts.0.received, counts.1, counts.0.open, counts.0.closed
        ));
        Ok(())
    }
}

/// What the guest's own counters say.
#[derive(Debug, Default)]
struct Seen {
    /// By the card, since the machine booted.
    received: u64,
    /// Behind the fence.
    open: u64,
    closed: u64,
}

impl Seen {
    fn read(text: &str) -> Result<Self> {
        let list: Value = serde_json::from_str(text.trim()).with_context(|| text.to_owned())?;
        let of = |name: &str| {
            let entries = list["nftables"].as_array()?;
            let mut counters = entries.iter().map(|entry| &entry["counter"]);
            counters.find(|counter| counter["name"] == name)?["packets"].as_u64()
        };
        Ok(Self {
            received: 0,
            open: of("open").with_context(|| text.to_owned())?,
            closed: of("closed").with_context(|| text.to_owned())?,
        })
    }
}

/// The counters that the machine told as it went down.
fn last_words(said: &str) -> Result<&str> {
    let line = said.lines().find(|line| line.starts_with("{\"nftables\""));
    line.with_context(|| format!("no last words in:\n{said}"))
}

/// Streams of both families to the open and the closed port.
struct Traffic(Vec<UdpStream>);

impl Traffic {
    fn start(outside: &Namespace) -> Result<Self> {
        let mut streams = Vec::new();
        for (from, to) in OTHER.into_iter().zip(INSIDE) {
            for port in [OPEN, CLOSED] {
                let (from, to) = (SocketAddr::new(from, 0), SocketAddr::new(to, port));
                streams.push(UdpStream::start(outside, from, to, PACE)?);
            }
        }
        Ok(Self(streams))
    }

    fn stop(self) -> Result<()> {
        for stream in self.0 {
            stream.stop()?;
        }
        Ok(())
    }
}
