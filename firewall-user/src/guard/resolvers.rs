//! The configured name servers.

use std::net::IpAddr;
use std::path::Path;

/// Where systemd-resolved writes the servers that it asks.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// The name servers of a resolv.conf; those behind systemd-resolved's own address, too.
pub(crate) fn configured(file: &Path) -> Vec<IpAddr> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let mut servers = parse(&read(file));
    if servers.iter().any(IpAddr::is_loopback) {
        servers.extend(parse(&read(Path::new(UPSTREAM))));
    }
    // What is asked on the host itself does not pass the fence.
    servers.retain(|server| !server.is_loopback() && !server.is_unspecified());
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// resolv.conf(5): a line `nameserver ADDRESS`; an IPv6 address may name its interface.
fn parse(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next()? != "nameserver" {
            return None;
        }
        words.next()?.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_local_ones_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        std::fs::write(
            &file,
            "# comment\nsearch example.org\nnameserver 198.51.100.53\nnameserver 127.0.0.1\n\
             nameserver fe80::1%edge\n nameserver 2001:db8::53 # trailing\nnameserver nonsense\n\
             ;nameserver 203.0.113.1\nnameserver 198.51.100.53\n",
        )
        .unwrap();
        let servers: Vec<String> = configured(&file).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["198.51.100.53", "2001:db8::53", "fe80::1"]);
        assert_eq!(
            configured(&folder.path().join("missing")),
            [] as [IpAddr; 0]
        );
    }
}
