//! Every key of a rule, on IPv4 and IPv6, inbound and outbound: a packet that it matches and packets that it
//! does not, judged by the loaded kernel programs and by the host engine.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::net::IpAddr;
use std::path::Path;

use firewall_common::decide::Judgement;
use firewall_common::packet::flag::{ACK, SYN};
use firewall_common::{Direction, Verdict};
use firewall_user::datapath::{TestRun, clock};
use firewall_user::engine::HostEngine;
use firewall_user::packet_build::PacketBuilder;
use firewall_user::policy::{Compiled, Environment, Policy, RULE_KEYS};
use palisade_tests::skip_unless_root;

/// Where a packet goes, and a number that no other packet has, for its ports.
#[derive(Clone, Copy, Debug)]
struct At {
    v6: bool,
    direction: Direction,
    number: u16,
}

type Build = fn(At) -> PacketBuilder;

/// A rule's keys, by family, with packets that it matches and packets that it does not.
struct Row {
    keys: fn(bool) -> String,
    matches: &'static [Build],
    passes_over: &'static [Build],
}

const LOCAL: [&str; 2] = ["198.51.100.1", "2001:db8:51::1"];
const REMOTE: [&str; 2] = ["203.0.113.7", "2001:db8:113::7"];
const STRANGER: [&str; 2] = ["203.0.114.7", "2001:db8:114::7"];

fn address(list: [&str; 2], v6: bool) -> IpAddr {
    list[usize::from(v6)].parse().expect("an address")
}

impl At {
    /// A packet between this host and `remote`, the right way round.
    fn with(self, remote: [&str; 2]) -> PacketBuilder {
        let (local, remote) = (address(LOCAL, self.v6), address(remote, self.v6));
        let (source, destination) = match self.direction {
            Direction::Inbound => (remote, local),
            Direction::Outbound => (local, remote),
        };
        PacketBuilder::new(source, destination).expect("one family")
    }

    fn packet(self) -> PacketBuilder {
        self.with(REMOTE)
    }

    fn tcp(self, port: u16, flags: u8) -> PacketBuilder {
        self.packet().tcp(self.number, port, flags)
    }

    fn syn(self) -> PacketBuilder {
        self.tcp(443, SYN)
    }

    fn udp(self, port: u16) -> PacketBuilder {
        self.packet().udp(self.number, port)
    }

    fn ping(self, kind: [u8; 2]) -> PacketBuilder {
        let [high, low] = self.number.to_be_bytes();
        self.packet()
            .icmp(kind[usize::from(self.v6)], 0, [high, low, 0, 1])
    }
}

const ECHO: [u8; 2] = [8, 128];
const TIMESTAMP: [u8; 2] = [13, 130];

