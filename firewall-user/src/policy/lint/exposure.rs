//! Accept rules that open to everybody what is rarely meant for everybody.

use super::{Linter, code};
use crate::policy::finding::Severity;
use crate::policy::model::{Action, Direction, Rule};
use crate::policy::protocol::{TCP, UDP};

/// Ports of administration and of databases, by protocol, with the service that uses them.
const PORTS: &[(u8, u16, &str)] = &[
    (TCP, 22, "SSH"),
    (TCP, 23, "Telnet"),
    (UDP, 69, "TFTP"),
    (TCP, 135, "Windows RPC"),
    (TCP, 139, "SMB"),
    (UDP, 161, "SNMP"),
    (TCP, 389, "LDAP"),
    (TCP, 445, "SMB"),
    (UDP, 623, "IPMI"),
    (TCP, 873, "rsync"),
    (TCP, 1433, "SQL Server"),
    (TCP, 1521, "Oracle"),
    (TCP, 2049, "NFS"),
    (TCP, 2375, "Docker"),
    (TCP, 2379, "etcd"),
    (TCP, 3306, "MySQL"),
    (TCP, 3389, "Remote Desktop"),
    (TCP, 5432, "PostgreSQL"),
    (TCP, 5900, "VNC"),
    (TCP, 5984, "CouchDB"),
    (TCP, 5985, "WinRM"),
    (TCP, 6379, "Redis"),
    (TCP, 6443, "Kubernetes"),
    (TCP, 9200, "Elasticsearch"),
    (TCP, 10250, "kubelet"),
    (TCP, 11211, "memcached"),
    (UDP, 11211, "memcached"),
    (TCP, 27017, "MongoDB"),
];

/// Whether a port is one of administration or of a database.
pub fn is_admin_port(protocol: u8, port: u16) -> bool {
    PORTS
        .iter()
        .any(|(known, number, _)| (*known, *number) == (protocol, port))
}

impl Linter<'_> {
    pub(super) fn exposed(&mut self, usable: &[bool]) {
        for (rule, usable) in self.policy.rules.iter().zip(usable) {
            let admits = rule.action == Action::Accept && rule.direction == Direction::Inbound;
            if !usable || !admits || !self.is_open_to_all(rule) {
                continue;
            }
            let open: Vec<String> = PORTS
                .iter()
                .filter(|(protocol, port, _)| {
                    rule.protocols.contains(protocol)
                        && rule
                            .ports
                            .iter()
                            .any(|(low, high)| (low..=high).contains(&port))
                })
                .map(|(_, port, service)| format!("{port} ({service})"))
                .collect();
            if open.is_empty() {
                continue;
            }
            let shown = open.len().min(4);
            let more = match open.len() - shown {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let message = format!(
                "rule \"{}\" opens port {}{more} to the whole Internet",
                rule.name,
                open[..shown].join(", ")
            );
            let help = "add \"from\" with the addresses that need it";
            self.report(Severity::Note, code::ADMIN_PORT_OPEN, rule, message, help);
        }
    }

    fn is_open_to_all(&self, rule: &Rule) -> bool {
        if rule.from.is_any() {
            return true;
        }
        let whole =
            |coverage: &super::Coverage| coverage.is_whole(false) || coverage.is_whole(true);
        rule.from.sets.iter().any(|set| whole(&self.coverage[*set]))
            || whole(&super::Coverage::of(&rule.from.prefixes))
    }
}
