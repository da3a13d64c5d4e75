//! `palisade explain`.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use firewall_common::Direction;
use firewall_common::decide::flow_key;
use firewall_common::packet::{self, Frame, NO_VLAN, Packet, protocol};
use serde_json::{Value, json};

use super::client::{Client, NoDaemon, read};
use super::endpoint::Endpoint;
use super::output::{self, Table};
use super::policy_file::PolicyFile;
use super::{EXIT_USAGE, Global};
use crate::daemon::documents::{BanDocument, Bans, ConnectionReport, EventDocument, Signatures};
use crate::packet_build::PacketBuilder;
use crate::policy::protocol as names;
use crate::replay::explain::{Banned, Entry, Explanation, Question, Signed, StepResult, explain};
use crate::replay::ip_address;

/// Arguments of `palisade explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source: ADDRESS or ADDRESS:PORT, IPv6 with a port as [2001:db8::1]:443
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub from: Endpoint,
    /// The destination, likewise
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub to: Endpoint,
    /// tcp, udp, icmp, icmpv6, any other name a policy knows, or a number
    #[arg(long, default_value = "tcp")]
    pub protocol: String,
    /// TCP flags that are set, such as syn or syn,ack; `none` for none [default: syn]
    #[arg(long)]
    pub flags: Option<String>,
    /// ICMP message type, by name or number [default: echo-request]
    #[arg(long)]
    pub icmp_type: Option<String>,
    /// Which way it crosses the fence
    #[arg(long, value_enum, default_value_t = Way::Inbound)]
    pub direction: Way,
    #[command(flatten)]
    pub policy: PolicyFile,
    /// The interface that it crosses, for rules that name one
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Its VLAN tag
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(0..=4094))]
    pub vlan: Option<u16>,
    /// Its TTL or hop limit
    #[arg(long, default_value_t = 64)]
    pub ttl: u8,
    /// The window of its TCP header
    #[arg(long, value_name = "WINDOW")]
    pub tcp_window: Option<u16>,
    /// Its payload, in hexadecimal
    #[arg(long, value_name = "HEX")]
    pub payload: Option<String>,
    /// Show every rule that was passed over, however many
    #[arg(long)]
    pub all: bool,
}

/// A direction on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    Inbound,
    Outbound,
}

