//! Each fault of the language with its exact message.

use super::{faults, rule};

#[test]
fn each_fault_outside_the_rules_is_reported_at_its_place() {
    for (text, fault) in [
        (
            "",
            "1:1: error: the policy is empty; begin with `version = 1`, which alone is the smallest valid policy",
        ),
        (
            "# nothing\n",
            "1:1: error: the policy is empty; begin with `version = 1`, which alone is the smallest valid policy",
        ),
        (
            "[defaults]\n",
            "1:1: error: the version is missing; begin with `version = 1`, which alone is the smallest valid policy",
        ),
        (
            "version = 2",
            "1:11: error: version 2 of the policy language is not supported; write version = 1",
        ),
        (
            "version = \"1\"",
            "1:11: error: \"version\" must be a whole number, not a string; write version = 1",
        ),
        (
            "version = 1\nrules = []",
            "2:1: error: unknown key \"rules\"; did you mean \"rule\"?",
        ),
        (
            "version = 1\ndefaults = 3",
            "2:12: error: \"defaults\" must be a table, not a whole number; write [defaults] on a line of its own",
        ),
        (
            "version = 1\n[defaults]\ninbuond = \"drop\"",
            "3:1: error: unknown key \"inbuond\" in [defaults]; did you mean \"inbound\"?",
        ),
        (
            "version = 1\n[defaults]\ninbound = \"deny\"",
            "3:11: error: \"inbound\" in [defaults] cannot be \"deny\"; it is one of \"accept\", \"drop\"",
        ),
        (
            "version = 1\n[defaults]\nmode = true",
            "3:8: error: \"mode\" in [defaults] must be a string, not true or false; write mode = \"enforce\"",
        ),
        (
            "version = 1\n[protect]\nneverblock = []",
            "3:1: error: unknown key \"neverblock\" in [protect]; did you mean \"never_block\"?",
        ),
        (
            "version = 1\n[protect]\nnever_block = [\"x\"]",
            "3:16: error: unknown set \"x\" for \"never_block\" in [protect]; sets are defined in [sets], as name = [\"198.51.100.0/24\"]",
        ),
        (
            "version = 1\n[rule]\nname = \"a\"",
            "2:1: error: \"rule\" must be a list of tables; begin each rule with [[rule]] on a line of its own",
        ),
        (
            "version = 1\nrule = [1]",
            "2:9: error: a rule must be a table; begin each rule with [[rule]] on a line of its own",
        ),
        (
            "version = 1\nversion = 1",
            "2:1: error: duplicate key \"version\"; a key may be written once; a further rule begins with [[rule]]",
        ),
        (
            "version = 1\n[sets]\na = []\na = []",
            "4:1: error: duplicate key \"a\"; a key may be written once; a further rule begins with [[rule]]",
        ),
        (
            "version = 1\n[sets\n",
            "2:6: error: unclosed table, expected `]`; see https://toml.io for how values are written",
        ),
    ] {
        assert_eq!(faults(text), [fault], "{text}");
    }
}

