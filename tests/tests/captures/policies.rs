//! The policies that captures are judged by.

/// A perimeter: a few services, everything else dropped.
pub const PERIMETER: &str = r#"
version = 1
[defaults]
inbound = "drop"
outbound = "accept"
[sets]
office = ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12", "fe80::/10", "2001:db8:1::/48"]
hostile = ["1.0.0.0/8", "24.6.125.0/24", "2001:db8:bad::/48", "198.51.100.66"]
[protect]
never_block = ["192.168.1.1", "2001:db8:bad:1::/64"]
[[rule]]
name = "hostile"
action = "drop"
from = ["hostile"]
[[rule]]
name = "openings"
action = "count"
protocol = "tcp"
tcp_flags = "syn,!ack"
[[rule]]
name = "web"
action = "accept"
protocol = "tcp"
port = [80, 443, "8000-8099"]
[[rule]]
name = "names"
action = "accept"
protocol = ["udp", "tcp"]
port = 53
from = ["office"]
[[rule]]
name = "quic-watched"
action = "drop"
mode = "observe"
protocol = "udp"
port = 443
[[rule]]
name = "ping"
action = "accept"
protocol = "icmp"
icmp_type = "echo-request"
[[rule]]
name = "ping6"
action = "accept"
protocol = "icmpv6"
icmp_type = "echo-request"
[[rule]]
name = "administration"
action = "accept"
protocol = "tcp"
port = 22
from = ["office", "203.0.113.9"]
to = ["198.51.100.0/24", "2001:db8::/32", "10.0.0.0/8"]
"#;

/// Everything that a rule can look at, in both directions, both of which drop by default.
pub const STRICT: &str = r#"
version = 1
[defaults]
inbound = "drop"
outbound = "drop"
[sets]
near = ["10.0.0.0/9", "192.168.1.0/24", "2001:db8::/33", "fe80::/10", "198.51.100.0/25"]
[[rule]]
name = "spent"
action = "drop"
ttl = "0-4"
[[rule]]
name = "pieces"
action = "drop"
protocol = "udp"
fragment = true
[[rule]]
name = "tagged"
action = "accept"
vlan = [7, 100, 32]
[[rule]]
name = "small-datagrams"
action = "accept"
protocol = "udp"
length = "28-200"
from_port = ["1024-65535", 53, 123]
[[rule]]
name = "no-connection-contains-it"
action = "drop"
protocol = "tcp"
tcp_flags = "fin,!ack,!syn"
[[rule]]
name = "near"
action = "accept"
from = ["near"]
protocol = ["tcp", "sctp", "gre", "esp", 112]
[[rule]]
name = "answers"
action = "accept"
protocol = "icmp"
icmp_type = ["echo-request", "echo-reply", "destination-unreachable"]
to = ["near"]
[[rule]]
name = "answers6"
action = "accept"
protocol = "icmpv6"
icmp_type = ["echo-request", "packet-too-big", "destination-unreachable"]
to = ["near"]
[[rule]]
name = "out-web"
direction = "outbound"
action = "accept"
protocol = "tcp"
port = [80, 443, 25, 110, 143, 993]
[[rule]]
name = "out-names"
direction = "outbound"
action = "accept"
protocol = ["udp", "tcp"]
port = [53, 123]
[[rule]]
name = "out-large"
direction = "outbound"
action = "count"
length = "1400-65535"
[[rule]]
name = "out-ping"
direction = "outbound"
action = "accept"
protocol = "icmp"
icmp_type = "echo-request"
"#;