const ROWS: &[Row] = &[
    Row {
        keys: |_| "protocol = \"tcp\"".to_owned(),
        matches: &[At::syn],
        passes_over: &[|at| at.udp(443), |at| at.ping(ECHO)],
    },
    Row {
        keys: |_| "protocol = [\"udp\", 99]".to_owned(),
        matches: &[|at| at.udp(1), |at| at.packet().protocol(99)],
        passes_over: &[At::syn, |at| at.packet().protocol(98)],
    },
    Row {
        keys: |v6| format!("protocol = \"{}\"", if v6 { "icmpv6" } else { "icmp" }),
        matches: &[|at| at.ping(ECHO)],
        // The other family's number means nothing here.
        passes_over: &[|at| at.packet().protocol(if at.v6 { 1 } else { 58 })],
    },
    Row {
        keys: |_| "protocol = \"tcp\"\nport = [80, \"8000-8099\"]".to_owned(),
        matches: &[
            |at| at.tcp(80, SYN),
            |at| at.tcp(8000, SYN),
            |at| at.tcp(8099, SYN),
            |at| at.tcp(80, SYN).payload(&[0; 4]).fragment(0, true),
        ],
        passes_over: &[
            |at| at.tcp(81, SYN),
            |at| at.tcp(7999, SYN),
            |at| at.tcp(8100, SYN),
            |at| at.udp(80),
            |at| at.tcp(80, SYN).payload(&[0; 64]).fragment(4, false),
        ],
    },
    Row {
        keys: |_| "protocol = \"udp\"\nfrom_port = \"1000-1999\"".to_owned(),
        matches: &[
            |at| at.packet().udp(1000, at.number),
            |at| at.packet().udp(1999, at.number),
        ],
        passes_over: &[
            |at| at.packet().udp(999, at.number),
            |at| at.packet().udp(2000, at.number),
            |at| at.udp(1500),
        ],
    },
    Row {
        keys: |_| "from = [\"203.0.113.0/24\", \"2001:db8:113::/48\", \"here\"]".to_owned(),
        matches: &[At::syn],
        // The other end of an outgoing packet is not where it is from; this host is.
        passes_over: &[|at| match at.direction {
            Direction::Inbound => at.with(STRANGER),
            Direction::Outbound => {
                PacketBuilder::new(address(STRANGER, at.v6), address(REMOTE, at.v6))
                    .expect("one family")
            }
        }],
    },
    Row {
        keys: |_| "to = [\"203.0.113.7\", \"2001:db8:113::7\", \"here\"]".to_owned(),
        matches: &[At::syn],
        passes_over: &[|at| match at.direction {
            Direction::Outbound => at.with(STRANGER),
            Direction::Inbound => {
                PacketBuilder::new(address(REMOTE, at.v6), address(STRANGER, at.v6))
                    .expect("one family")
            }
        }],
    },
    Row {
        keys: |_| "protocol = \"tcp\"\ntcp_flags = \"syn,!ack\"".to_owned(),
        matches: &[At::syn, |at| at.tcp(443, SYN | 0x40)],
        passes_over: &[|at| at.tcp(443, SYN | ACK), |at| at.tcp(443, ACK)],
    },
    Row {
        keys: |v6| {
            format!(
                "protocol = \"{}\"\nicmp_type = [\"echo-request\", 100]",
                if v6 { "icmpv6" } else { "icmp" }
            )
        },
        matches: &[|at| at.ping(ECHO), |at| at.ping([100, 100])],
        passes_over: &[|at| at.ping(TIMESTAMP), At::syn],
    },
    Row {
        keys: |v6| format!("length = \"{}\"", if v6 { "80-90" } else { "60-70" }),
        matches: &[
            |at| at.syn().payload(&[0; 20]),
            |at| at.syn().payload(&[0; 30]),
        ],
        passes_over: &[
            |at| at.syn().payload(&[0; 19]),
            |at| at.syn().payload(&[0; 31]),
        ],
    },
    Row {
        keys: |_| "ttl = [1, \"60-64\"]".to_owned(),
        matches: &[|at| at.syn().ttl(1), |at| at.syn().ttl(64)],
        passes_over: &[|at| at.syn().ttl(2), |at| at.syn().ttl(255)],
    },
    Row {
        keys: |_| "protocol = \"tcp\"\ntcp_window = [0, \"1024-2048\"]".to_owned(),
        matches: &[|at| at.syn().tcp_window(0), |at| at.syn().tcp_window(2048)],
        passes_over: &[|at| at.syn().tcp_window(1), |at| at.syn().tcp_window(2049)],
    },
    Row {
        keys: |_| "payload = [\"0:474554 20\", { offset = 2, hex = \"ff??0?\" }]".to_owned(),
        matches: &[
            |at| at.syn().payload(b"GET /"),
            |at| at.udp(53).payload(b"GET "),
            |at| at.ping(ECHO).payload(b"GET "),
            |at| at.packet().protocol(99).payload(b"GET "),
            |at| at.udp(53).payload(&[1, 2, 0xff, 3, 0x0f]),
            |at| at.udp(53).payload(b"GET /abc").fragment(0, true),
        ],
        passes_over: &[
            |at| at.syn().payload(b"GET"),
            |at| at.syn().payload(b"POST"),
            |at| at.udp(53).payload(&[1, 2, 0xff, 3, 0x1f]),
            |at| at.udp(53).payload(&[1, 2, 0xff, 3]),
            |at| at.udp(53).payload(b"GET GET GET GET ").fragment(2, false),
        ],
    },
    Row {
        keys: |_| "payload = { offset = 1400, text = \"far\" }".to_owned(),
        matches: &[|at| at.udp(53).payload(&[&[0; 1400][..], b"far"].concat())],
        passes_over: &[|at| at.udp(53).payload(&[&[0; 1399][..], b"far"].concat())],
    },
    Row {
        keys: |_| "vlan = [0, 7]".to_owned(),
        matches: &[
            |at| at.syn().vlan(7),
            |at| at.syn().vlan(0),
            |at| at.syn().tag(0x88a8, 7).vlan(8),
        ],
        passes_over: &[
            At::syn,
            |at| at.syn().vlan(8),
            |at| at.syn().tag(0x88a8, 8).vlan(7),
        ],
    },
    Row {
        keys: |_| "interface = [\"edge1\", \"edge0\"]".to_owned(),
        matches: &[At::syn],
        passes_over: &[],
    },
    Row {
        keys: |_| "interface = \"edge1\"".to_owned(),
        matches: &[],
        passes_over: &[At::syn],
    },
    Row {
        keys: |_| "fragment = true".to_owned(),
        // A later one that follows its first is not judged by itself.
        matches: &[
            |at| at.syn().payload(&[0; 16]).fragment(9, false),
            |at| at.syn().payload(&[0; 20]).fragment(0, true),
        ],
        passes_over: &[At::syn],
    },
    Row {
        keys: |_| "fragment = false".to_owned(),
        matches: &[At::syn],
        passes_over: &[
            |at| at.syn().payload(&[0; 16]).fragment(9, false),
            |at| at.syn().payload(&[0; 20]).fragment(0, true),
        ],
    },
    Row {
        keys: |_| "owner = \"operations\"\nreason = \"because\"".to_owned(),
        matches: &[At::syn, |at| at.udp(53), |at| at.ping(ECHO)],
        passes_over: &[],
    },
];

