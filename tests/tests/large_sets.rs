//! Sets of a million prefixes, end to end: the Internet's table of prefixes and addresses drawn at random
//! are read from files, compiled, and looked up by the host engine and the kernel programs. What they
//! answer is compared with a search for each prefix length in turn.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::HashSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use firewall_common::packet::flag;
use firewall_common::{Direction, Reason};
use firewall_user::datapath::TestRun;
use firewall_user::engine::HostEngine;
use firewall_user::packet_build::PacketBuilder;
use firewall_user::policy::{Compiled, Environment, Policy};
use ipnet::IpNet;
use palisade_tests::{skip_unless_root, skipped};

/// Prefixes as they were written.
#[derive(Default)]
struct Naive(HashSet<IpNet>);

impl Naive {
    fn covers(&self, address: IpAddr) -> bool {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (0..=longest).any(|length| {
            let prefix = IpNet::new(address, length).expect("the length is in range");
            self.0.contains(&prefix.trunc())
        })
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn v4(&mut self) -> IpAddr {
        Ipv4Addr::from_bits(self.next() as u32).into()
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.next() as usize % from.len()]
    }
}

struct World {
    compiled: Compiled,
    table: Naive,
    drawn: Naive,
    asked: Vec<IpAddr>,
}

impl World {
    /// The two sets compiled, and addresses inside, beside and far from their prefixes.
    fn prepare(packed: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the sets");
        let unpacked = Command::new("gzip").arg("-dc").arg(packed).output();
        let text = unpacked.expect("gzip unpacks the table").stdout;
        std::fs::write(folder.path().join("table.netset"), &text).expect("a set's file");
        let text = String::from_utf8(text).expect("the table is text");
        let table: Vec<IpNet> = text
            .lines()
            .map(|line| line.parse().expect("a line is a prefix"))
            .collect();
        let mut random = Random(7);
        let drawn: Vec<IpAddr> = (0..200_000).map(|_| random.v4()).collect();
        let mut text = String::new();
        for address in &drawn {
            writeln!(text, "{address}").expect("a string takes everything");
        }
        std::fs::write(folder.path().join("drawn.netset"), text).expect("a set's file");
        let text = "version = 1\n[defaults]\ninbound = \"accept\"\n\
             [sets]\ndrawn = { file = \"drawn.netset\" }\ntable = { file = \"table.netset\" }\n\
             [[rule]]\nname = \"drawn\"\naction = \"drop\"\nfrom = \"drawn\"\n\
             [[rule]]\nname = \"table\"\naction = \"drop\"\nfrom = \"table\"\n";
        let (policy, _) =
            Policy::parse(text, "policy.toml", folder.path()).expect("the policy is valid");
        let compiled = policy
            .compile(&Environment::default())
            .expect("it compiles");

        let mut asked: Vec<IpAddr> = (0..1_000).map(|_| random.v4()).collect();
        let v6: Vec<IpNet> = table
            .iter()
            .copied()
            .filter(|prefix| prefix.addr().is_ipv6())
            .collect();
        for _ in 0..1_000 {
            asked.extend(edges(*random.pick(&table)));
            asked.extend(edges(*random.pick(&v6)));
            asked.extend(edges(IpNet::from(*random.pick(&drawn))));
        }
        asked.retain(is_possible);
        Self {
            compiled,
            table: Naive(table.into_iter().collect()),
            drawn: Naive(drawn.into_iter().map(IpNet::from).collect()),
            asked,
        }
    }

    /// The name of the rule that has to decide.
    fn expected(&self, source: IpAddr) -> Option<&'static str> {
        if self.drawn.covers(source) {
            Some("drawn")
        } else if self.table.covers(source) {
            Some("table")
        } else {
            None
        }
    }

    fn check(&self, mut judge: impl FnMut(&[u8]) -> (Reason, u32)) {
        let mut seen = HashSet::new();
        for &source in &self.asked {
            let host: IpAddr = match source {
                IpAddr::V4(_) => [203, 0, 113, 77].into(),
                IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77].into(),
            };
            let frame = PacketBuilder::new(source, host)
                .expect("addresses of one family")
                .tcp(40_000, 443, flag::SYN)
                .build();
            let (reason, rule) = judge(&frame);
            let decided = (reason == Reason::Rule)
                .then(|| self.compiled.counters.name(rule))
                .flatten();
            let expected = self.expected(source);
            assert_eq!(decided, expected, "{source}, decided by {}", reason.name());
            seen.insert((source.is_ipv6(), expected));
        }
        // Both sets and neither, and for IPv6 all but the set that has none.
        assert_eq!(seen.len(), 5, "{seen:?}");
    }
}

/// The first and the last address of a prefix, and their neighbours.
fn edges(prefix: IpNet) -> [IpAddr; 4] {
    match prefix {
        IpNet::V4(prefix) => {
            let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpNet::V6(prefix) => {
            let (first, last) = (prefix.network().to_bits(), prefix.broadcast().to_bits());
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
                .map(|bits| std::net::Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// Whether a packet can come from an address at all: others are dropped before any rule is asked.
fn is_possible(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(address) => address.segments()[0] != 0 && !address.is_multicast(),
    }
}

/// The Internet's table, if it is there.
fn packed_table() -> Option<PathBuf> {
    let data = std::env::var_os("PALISADE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let file = data.join("blocklists/bgp-full-table-prefixes.txt.gz");
    if !file.exists() {
        skipped(&format!(
            "no {} (PALISADE_DATA names another folder)",
            file.display()
        ));
        return None;
    }
    Some(file)
}

#[test]
fn the_host_engine_finds_every_address_of_a_million_prefixes_and_no_other() {
    let Some(packed) = packed_table() else {
        return;
    };
    let world = World::prepare(&packed);
    let mut engine = HostEngine::new(world.compiled.clone());
    world.check(|frame| {
        let judgement = engine.judge(frame, Direction::Inbound, 1).judgement;
        (judgement.reason, judgement.rule)
    });
}

#[test]
fn the_kernel_programs_find_every_address_of_a_million_prefixes_and_no_other() {
    if skip_unless_root() {
        return;
    }
    let Some(packed) = packed_table() else {
        return;
    };
    let world = World::prepare(&packed);
    let mut run = TestRun::new(world.compiled.clone()).expect("the verifier takes the programs");
    world.check(|frame| {
        let judged = run
            .judge(frame, Direction::Inbound, 1)
            .expect("the kernel judges");
        let judgement = judged.expect("the kernel takes a plain frame");
        (judgement.reason, judgement.rule)
    });
}
