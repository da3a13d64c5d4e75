//! The reference of the policy language, made from what the reader takes: its tables of keys and words. A test holds each key against them and
//! reads each example.

use std::fmt::Write as _;

use super::limit::LIMIT_KEYS;
use super::payloads::PATTERN_KEYS;
use super::rule::{self, RULE_KEYS};
use super::sets::SET_KEYS;
use super::{ACTIONS, DEFAULTS_KEYS, MODES, PROTECT_KEYS, TOP_KEYS};
use crate::policy::limit::UNITS;

/// A key, as people are told of it.
struct Key {
    name: &'static str,
    values: String,
    /// What holds without the key; empty if it matches or does nothing then.
    without: &'static str,
    meaning: &'static str,
    /// The key with a value; for a rule, with what else it needs.
    example: &'static str,
}

/// A table of a policy, and every key that the reader takes in it.
struct Table {
    title: &'static str,
    about: &'static str,
    taken: &'static [&'static str],
    keys: Vec<Key>,
}

/// The page, in Markdown.
pub fn reference() -> String {
    let mut page = "# Policy reference\n\nEvery key of a policy, made from the reader's own tables. [The policy language](policy.md) explains them and says \
                    in which order packets are judged.\n"
        .to_owned();
    for table in tables() {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n| key | values | without it | meaning | example |\n|---|---|---|---|---|\n",
            table.title, table.about
        );
        let told = |name: &&str| table.keys.iter().find(|key| key.name == *name);
        for key in table.taken.iter().filter_map(told) {
            let example = key.example.replace('\n', ", ").replace('|', "\\|");
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | `{example}` |",
                key.name, key.values, key.without, key.meaning
            );
        }
    }
    page
}

fn tables() -> Vec<Table> {
    vec![
        Table {
            title: "The file",
            about: "The tables of a policy. `version` comes first.",
            taken: TOP_KEYS,
            keys: vec![
                key(
                    "version",
                    "the number 1",
                    "required",
                    "the version of the language",
                    "version = 1",
                ),
                key(
                    "defaults",
                    "a table",
                    "its own defaults",
                    "what happens where no rule decides",
                    "defaults = { inbound = \"drop\" }",
                ),
                key(
                    "sets",
                    "a table of lists",
                    "",
                    "named lists of addresses",
                    "sets = { office = [\"198.51.100.0/24\"] }",
                ),
                key(
                    "protect",
                    "a table",
                    "",
                    "whom no ban, drop rule or automatic limit may hit",
                    "protect = { never_block = [\"203.0.113.7\"] }",
                ),
                key(
                    "rule",
                    "a list of tables",
                    "",
                    "the rules, in order",
                    "rule = [{ name = \"web\", action = \"accept\" }]",
                ),
            ],
        },
        Table {
            title: "`[defaults]`",
            about: "What no rule decides.",
            taken: DEFAULTS_KEYS,
            keys: vec![
                key(
                    "inbound",
                    words(ACTIONS),
                    "`\"drop\"`",
                    "packets that come in",
                    "inbound = \"drop\"",
                ),
                key(
                    "outbound",
                    words(ACTIONS),
                    "`\"accept\"`",
                    "packets that go out",
                    "outbound = \"accept\"",
                ),
                key(
                    "mode",
                    words(MODES),
                    "`\"enforce\"`",
                    "`observe` counts what would be dropped and lets it through",
                    "mode = \"observe\"",
                ),
            ],
        },
        Table {
            title: "`[protect]`",
            about: "Accept rules and the default still decide about these sources.",
            taken: PROTECT_KEYS,
            keys: vec![key(
                "never_block",
                "set names, addresses, prefixes",
                "nobody",
                "sources that are spared",
                "never_block = [\"198.51.100.0/24\"]",
            )],
        },
        Table {
            title: "A set from a file",
            about: "Instead of a list, a set of `[sets]` may be a table.",
            taken: SET_KEYS,
            keys: vec![key(
                "file",
                "a path, relative to the policy's folder",
                "required",
                "one address or prefix a line, `#` and `;` comments",
                "file = \"hostile.netset\"",
            )],
        },
        Table {
            title: "`[[rule]]`",
            about: "A rule matches when all its keys do; a key with a list, when one of the list does. A key that is left out matches everything.",
            taken: RULE_KEYS,
            keys: rule_keys(),
        },
        Table {
            title: "`limit` of a rule",
            about: "How much an accept rule lets through; what is over it is dropped with reason `limit`.",
            taken: LIMIT_KEYS,
            keys: vec![
                key(
                    "rate",
                    "a number and a period (`s`, `m`, `h`), or bytes or bits a second",
                    "required",
                    "how much in the long run",
                    "rate = \"200/s\"",
                ),
                key(
                    "burst",
                    "a number, or a size",
                    "a second's worth",
                    "how much at once",
                    "burst = 400",
                ),
                key(
                    "per",
                    "`\"rule\"`, `\"source\"`, `\"service\"`, or prefix lengths",
                    "`\"source\"`",
                    "who has a bucket of his own: an IPv4 address or an IPv6 /64, a prefix, the rule, an address and port of the host",
                    "per = \"/24 /48\"",
                ),
                key(
                    "unit",
                    words(UNITS),
                    "`\"packets\"`; bytes for a rate of bytes",
                    "what is counted; `connections` are new ones",
                    "unit = \"requests\"",
                ),
            ],
        },
        Table {
            title: "A pattern of `payload`",
            about: "Bytes at a place behind the transport header; `\"0:47455420\"` is the same in short.",
            taken: PATTERN_KEYS,
            keys: vec![
                key("offset", "bytes", "0", "where they begin", "offset = 0"),
                key(
                    "hex",
                    "digits",
                    "`hex` or `text`",
                    "the bytes",
                    "hex = \"47455420\"",
                ),
                key(
                    "text",
                    "text",
                    "`hex` or `text`",
                    "the bytes as text",
                    "text = \"GET \"",
                ),
            ],
        },
    ]
}