/// Keys that say what a rule does rather than what it matches, or that have tests of their own.
const ELSEWHERE: [&str; 7] = [
    "name",
    "action",
    "direction",
    "mode",
    "log",
    "expires",
    "limit",
];

/// A policy in both engines.
struct Bench {
    host: HostEngine,
    kernel: Option<TestRun>,
    compiled: Compiled,
    now: u64,
    number: u16,
}

impl Bench {
    fn new(rules: &str) -> Self {
        let text = format!(
            "version = 1\n[defaults]\ninbound = \"accept\"\n[sets]\n\
             here = [\"198.51.100.1\", \"2001:db8:51::1\"]\n{rules}"
        );
        let read = Policy::parse(&text, "policy.toml", Path::new(""));
        let (policy, _) = read.unwrap_or_else(|refused| panic!("{refused}\n{text}"));
        let environment = Environment {
            interfaces: vec!["edge0".to_owned(), "edge1".to_owned()],
            ..Environment::default()
        };
        let compiled = policy.compile(&environment).expect("it compiles");
        let kernel = (!skip_unless_root())
            .then(|| TestRun::new(compiled.clone()).expect("the verifier takes it"));
        Self {
            host: HostEngine::new(compiled.clone()),
            kernel,
            compiled,
            now: clock::monotonic(),
            number: 20_000,
        }
    }

