//! Scans by nmap, of ports and of hosts.

use anyhow::Result;

use super::{Attack, Running};
use crate::evaluation::live::ANSWER;
use crate::evaluation::live::stage::{ATTACKER_V4, ATTACKER_V6, HOST_V4, HOST_V6, Stage};
use crate::topology::{EDGE, INSIDE_V4, INSIDE_V6};

const NMAP: &[&str] = &["nmap"];
const SCAN: &[&str] = &["port_scan"];
const FROM_ATTACKER: &str = "src host 198.51.100.201";
const FROM_ATTACKER_V6: &str = "src host 2001:db8:bad::66";

const fn scan(
    name: &'static str,
    what: &'static str,
    quick: bool,
    start: fn(&Stage) -> Result<Running>,
) -> Attack {
    Attack {
        name,
        what,
        kinds: SCAN,
        also: &[],
        needs: NMAP,
        packets: FROM_ATTACKER,
        seconds: 12,
        quick,
        answer: ANSWER,
        start,
    }
}

pub const ALL: &[Attack] = &[
    scan("nmap-syn", "nmap -sS -p 1-1000", true, |stage| {
        nmap(stage, "-sS -p 1-1000")
    }),
    scan("nmap-connect", "nmap -sT -p 1-1000", false, |stage| {
        nmap(stage, "-sT -p 1-1000")
    }),
    scan("nmap-ack", "nmap -sA -p 1-1000", false, |stage| {
        nmap(stage, "-sA -p 1-1000")
    }),
    scan("nmap-fin", "nmap -sF -p 1-1000", false, |stage| {
        nmap(stage, "-sF -p 1-1000")
    }),
    scan("nmap-null", "nmap -sN -p 1-1000", false, |stage| {
        nmap(stage, "-sN -p 1-1000")
    }),
    scan("nmap-xmas", "nmap -sX -p 1-1000", false, |stage| {
        nmap(stage, "-sX -p 1-1000")
    }),
    scan("nmap-udp", "nmap -sU --top-ports 200", false, |stage| {
        nmap(stage, "-sU --top-ports 200")
    }),
    scan("nmap-protocol", "nmap -sO", false, |stage| {
        nmap(stage, "-sO")
    }),
    Attack {
        seconds: 45,
        ..scan(
            "nmap-slow",
            "nmap -sS --scan-delay 4s, one port every four seconds",
            false,
            |stage| nmap(stage, "-sS -p 8000-8100 --scan-delay 4s"),
        )
    },
    Attack {
        packets: FROM_ATTACKER_V6,
        ..scan("nmap-syn-v6", "nmap -6 -sS -p 1-1000", false, |stage| {
            let options = "-n -Pn -6 -sS -p 1-1000 --max-retries 1";
            let line = format!("nmap {options} -S {ATTACKER_V6} -e wire {HOST_V6}");
            Running::tool(&stage.world.outside, &line)
        })
    },
    Attack {
        kinds: &["host_sweep"],
        also: SCAN,
        ..scan(
            "sweep",
            "nmap -sS -p 445 203.0.113.0/24, of which ten hosts are there",
            false,
            |stage| {
                let (inside, outside) = (&stage.world.inside, &stage.world.outside);
                outside.run(&format!(
                    "ip route add 203.0.113.0/24 via {INSIDE_V4} src {ATTACKER_V4}"
                ))?;
                for last in 10..20 {
                    inside.run(&format!("ip addr add 203.0.113.{last}/32 dev {EDGE}"))?;
                }
                let line = "nmap -n -Pn -sS -p 445 --max-retries 1 203.0.113.0/24";
                Running::tool(outside, line)
            },
        )
    },
    Attack {
        kinds: &["host_sweep"],
        also: SCAN,
        packets: FROM_ATTACKER_V6,
        ..scan(
            "sweep-v6",
            "nmap -6 -sS -p 445 2001:db8:77::/120",
            false,
            |stage| {
                let outside = &stage.world.outside;
                outside.run(&format!("ip -6 route add 2001:db8:77::/64 via {INSIDE_V6}"))?;
                let options = "-n -Pn -6 -sS -p 445 --max-retries 1";
                let line = format!("nmap {options} -S {ATTACKER_V6} -e wire 2001:db8:77::/120");
                Running::tool(outside, &line)
            },
        )
    },
];

fn nmap(stage: &Stage, options: &str) -> Result<Running> {
    let line = format!("nmap -n -Pn {options} --max-retries 1 {HOST_V4}");
    Running::tool(&stage.world.outside, &line)
}
