//! The policies that several tests put in force.

/// A shop: HTTP is let in, a listed source is not, and nothing else gets in. The listed source is
/// [`LISTED`](crate::topology::LISTED).
pub const SHOP: &str = r#"
version = 1

[defaults]
inbound = "drop"

[sets]
hostile = ["198.51.100.9", "2001:db8:51::9"]

[[rule]]
name   = "hostile"
action = "drop"
from   = ["hostile"]

[[rule]]
name     = "shop"
action   = "accept"
protocol = "tcp"
port     = 80
"#;

/// Nothing gets in by itself; the host may go out.
pub const CLOSED: &str = "version = 1\n\n[defaults]\ninbound = \"drop\"\n";

/// Pings and the UDP port 5000 get in, and nothing else.
pub const PING: &str = r#"
version = 1

[defaults]
inbound = "drop"

[[rule]]
name     = "ping"
action   = "accept"
protocol = ["icmp", "icmpv6"]

[[rule]]
name     = "stream"
action   = "accept"
protocol = "udp"
port     = 5000
"#;