fn rule_keys() -> Vec<Key> {
    const ADDRESSES: &str = "set names, addresses, prefixes";
    const PORTS: &str = "0 to 65535, ranges `\"8000-8099\"`";
    const TCP_PORT: &str = "protocol = \"tcp\"\nport = [443, \"8000-8099\"]";
    vec![
        key(
            "name",
            "1 to 64 letters, digits, `_`, `.`, `-`",
            "required",
            "unique; counters are kept by it",
            "name = \"web\"",
        ),
        key(
            "action",
            words(rule::ACTIONS),
            "required",
            "`count` counts and goes on",
            "action = \"accept\"",
        ),
        key(
            "direction",
            words(rule::DIRECTIONS),
            "`\"inbound\"`",
            "which way",
            "direction = \"outbound\"",
        ),
        key(
            "mode",
            words(MODES),
            "`\"enforce\"`",
            "`observe` counts what the rule would do and goes on",
            "mode = \"observe\"",
        ),
        key(
            "protocol",
            "names, or numbers 0 to 255",
            "",
            "the IP protocol, behind IPv6 extension headers",
            "protocol = [\"tcp\", \"udp\"]",
        ),
        key(
            "port",
            PORTS,
            "",
            "destination port; needs a protocol with ports",
            TCP_PORT,
        ),
        key(
            "from_port",
            PORTS,
            "",
            "source port; needs a protocol with ports",
            "protocol = \"udp\"\nfrom_port = 53",
        ),
        key(
            "from",
            ADDRESSES,
            "",
            "the source",
            "from = [\"198.51.100.0/24\", \"2001:db8::/32\"]",
        ),
        key(
            "to",
            ADDRESSES,
            "",
            "the destination",
            "to = \"198.51.100.1\"",
        ),
        key(
            "tcp_flags",
            "flags, with `!` those that are not set",
            "",
            "TCP flags; needs `protocol = \"tcp\"`",
            "protocol = \"tcp\"\ntcp_flags = \"syn,!ack\"",
        ),
        key(
            "icmp_type",
            "names, or numbers 0 to 255",
            "",
            "the message; needs `icmp` or `icmpv6`",
            "protocol = \"icmp\"\nicmp_type = \"echo-request\"",
        ),
        key(
            "length",
            "0 to 65535, ranges",
            "",
            "bytes of the IP packet, header included",
            "length = \"0-128\"",
        ),
        key(
            "ttl",
            "0 to 255, ranges",
            "",
            "TTL or hop limit",
            "ttl = \"0-4\"",
        ),
        key(
            "tcp_window",
            "0 to 65535, ranges",
            "",
            "the window as it stands in the header; needs `tcp`",
            "protocol = \"tcp\"\ntcp_window = 1024",
        ),
        key(
            "payload",
            "patterns",
            "",
            "what follows the transport header",
            "protocol = \"udp\"\npayload = \"0:ffffffff\"",
        ),
        key(
            "vlan",
            "0 to 4094",
            "",
            "identifier of the outermost tag",
            "vlan = 100",
        ),
        key(
            "interface",
            "names",
            "",
            "where the packet comes in or goes out",
            "interface = \"eth0\"",
        ),
        key(
            "fragment",
            "`true`, `false`",
            "",
            "only fragments, or only whole packets",
            "fragment = true",
        ),
        key(
            "limit",
            "a table",
            "",
            "how much the rule lets through; accept rules only",
            "limit = { rate = \"200/s\" }",
        ),
        key(
            "log",
            "`true`, `false`",
            "`false`",
            "asks for an event for each packet that the rule decides",
            "log = true",
        ),
        key(
            "owner",
            "a line of text",
            "",
            "who answers for the rule",
            "owner = \"operations\"",
        ),
        key(
            "reason",
            "a line of text",
            "",
            "why it exists",
            "reason = \"the web shop\"",
        ),
        key(
            "expires",
            "a date or a time",
            "never",
            "when it stops matching",
            "expires = 2199-12-31",
        ),
    ]
}

