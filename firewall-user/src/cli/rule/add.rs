//! `palisade rule add`: the flags mirror the keys of the policy language.

use std::process::ExitCode;

use toml_edit::Datetime;

use crate::cli::Global;
use crate::cli::policy_file::Changing;
use crate::policy::LIMIT_KEYS;
use crate::policy::edit::{NewRule, Position, Written, add_rule};

/// Arguments of `palisade rule add`. Lists are separated by commas, or the flag is given again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name that no other rule has
    #[arg(long)]
    name: String,
    /// accept, drop or count
    #[arg(long)]
    action: String,
    /// inbound (without the flag) or outbound
    #[arg(long)]
    direction: Option<String>,
    /// enforce (without the flag) or observe
    #[arg(long)]
    mode: Option<String>,
    /// tcp, udp, icmp, icmpv6 ... or a number
    #[arg(long, value_delimiter = ',')]
    protocol: Vec<String>,
    /// Destination ports: 443 or 8000-8099
    #[arg(long, value_delimiter = ',')]
    port: Vec<String>,
    /// Source ports
    #[arg(long, value_delimiter = ',')]
    from_port: Vec<String>,
    /// Sources: set names, addresses, prefixes
    #[arg(long, value_delimiter = ',', value_name = "ADDR")]
    from: Vec<String>,
    /// Destinations: set names, addresses, prefixes
    #[arg(long, value_delimiter = ',', value_name = "ADDR")]
    to: Vec<String>,
    /// TCP flags that must be set and, with !, that must not: syn,!ack
    #[arg(long, value_name = "FLAGS")]
    tcp_flags: Option<String>,
    /// ICMP message types: echo-request ... or a number
    #[arg(long, value_delimiter = ',', value_name = "TYPE")]
    icmp_type: Vec<String>,
    /// Lengths of the IP packet in bytes
    #[arg(long, value_delimiter = ',')]
    length: Vec<String>,
    /// TTLs or hop limits
    #[arg(long, value_delimiter = ',')]
    ttl: Vec<String>,
    /// TCP windows as they stand in the header, not scaled
    #[arg(long, value_delimiter = ',')]
    tcp_window: Vec<String>,
    /// Bytes of the payload, as offset and hexadecimal digits, ? for any: 0:47455420
    #[arg(long, value_delimiter = ',', value_name = "PATTERN")]
    payload: Vec<String>,
    /// VLAN identifiers
    #[arg(long, value_delimiter = ',')]
    vlan: Vec<String>,
    /// Interfaces
    #[arg(long, value_delimiter = ',')]
    interface: Vec<String>,
    /// Only fragments (true) or only whole packets (false)
    #[arg(long)]
    fragment: Option<bool>,
    /// The most that it lets in: 200/s, with burst=400, per=source, unit=requests behind it
    #[arg(long, value_delimiter = ',', value_parser = limit_key, value_name = "RATE[,KEY=VALUE]")]
    limit: Vec<(&'static str, String)>,
    /// Report each packet that the rule decides
    #[arg(long)]
    log: bool,
    /// Who answers for the rule
    #[arg(long)]
    owner: Option<String>,
    /// Why the rule exists
    #[arg(long)]
    reason: Option<String>,
    /// When it stops: 2027-06-30 (that day included, UTC) or 2027-06-30T18:00:00Z
    #[arg(long, value_name = "DATE")]
    expires: Option<Datetime>,
    /// Put it before this rule; without it and --first, after all others
    #[arg(long, value_name = "RULE", conflicts_with = "first")]
    before: Option<String>,
    /// Put it before all others
    #[arg(long)]
    first: bool,
    #[command(flatten)]
    changing: Changing,
}

/// Runs the verb.
pub fn run(global: &Global, mut arguments: Args) -> anyhow::Result<ExitCode> {
    // Why the rule exists is why it is added.
    arguments.changing.reason = arguments.reason.clone();
    let done = format!("rule \"{}\" is added", arguments.name);
    let position = match (&arguments.before, arguments.first) {
        (Some(name), _) => Position::Before(name.clone()),
        (None, true) => Position::First,
        (None, false) => Position::Last,
    };
    let rule = arguments.rule();
    arguments.changing.change_policy(global, &done, |text, _| {
        Ok(add_rule(text, &rule, &position)?)
    })
}