    /// The judgement of both engines on a packet, and how often the rule counted it.
    fn judge(
        &mut self,
        rule: &str,
        build: Build,
        v6: bool,
        direction: Direction,
    ) -> (Judgement, u64) {
        self.number += 1;
        let at = At {
            v6,
            direction,
            number: self.number,
        };
        let frame = build(at).build();
        let counter = self.compiled.counters.of(rule).expect("the rule's counter");
        let before = self.host.hits(counter).packets;
        let judgement = self.host.judge(&frame, direction, self.now).judgement;
        let hits = self.host.hits(counter).packets - before;
        if let Some(kernel) = &mut self.kernel {
            let before = kernel.hits(counter).packets;
            let theirs = kernel
                .judge(&frame, direction, self.now)
                .expect("a judgement");
            assert_eq!(theirs.expect("a frame that it takes"), judgement, "{at:?}");
            assert_eq!(kernel.hits(counter).packets - before, hits, "{at:?}");
        }
        (judgement, hits)
    }
}

#[test]
fn each_key_matches_what_it_says_on_both_families_and_in_both_directions() {
    for row in ROWS {
        for v6 in [false, true] {
            let keys = (row.keys)(v6);
            let mut bench = Bench::new(&format!(
                "[[rule]]\nname = \"in\"\naction = \"count\"\n{keys}\n\
                 [[rule]]\nname = \"out\"\naction = \"count\"\ndirection = \"outbound\"\n{keys}\n"
            ));
            for (rule, direction) in [("in", Direction::Inbound), ("out", Direction::Outbound)] {
                let packets = row.matches.iter().map(|build| (build, 1));
                let others = row.passes_over.iter().map(|build| (build, 0));
                for (index, (build, expected)) in packets.chain(others).enumerate() {
                    let (_, hits) = bench.judge(rule, *build, v6, direction);
                    assert_eq!(hits, expected, "{keys}\npacket {index}, IPv6 {v6}, {rule}");
                }
            }
        }
    }
}

#[test]
fn no_key_is_left_out() {
    let keys: String = ROWS.iter().map(|row| (row.keys)(false) + "\n").collect();
    for key in RULE_KEYS {
        let written = keys
            .lines()
            .any(|line| line.starts_with(&format!("{key} =")));
        assert!(written || ELSEWHERE.contains(key), "{key}");
    }
}

#[test]
fn action_mode_log_and_expiry_do_what_they_say_on_both_families_and_in_both_directions() {
    let second = 1_000_000_000;
    // Expiry is compared with the packets' clock; here that is the calendar.
    let ends = |now: u64| {
        let time = jiff::Timestamp::from_nanosecond(i128::from(now)).expect("a time");
        format!("expires = {}", time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    };
    let now = clock::monotonic();
    let (past, later) = (ends(now), ends(now + 3_600 * second));
    for (keys, verdict, log, hits) in [
        ("action = \"accept\"".to_owned(), Verdict::Pass, false, 1),
        ("action = \"drop\"".to_owned(), Verdict::Drop, false, 1),
        (
            "action = \"drop\"\nlog = true".to_owned(),
            Verdict::Drop,
            true,
            1,
        ),
        (
            "action = \"drop\"\nmode = \"observe\"".to_owned(),
            Verdict::Pass,
            false,
            1,
        ),
        ("action = \"count\"".to_owned(), Verdict::Pass, false, 1),
        (
            format!("action = \"drop\"\n{later}"),
            Verdict::Drop,
            false,
            1,
        ),
        (
            format!("action = \"drop\"\n{past}"),
            Verdict::Pass,
            false,
            0,
        ),
    ] {
        let mut bench = Bench::new(&format!(
            "[[rule]]\nname = \"in\"\n{keys}\n[[rule]]\nname = \"out\"\ndirection = \"outbound\"\n{keys}\n"
        ));
        for (rule, direction) in [("in", Direction::Inbound), ("out", Direction::Outbound)] {
            for v6 in [false, true] {
                let (judgement, counted) = bench.judge(rule, At::syn, v6, direction);
                assert_eq!(
                    (judgement.verdict, judgement.log, counted),
                    (verdict, log, hits),
                    "{keys}, IPv6 {v6}, {rule}"
                );
            }
        }
    }
}