#[test]
fn each_fault_in_a_set_is_reported_at_its_place() {
    for (set, fault) in [
        (
            "a = \"198.51.100.7\"",
            "3:5: error: set \"a\" must be a list or a table, not a string; write [\"198.51.100.0/24\"] or { file = \"name.netset\" }",
        ),
        (
            "a = [7]",
            "3:6: error: an address in set \"a\" must be a string, not a whole number; write it in quotes",
        ),
        (
            "a = [\"198.51.100.7/24\"]",
            "3:6: error: \"198.51.100.7/24\" has bits set behind its length of 24 in set \"a\"; write 198.51.100.0/24 for the network or 198.51.100.7 for the one address",
        ),
        (
            "a = {}",
            "3:5: error: set \"a\" has no content; write [\"198.51.100.0/24\"] or { file = \"name.netset\" }",
        ),
        (
            "a = { path = \"x\" }",
            "3:7: error: unknown key \"path\" in set \"a\"; it is one of \"file\"",
        ),
        (
            "a = { country = [\"DE\"] }",
            "3:7: error: \"country\" in set \"a\" is not supported by this version; list the prefixes, or write them to a file",
        ),
        (
            "a = { file = 3 }",
            "3:14: error: \"file\" in set \"a\" must be a string, not a whole number; write file = \"name.netset\"",
        ),
        (
            "a = { file = \"\" }",
            "3:14: error: \"file\" in set \"a\" is no file name; write [\"198.51.100.0/24\"] or { file = \"name.netset\" }",
        ),
        (
            "a = { file = \"gone.netset\" }",
            "3:14: error: \"file\" in set \"a\": /nonexistent/gone.netset: no such file; the path starts from the folder of the policy",
        ),
        (
            "a = { file = \"/\" }",
            "3:14: error: \"file\" in set \"a\": /: is a directory, not a list of addresses; the path starts from the folder of the policy",
        ),
        (
            "a = { file = \"/dev/zero\" }",
            "3:14: error: \"file\" in set \"a\": /dev/zero: is not a regular file, so not a list of addresses; the path starts from the folder of the policy",
        ),
        (
            "\"1.2.3.4\" = []",
            "3:1: error: the set name \"1.2.3.4\" could be taken for an address; a name has 1 to 64 letters, digits, \"_\", \".\" and \"-\"",
        ),
        (
            "\"a b\" = []",
            "3:1: error: the set name \"a b\" contains ' '; a name has 1 to 64 letters, digits, \"_\", \".\" and \"-\"",
        ),
    ] {
        assert_eq!(
            faults(&format!("version = 1\n[sets]\n{set}")),
            [fault],
            "{set}"
        );
    }
}