impl Args {
    fn rule(&self) -> NewRule {
        let text = |text: &Option<String>| text.clone().map(Written::Text);
        let words = |words: &[String]| some(words, Written::Words);
        let numbers = |words: &[String]| some(words, Written::Numbers);
        let keys = [
            ("name", Some(Written::Text(self.name.clone()))),
            ("action", Some(Written::Text(self.action.clone()))),
            ("direction", text(&self.direction)),
            ("mode", text(&self.mode)),
            ("protocol", numbers(&self.protocol)),
            ("port", numbers(&self.port)),
            ("from_port", numbers(&self.from_port)),
            ("from", words(&self.from)),
            ("to", words(&self.to)),
            ("tcp_flags", text(&self.tcp_flags)),
            ("icmp_type", numbers(&self.icmp_type)),
            ("length", numbers(&self.length)),
            ("ttl", numbers(&self.ttl)),
            ("tcp_window", numbers(&self.tcp_window)),
            ("payload", words(&self.payload)),
            ("vlan", numbers(&self.vlan)),
            ("interface", words(&self.interface)),
            ("fragment", self.fragment.map(Written::Flag)),
            ("limit", some_keys(&self.limit)),
            ("log", self.log.then_some(Written::Flag(true))),
            ("owner", text(&self.owner)),
            ("reason", text(&self.reason)),
            ("expires", self.expires.map(Written::Date)),
        ];
        NewRule {
            keys: keys
                .into_iter()
                .filter_map(|(key, written)| Some((key, written?)))
                .collect(),
        }
    }
}

/// One part of `--limit`: the rate, or another key with its value.
fn limit_key(part: &str) -> Result<(&'static str, String), String> {
    let Some((key, value)) = part.split_once('=') else {
        return Ok(("rate", part.to_owned()));
    };
    match LIMIT_KEYS.iter().find(|known| **known == key) {
        Some(key) => Ok((key, value.to_owned())),
        None => Err(format!("\"{key}\" is none of {}", LIMIT_KEYS.join(", "))),
    }
}

fn some_keys(keys: &[(&'static str, String)]) -> Option<Written> {
    (!keys.is_empty()).then(|| Written::Table(keys.to_vec()))
}

fn some(words: &[String], written: impl Fn(Vec<String>) -> Written) -> Option<Written> {
    (!words.is_empty()).then(|| written(words.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;
    use crate::policy::Policy;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Args,
    }

    fn added(line: &[&str]) -> String {
        let line = Line::try_parse_from([&["add"], line].concat()).unwrap();
        add_rule("version = 1\n", &line.arguments.rule(), &Position::Last).unwrap()
    }

    #[test]
    fn every_key_of_the_language_has_a_flag_that_writes_it() {
        let text = added(&[
            "--name",
            "r",
            "--action",
            "drop",
            "--direction",
            "outbound",
            "--mode",
            "observe",
            "--protocol",
            "tcp,132",
            "--port",
            "80,443-445",
            "--port",
            "8080",
            "--from-port",
            "1",
            "--from",
            "198.51.100.7",
            "--to",
            "2001:db8::/32,::1",
            "--length",
            "40",
            "--ttl",
            "1-3",
            "--vlan",
            "7",
            "--interface",
            "5",
            "--fragment",
            "false",
            "--log",
            "--owner",
            "o",
            "--reason",
            "a \"quoted\" one",
            "--expires",
            "2027-06-30",
        ]);
        let (policy, _) = Policy::parse(&text, "p", Path::new("")).unwrap();
        let rule = &policy.rules[0];
        assert_eq!(rule.ports, [(80, 80), (443, 445), (8080, 8080)]);
        assert_eq!(rule.protocols, [6, 132]);
        assert_eq!(rule.interfaces, ["5"]);
        assert_eq!(rule.reason.as_deref(), Some("a \"quoted\" one"));
        let flags = added(&[
            "--name",
            "r",
            "--action",
            "drop",
            "--protocol",
            "tcp",
            "--tcp-flags",
            "syn,!ack",
            "--tcp-window",
            "0,1024-2048",
            "--payload",
            "0:47455420,4:2f??",
        ]);
        let icmp = added(&[
            "--name",
            "r",
            "--action",
            "drop",
            "--protocol",
            "icmp",
            "--icmp-type",
            "8,echo-reply",
        ]);
        let limit = added(&[
            "--name",
            "r",
            "--action",
            "accept",
            "--limit",
            "200/s,burst=400,per=/24 /48,unit=requests",
        ]);
        for text in [&flags, &icmp, &limit] {
            Policy::parse(text, "p", Path::new("")).unwrap();
        }
        assert!(limit.contains(
            "limit  = { rate = \"200/s\", burst = 400, per = \"/24 /48\", unit = \"requests\" }"
        ));
        let all = format!("{text}{flags}{icmp}{limit}");
        for key in crate::policy::RULE_KEYS {
            assert!(all.contains(&format!("\n{key} ")), "{key}");
        }
    }
}