/// Ports that are assumed where none is given.
const CLIENT_PORT: u16 = 40_000;
const SERVICE_PORT: u16 = 443;
/// Rules passed over that are shown without `--all`.
const SHOWN_RULES: usize = 20;

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    let packet = match Described::of(&arguments) {
        Ok(packet) => packet,
        Err(wrong) => {
            eprintln!("palisade: {wrong:#}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let (_, policy) = match arguments.policy.load(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let direction = match arguments.direction {
        Way::Inbound => Direction::Inbound,
        Way::Outbound => Direction::Outbound,
    };
    let (live, no_bans) = match live(global, &packet.frame, direction) {
        Ok(live) => (live, None),
        Err(error) => (Live::default(), Some(error)),
    };
    let now = jiff::Timestamp::now().as_nanosecond();
    let question = Question {
        frame: &packet.frame,
        direction,
        interface: arguments.interface.clone(),
        now: u64::try_from(now).unwrap_or(0),
        bans: &live.bans,
        connection: live.connection,
        signatures: &live.signatures,
    };
    let explanation = explain(&policy, &question)?;
    if global.json {
        let mut document = serde_json::to_value(&explanation)?;
        document["packet"] = json!(packet.words);
        document["direction"] = json!(question.direction.name());
        document["bans_known"] = json!(no_bans.is_none());
        output::json(&document)?;
    } else {
        print(&packet, question.direction, &explanation, arguments.all)?;
        if let Some(error) = no_bans {
            eprintln!("palisade: bans and connections were left out: {error:#}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The document of a first packet from `address` to where `latest` of it went.
pub(super) fn verdict(
    global: &Global,
    policy: &PolicyFile,
    latest: &EventDocument,
    address: IpAddr,
) -> anyhow::Result<Value> {
    let inbound = latest.direction == Direction::Inbound.name();
    let (to, port) = if inbound {
        (latest.destination, latest.destination_port)
    } else {
        (latest.source, latest.source_port)
    };
    let with_ports = matches!(latest.protocol, protocol::TCP | protocol::UDP);
    let arguments = Args {
        from: Endpoint {
            address,
            port: None,
        },
        to: Endpoint {
            address: to,
            port: with_ports.then_some(port),
        },
        protocol: latest.protocol.to_string(),
        flags: None,
        icmp_type: None,
        direction: Way::Inbound,
        policy: policy.clone(),
        interface: Some(latest.interface.clone()),
        vlan: None,
        ttl: 64,
        tcp_window: None,
        payload: None,
        all: false,
    };
    let packet = Described::of(&arguments)?;
    let Ok((_, policy)) = arguments.policy.load(global)? else {
        bail!("the policy cannot be read");
    };
    let live = live(global, &packet.frame, Direction::Inbound)?;
    let now = jiff::Timestamp::now().as_nanosecond();
    let question = Question {
        frame: &packet.frame,
        direction: Direction::Inbound,
        interface: arguments.interface.clone(),
        now: u64::try_from(now).unwrap_or(0),
        bans: &live.bans,
        connection: live.connection,
        signatures: &live.signatures,
    };
    let mut document = serde_json::to_value(explain(&policy, &question)?)?;
    document["packet"] = json!(packet.words);
    Ok(document)
}

/// What the tables of the running daemon hold about a packet.
#[derive(Default)]
struct Live {
    bans: Vec<Banned>,
    connection: Option<Entry>,
    signatures: Vec<Signed>,
}

/// Asks the running daemon.
fn live(global: &Global, frame: &[u8], direction: Direction) -> anyhow::Result<Live> {
    let client = Client::new(&global.socket)?;
    let Bans { bans } = match client.get("/v1/bans") {
        Ok(document) => read(document)?,
        Err(error) if error.is::<NoDaemon>() => return Err(anyhow!("no daemon answers")),
        Err(error) => return Err(error),
    };
    let mut packet = Packet::default();
    packet::parse(&mut Frame::new(frame), NO_VLAN, &mut packet);
    let key = flow_key(&packet, direction);
    let path = format!(
        "/v1/connection?local={}&remote={}&protocol={}&local_port={}&remote_port={}",
        ip_address(key.local),
        ip_address(key.remote),
        key.protocol,
        key.local_port,
        key.remote_port
    );
    let ConnectionReport { connection } = read(client.get(&path)?)?;
    let Signatures { signatures } = read(client.get("/v1/signatures")?)?;
    let signed = signatures.into_iter().map(|signature| Signed {
        name: signature.name,
        conditions: signature.conditions,
    });
    Ok(Live {
        signatures: signed.collect(),
        bans: bans.into_iter().map(banned).collect(),
        connection: connection.map(|found| Entry {
            idle: Duration::try_from_secs_f64(found.idle_seconds).unwrap_or_default(),
            answered: found.answered,
            closing: found.closing,
            rule: found.rule,
        }),
    })
}

fn banned(ban: BanDocument) -> Banned {
    let mut note = match (ban.expires, ban.remaining_seconds) {
        (Some(end), Some(left)) => format!("until {end} ({} left)", output::seconds(left)),
        _ => "without end".to_owned(),
    };
    note.push_str(&format!(", {}", ban.origin));
    if let Some(reason) = ban.reason {
        note.push_str(&format!(": {reason}"));
    }
    Banned {
        limited: ban.measure == "limit",
        prefix: ban.prefix,
        note: Some(note),
    }
}

/// The packet in question.
struct Described {
    frame: Vec<u8>,
    words: String,
}

impl Described {
    fn of(arguments: &Args) -> anyhow::Result<Self> {
        let (from, to) = (arguments.from, arguments.to);
        let Some(mut builder) = PacketBuilder::new(from.address, to.address) else {
            bail!(
                "--from {} and --to {}: one is IPv4 and the other IPv6",
                from.address,
                to.address
            );
        };
        let v6 = from.address.is_ipv6();
        let number = protocol_number(&arguments.protocol, v6)?;
        if arguments.flags.is_some() && number != protocol::TCP {
            bail!("--flags are of TCP, the protocol is {}", arguments.protocol);
        }
        let icmp = matches!(number, protocol::ICMP | protocol::ICMPV6);
        if arguments.icmp_type.is_some() && !icmp {
            bail!(
                "--icmp-type is of ICMP, the protocol is {}",
                arguments.protocol
            );
        }
        let with_ports = matches!(number, protocol::TCP | protocol::UDP);
        if !with_ports && (from.port.is_some() || to.port.is_some()) {
            bail!(
                "{} has no ports that could be set here; leave :PORT out",
                arguments.protocol
            );
        }
        let ports = (
            from.port.unwrap_or(CLIENT_PORT),
            to.port.unwrap_or(SERVICE_PORT),
        );
        let name = names::protocol_name(number);
        let mut words = if with_ports {
            let source = Endpoint {
                port: Some(ports.0),
                ..from
            };
            let destination = Endpoint {
                port: Some(ports.1),
                ..to
            };
            format!("{name} {source} to {destination}")
        } else {
            format!("{name} {from} to {to}")
        };
        builder = match number {
            protocol::TCP => {
                let flags = tcp_flags(arguments.flags.as_deref().unwrap_or("syn"))?;
                let set: Vec<&str> = names::tcp_flag_names(flags).collect();
                words.push_str(&match set.is_empty() {
                    true => ", no flags".to_owned(),
                    false => format!(", {}", set.join(" ")),
                });
                builder.tcp(ports.0, ports.1, flags)
            }
            protocol::UDP => builder.udp(ports.0, ports.1),
            _ if icmp => {
                let kind = arguments.icmp_type.as_deref().unwrap_or("echo-request");
                let kind = icmp_type(number, kind)?;
                words.push_str(&format!(", {}", names::icmp_type_name(number, kind)));
                builder.icmp(kind, 0, [0, 1, 0, 1])
            }
            _ => builder.protocol(number),
        };
        if let Some(window) = arguments.tcp_window {
            if number != protocol::TCP {
                bail!(
                    "--tcp-window is of TCP, the protocol is {}",
                    arguments.protocol
                );
            }
            builder = builder.tcp_window(window);
            words.push_str(&format!(", window {window}"));
        }
        if let Some(hex) = &arguments.payload {
            let payload = bytes_of(hex)?;
            builder = builder.payload(&payload);
            words.push_str(&format!(", {} bytes of payload", payload.len()));
        }
        if let Some(vlan) = arguments.vlan {
            builder = builder.vlan(vlan);
            words.push_str(&format!(", VLAN {vlan}"));
        }
        if with_ports && to.port.is_none() {
            words.push_str(&format!(" (no port given: {SERVICE_PORT} assumed)"));
        }
        let frame = builder.ttl(arguments.ttl).build();
        Ok(Self { frame, words })
    }
}

fn protocol_number(text: &str, v6: bool) -> anyhow::Result<u8> {
    let number = names::protocol_number(&text.to_ascii_lowercase())
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            let known: Vec<&str> = names::protocol_names().collect();
            anyhow!(
                "unknown protocol {text:?}; a number from 0 to 255, or one of {}",
                known.join(", ")
            )
        })?;
    match (number, v6) {
        (protocol::ICMP, true) => bail!("icmp is IPv4's; between IPv6 addresses it is icmpv6"),
        (protocol::ICMPV6, false) => bail!("icmpv6 is IPv6's; between IPv4 addresses it is icmp"),
        _ => Ok(number),
    }
}

fn bytes_of(hex: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|digit| *digit != ' ')
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect::<Option<_>>()
        .ok_or_else(|| anyhow!("--payload {hex:?} is not hexadecimal"))?;
    if !digits.len().is_multiple_of(2) {
        bail!("--payload {hex:?} has half a byte; write two digits for each");
    }
    Ok(digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

fn tcp_flags(text: &str) -> anyhow::Result<u8> {
    if text == "none" {
        return Ok(0);
    }
    let mut flags = 0;
    for name in text.split([',', '+', ' ']).filter(|name| !name.is_empty()) {
        let Some(bit) = names::tcp_flag(&name.to_ascii_lowercase()) else {
            let known: Vec<&str> = names::tcp_flag_names(u8::MAX).collect();
            bail!(
                "unknown TCP flag {name:?}; known are none, {}",
                known.join(", ")
            );
        };
        flags |= bit;
    }
    Ok(flags)
}

fn icmp_type(protocol: u8, text: &str) -> anyhow::Result<u8> {
    let table = names::icmp_types(protocol);
    names::number(table, text)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            let known: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            anyhow!(
                "unknown ICMP type {text:?}; a number from 0 to 255, or one of {}",
                known.join(", ")
            )
        })
}

fn print(
    packet: &Described,
    direction: Direction,
    explanation: &Explanation,
    all: bool,
) -> anyhow::Result<()> {
    let sets = |names: &[String]| match names.is_empty() {
        true => "in no set".to_owned(),
        false => format!("in {}", names.join(", ")),
    };
    output::line(&format!("{} {}", direction.name(), packet.words))?;
    let verdict = match (&explanation.rule, &explanation.set) {
        (Some(rule), Some(set)) => format!(
            "{} by rule {rule}, caught by set {set}",
            explanation.verdict
        ),
        (Some(rule), None) => format!("{} by rule {rule}", explanation.verdict),
        (None, _) => explanation.verdict.to_owned(),
    };
    output::line(&format!(
        "verdict: {verdict} (reason: {})",
        explanation.reason
    ))?;
    output::line(&format!("source: {}", sets(&explanation.source_sets)))?;
    output::line(&format!(
        "destination: {}",
        sets(&explanation.destination_sets)
    ))?;
    if !explanation.classes.is_empty() {
        let classes = explanation.classes.iter();
        let classes: Vec<String> = classes
            .map(|(field, class)| format!("{field} {class}"))
            .collect();
        output::line(&format!("classes: {}", classes.join(", ")))?;
    }
    let passed_over = explanation
        .steps
        .iter()
        .filter(|told| told.step == "rule" && told.result == StepResult::Passed)
        .count();
    // The last ones: they stand next to what decided.
    let mut hidden = if all {
        0
    } else {
        passed_over.saturating_sub(SHOWN_RULES)
    };
    if hidden > 0 {
        output::line(&format!(
            "{hidden} rules that do not match are not shown (--all shows them)"
        ))?;
    }
    let mut table = Table::new(&["STEP", "RULE", "RESULT", "WHY"]);
    for told in &explanation.steps {
        if hidden > 0 && told.step == "rule" && told.result == StepResult::Passed {
            hidden -= 1;
            continue;
        }
        table.row(vec![
            told.step.to_owned(),
            output::optional(told.rule.as_deref()),
            told.result.name().to_owned(),
            told.detail.clone(),
        ]);
    }
    table.print()
}