fn key(
    name: &'static str,
    values: impl Into<String>,
    without: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Key {
    Key {
        name,
        values: values.into(),
        without,
        meaning,
        example,
    }
}

/// The words that the reader knows, as they are written.
fn words<T>(known: &[(&str, T)]) -> String {
    let words: Vec<String> = known
        .iter()
        .map(|(word, _)| format!("`\"{word}\"`"))
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::Policy;

    #[test]
    fn every_key_that_the_reader_takes_is_told_of_and_no_other() {
        for table in tables() {
            let told: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
            assert_eq!(told, table.taken, "{}", table.title);
        }
    }

    #[test]
    fn every_example_is_read_without_an_error() {
        for table in tables() {
            for key in &table.keys {
                let text = match table.title {
                    "The file" if key.name == "version" => key.example.to_owned(),
                    "The file" => format!("version = 1\n{}", key.example),
                    "`[[rule]]`" => rule_with(key),
                    "`limit` of a rule" if key.name == "rate" => limited(key.example),
                    "`limit` of a rule" => limited(&format!("rate = \"9/s\", {}", key.example)),
                    "A pattern of `payload`" if key.name == "offset" => {
                        pattern(&format!("{}, hex = \"00\"", key.example))
                    }
                    "A pattern of `payload`" => pattern(key.example),
                    // What it names is not there.
                    "A set from a file" => continue,
                    title => format!("version = 1\n{}\n{}", title.trim_matches('`'), key.example),
                };
                if let Err(errors) = Policy::parse(&text, "example", Path::new("/")) {
                    panic!("{} {}: {errors}\n{text}", table.title, key.name);
                }
            }
        }
    }

    fn rule_with(key: &Key) -> String {
        let given = ["name", "action"]
            .into_iter()
            .filter(|given| *given != key.name);
        let rest: Vec<&str> = given
            .map(|given| {
                if given == "name" {
                    "name = \"one\""
                } else {
                    "action = \"accept\""
                }
            })
            .collect();
        format!(
            "version = 1\n[[rule]]\n{}\n{}\n",
            rest.join("\n"),
            key.example
        )
    }

    fn limited(limit: &str) -> String {
        format!(
            "version = 1\n[[rule]]\nname = \"one\"\naction = \"accept\"\nlimit = {{ {limit} }}\n"
        )
    }

    fn pattern(pattern: &str) -> String {
        format!(
            "version = 1\n[[rule]]\nname = \"one\"\naction = \"drop\"\nprotocol = \"udp\"\npayload = {{ {pattern} }}\n"
        )
    }
}