#[test]
fn each_fault_in_a_rule_is_reported_at_its_place() {
    for (keys, fault) in [
        (
            "prot = \"tcp\"",
            "7:1: error: unknown key \"prot\" in rule \"r\"; did you mean \"protocol\"?",
        ),
        (
            "mode = \"off\"",
            "7:8: error: \"mode\" in rule \"r\" cannot be \"off\"; it is one of \"enforce\", \"observe\"",
        ),
        (
            "direction = \"in\"",
            "7:13: error: \"direction\" in rule \"r\" cannot be \"in\"; it is one of \"inbound\", \"outbound\"",
        ),
        (
            "protocol = \"tpc\"",
            "7:12: error: unknown protocol \"tpc\" for \"protocol\" in rule \"r\"; did you mean \"tcp\"?",
        ),
        (
            "protocol = \"6\"",
            "7:12: error: unknown protocol \"6\" for \"protocol\" in rule \"r\"; write the number without quotes",
        ),
        (
            "protocol = 256",
            "7:12: error: 256 is out of range for \"protocol\" in rule \"r\"; write a number from 0 to 255",
        ),
        (
            "protocol = 1.5",
            "7:12: error: \"protocol\" in rule \"r\" must be a name or a number, not a decimal number; write a name such as \"tcp\", or the protocol's number",
        ),
        (
            "protocol = []",
            "7:12: error: \"protocol\" in rule \"r\" is an empty list; leave the key out to match every protocol",
        ),
        (
            "port = 22",
            "7:1: error: \"port\" in rule \"r\" needs a protocol; add protocol = \"tcp\" or \"udp\" (or sctp, dccp, udplite)",
        ),
        (
            "protocol = \"icmp\"\nport = 22",
            "8:1: error: \"port\" in rule \"r\" does not go with protocol \"icmp\"; it needs protocol = \"tcp\" or \"udp\" (or sctp, dccp, udplite)",
        ),
        (
            "protocol = [\"tcp\", \"gre\"]\nfrom_port = 22",
            "8:1: error: \"from_port\" in rule \"r\" does not go with protocol \"gre\"; it needs protocol = \"tcp\" or \"udp\" (or sctp, dccp, udplite)",
        ),
        (
            "protocol = \"tcp\"\nport = 65536",
            "8:8: error: 65536 is out of range for \"port\" in rule \"r\"; a port is 0 to 65535",
        ),
        (
            "protocol = \"tcp\"\nport = -1",
            "8:8: error: -1 is out of range for \"port\" in rule \"r\"; a port is 0 to 65535",
        ),
        (
            "protocol = \"tcp\"\nport = 99999999999999999999",
            "8:8: error: 99999999999999999999 is no port for \"port\" in rule \"r\"; write a number such as 80 or a range such as \"8000-8099\"",
        ),
        (
            "protocol = \"tcp\"\nport = \"9000-8000\"",
            "8:8: error: the range \"9000-8000\" for \"port\" in rule \"r\" is reversed; write \"8000-9000\"",
        ),
        (
            "protocol = \"tcp\"\nport = \"https\"",
            "8:8: error: \"https\" is no port for \"port\" in rule \"r\"; write a number such as 80 or a range such as \"8000-8099\"",
        ),
        (
            "protocol = \"tcp\"\nport = []",
            "8:8: error: \"port\" in rule \"r\" is an empty list; leave the key out to match every port",
        ),
        (
            "icmp_type = 8",
            "7:1: error: \"icmp_type\" in rule \"r\" needs a protocol; add protocol = \"icmp\" or \"icmpv6\"",
        ),
        (
            "protocol = \"tcp\"\nicmp_type = 8",
            "8:1: error: \"icmp_type\" in rule \"r\" does not go with protocol \"tcp\"; it needs protocol = \"icmp\" or \"icmpv6\"",
        ),
        (
            "protocol = [\"icmp\", \"icmpv6\"]\nicmp_type = \"echo-request\"",
            "8:13: error: \"icmp_type\" in rule \"r\" means different messages for icmp and icmpv6; write one rule for each of the two protocols",
        ),
        (
            "protocol = \"icmp\"\nicmp_type = \"packet-to-big\"",
            "8:13: error: unknown message \"packet-to-big\" for \"icmp_type\" in rule \"r\"; it is one of \"echo-reply\", \"destination-unreachable\", \"source-quench\", \"redirect\", \"echo-request\", \"router-advertisement\", \"router-solicitation\", \"time-exceeded\", \"parameter-problem\", \"timestamp-request\", \"timestamp-reply\", \"address-mask-request\", \"address-mask-reply\"",
        ),
        (
            "protocol = \"icmpv6\"\nicmp_type = \"packet-to-big\"",
            "8:13: error: unknown message \"packet-to-big\" for \"icmp_type\" in rule \"r\"; did you mean \"packet-too-big\"?",
        ),
        (
            "protocol = \"icmpv6\"\nfrom = \"198.51.100.0/24\"",
            "8:8: error: 198.51.100.0/24 for \"from\" in rule \"r\" cannot occur with protocol \"icmpv6\"; icmpv6 is IPv6 only; the protocol of IPv4 is \"icmp\"",
        ),
        (
            "protocol = \"icmp\"\nto = \"2001:db8::1\"",
            "8:6: error: 2001:db8::1 for \"to\" in rule \"r\" cannot occur with protocol \"icmp\"; icmp is IPv4 only; the protocol of IPv6 is \"icmpv6\"",
        ),
        (
            "tcp_flags = \"syn\"",
            "7:1: error: \"tcp_flags\" in rule \"r\" needs a protocol; add protocol = \"tcp\"",
        ),
        (
            "protocol = \"udp\"\ntcp_flags = \"syn\"",
            "8:1: error: \"tcp_flags\" in rule \"r\" does not go with protocol \"udp\"; it needs protocol = \"tcp\"",
        ),
        (
            "protocol = \"tcp\"\ntcp_flags = \"sin\"",
            "8:13: error: unknown flag \"sin\" for \"tcp_flags\" in rule \"r\"; did you mean \"fin\"?",
        ),
        (
            "protocol = \"tcp\"\ntcp_flags = \"syn,!syn\"",
            "8:13: error: \"tcp_flags\" in rule \"r\" asks for \"syn\" to be set and not set; write flags that must be set and, with !, those that must not, such as \"syn,!ack\"",
        ),
        (
            "from = \"ofice\"",
            "7:8: error: unknown set \"ofice\" for \"from\" in rule \"r\"; did you mean \"office\"?",
        ),
        (
            "from = \"any\"",
            "7:8: error: unknown set \"any\" for \"from\" in rule \"r\"; leave the key out to match every address",
        ),
        (
            "from = \"!office\"",
            "7:8: error: \"!office\" is not an address or prefix for \"from\" in rule \"r\"; an address cannot be negated; put a rule for the exception before this one",
        ),
        (
            "from = \"198.51.100.1/40\"",
            "7:8: error: \"198.51.100.1/40\" has no valid prefix length for \"from\" in rule \"r\"; a length is a number from 0 to 32",
        ),
        (
            "from = [7]",
            "7:9: error: \"from\" in rule \"r\" takes set names and addresses, not a whole number; write it in quotes",
        ),
        (
            "to = []",
            "7:6: error: \"to\" in rule \"r\" is an empty list; leave the key out to match every address",
        ),
        (
            "length = 70000",
            "7:10: error: 70000 is out of range for \"length\" in rule \"r\"; a length is 0 to 65535",
        ),
        (
            "ttl = \"0-256\"",
            "7:7: error: \"0-256\" is out of range for \"ttl\" in rule \"r\"; a ttl is 0 to 255",
        ),
        (
            "vlan = 4095",
            "7:8: error: 4095 is out of range for \"vlan\" in rule \"r\"; write a number from 0 to 4094",
        ),
        (
            "interface = \"much-too-long-a-name\"",
            "7:13: error: \"much-too-long-a-name\" for \"interface\" in rule \"r\" cannot be the name of an interface; a name has 1 to 15 characters, such as \"eth0\"",
        ),
        (
            "fragment = \"yes\"",
            "7:12: error: \"fragment\" in rule \"r\" must be true or false, not a string; write fragment = true",
        ),
        (
            "owner = \"a\\nb\"",
            "7:9: error: \"owner\" in rule \"r\" contains a line break or another control character; write it on one line",
        ),
        (
            "expires = \"2027-06-30\"",
            "7:11: error: \"expires\" in rule \"r\" must be a date, not a string; write the date without quotes, such as 2027-06-30",
        ),
        (
            "expires = 2027-06-30T18:00:00",
            "7:11: error: \"expires\" in rule \"r\" has a time without its offset from UTC; write a date such as 2027-06-30 (in force through that day, UTC) or a time such as 2027-06-30T18:00:00Z",
        ),
        (
            "tcp_window = 0",
            "7:1: error: \"tcp_window\" in rule \"r\" needs a protocol; add protocol = \"tcp\"",
        ),
        (
            "limit = \"200/s\"",
            "7:9: error: \"limit\" in rule \"r\" must be a table, not a string; write limit = { rate = \"200/s\", burst = 400, per = \"source\", unit = \"requests\" }",
        ),
        (
            "limit = { burst = 5 }",
            "7:9: error: the limit of rule \"r\" has no \"rate\"; write limit = { rate = \"200/s\", burst = 400, per = \"source\", unit = \"requests\" }",
        ),
        (
            "limit = { rate = \"200\" }",
            "7:18: error: \"200\" for \"rate\" in the limit of rule \"r\" has no period; write a number and a period, such as \"200/s\", \"12/m\", \"10/h\", \"10MB/s\" or \"1Gbit/s\"",
        ),
        (
            "limit = { rate = \"0/s\" }",
            "7:18: error: the limit of rule \"r\" lets nothing through; to let nothing through, write a drop rule",
        ),
        (
            "limit = { rate = \"1MB/s\", unit = \"requests\" }",
            "7:34: error: \"unit\" in the limit of rule \"r\" is requests, but the rate is of bytes; write unit = \"bytes\", or the rate as a plain number such as \"200/s\"",
        ),
        (
            "limit = { rate = \"5/s\", burst = \"4kB\" }",
            "7:33: error: \"4kB\" for \"burst\" in the limit of rule \"r\" is of bytes, but the limit is not; write it as a plain number",
        ),
        (
            "limit = { rate = \"5/s\", burst = 0 }",
            "7:9: error: the limit of rule \"r\" has a burst of nothing; a burst is at least 1",
        ),
        (
            "limit = { rate = \"1/h\", burst = 1000 }",
            "7:9: error: the limit of rule \"r\" takes more than 30 days to gather its burst; write a smaller burst or a higher rate",
        ),
        (
            "limit = { rate = \"5/s\", per = \"sorce\" }",
            "7:31: error: \"per\" in the limit of rule \"r\" cannot be \"sorce\"; did you mean \"source\"?",
        ),
        (
            "limit = { rate = \"5/s\", per = \"/33 /64\" }",
            "7:31: error: \"per\" in the limit of rule \"r\" cannot be \"/33 /64\"; it is one of \"rule\", \"source\", \"service\", or prefix lengths such as \"/24\" (IPv4), \"/48\" (IPv6) or \"/24 /48\" (both)",
        ),
        (
            "limit = { rate = \"5/s\", brust = 3 }",
            "7:25: error: unknown key \"brust\" in the limit of rule \"r\"; did you mean \"burst\"?",
        ),
        (
            "payload = \"00\"",
            "7:11: error: \"00\" is no pattern for \"payload\" in rule \"r\"; write \"0:47455420\", that is, the offset and the bytes in hexadecimal",
        ),
        (
            "payload = { offset = 4 }",
            "7:11: error: \"payload\" in rule \"r\" has no bytes to look for; write \"0:47455420\" or { offset = 0, hex = \"47455420\" } or { offset = 0, text = \"GET \" }",
        ),
        (
            "payload = { offset = 1401, hex = \"00\" }",
            "7:22: error: 1401 is out of range for \"offset\" in \"payload\" in rule \"r\"; write a number from 0 to 1400",
        ),
        (
            "payload = { ofset = 1, text = \"a\" }",
            "7:13: error: unknown key \"ofset\" in \"payload\" in rule \"r\"; did you mean \"offset\"?",
        ),
        (
            "payload = [{ text = \"a\", hex = \"00\" }]",
            "7:26: error: \"payload\" in rule \"r\" has both \"hex\" and \"text\"; write \"0:47455420\" or { offset = 0, hex = \"47455420\" } or { offset = 0, text = \"GET \" }",
        ),
        (
            "[[rule]]\nname = \"r\"\naction = \"drop\"",
            "8:8: error: a second rule is named \"r\"; the first is on line 4; names are unique",
        ),
        (
            "[[rule]]\naction = \"drop\"",
            "7:1: error: rule 2 has no \"name\"; give it one, such as name = \"shop\"",
        ),
        (
            "[[rule]]\nname = \"s\"",
            "7:1: error: rule \"s\" has no \"action\"; write action = \"accept\", \"drop\" or \"count\"",
        ),
        (
            "[[rule]]\nname = \"link:arp\"\naction = \"drop\"",
            "8:8: error: the rule name \"link:arp\" begins with \"link:\", which is kept for the built-in rules; a name has 1 to 64 letters, digits, \"_\", \".\" and \"-\"",
        ),
        (
            "[[rule]]\nname = 3\naction = \"drop\"",
            "8:8: error: \"name\" must be a string, not a whole number; write name = \"shop\"",
        ),
        (
            "[[rule]]\nname = \"s\"\naction = \"dorp\"",
            "9:10: error: \"action\" in rule \"s\" cannot be \"dorp\"; did you mean \"drop\"?",
        ),
    ] {
        assert_eq!(faults(&rule(keys)), [fault], "{keys}");
    }
}

#[test]
fn a_limit_belongs_to_a_rule_that_accepts() {
    for action in ["drop", "count"] {
        let text = format!(
            "version = 1\n[[rule]]\nname = \"r\"\naction = \"{action}\"\nlimit = {{ rate = \"5/s\" }}\n"
        );
        let expected = "5:1: error: rule \"r\" has a limit and does not accept; a limit says how much an accept rule lets through; leave it out, or write action = \"accept\"";
        assert_eq!(faults(&text), [expected]);
    }
}
