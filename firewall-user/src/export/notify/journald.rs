//! The journal, by its own protocol: a datagram with a field a line. Own code, as the crates that speak it know
//! one socket only, and a socket that is not there must be an error and not a log line that is lost.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Delivery;
use super::notice::{Event, Notice};
use crate::detect::Severity;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Marks alerts in the journal: `journalctl MESSAGE_ID=...`. Two numbers made for this, as journald(7) asks.
const FIRING: &str = "6f1c4f0c6f0b4c3d9d8e1f6a5b7e2c10";
const RESOLVED: &str = "b0d92d7a3c1e4b6f8a5d0c9e7f3a1b24";

/// Longest field; longer ones are cut, so that a datagram is never too large for the socket.
const LONGEST: usize = 16 << 10;

#[derive(Debug)]
pub struct Journald {
    socket: PathBuf,
}

impl Journald {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// The kernel hands datagrams over at once, or says why not: nothing here waits.
    pub fn deliver(&self, notice: &Notice) -> Delivery {
        match self.send(&datagram(notice)) {
            Ok(()) => Delivery::Done(format!("{} took it", self.socket.display())),
            Err(error) => Delivery::again(format!(
                "journald does not listen on {}: {error}; does systemd run here?",
                self.socket.display()
            )),
        }
    }

    fn send(&self, datagram: &[u8]) -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(datagram, &self.socket).map(drop)
    }
}

fn datagram(notice: &Notice) -> Vec<u8> {
    let alert = &notice.alert;
    let mut fields = Fields(Vec::new());
    let (id, priority) = match (notice.event, alert.severity) {
        (Event::Resolved | Event::Test, _) => (RESOLVED, "5"),
        (_, Severity::Critical) => (FIRING, "2"),
        (_, Severity::Warning) => (FIRING, "4"),
        (_, Severity::Info) => (FIRING, "6"),
    };
    fields.add(
        "MESSAGE",
        &format!(
            "{} {}: {} about {}: {}",
            alert.severity, notice.event, alert.kind, alert.subject, alert.why
        ),
    );
    fields.add("MESSAGE_ID", id);
    fields.add("PRIORITY", priority);
    fields.add("SYSLOG_IDENTIFIER", "palisade");
    fields.add("PALISADE_EVENT", notice.event.name());
    fields.add("PALISADE_KIND", alert.kind.name());
    fields.add("PALISADE_SEVERITY", alert.severity.name());
    fields.add("PALISADE_STATE", alert.state.name());
    fields.add("PALISADE_SUBJECT", &alert.subject.to_string());
    fields.add("PALISADE_INSTANCE", &notice.instance);
    fields.add("PALISADE_ALERT", &alert.id.to_string());
    if let Some(incident) = alert.incident {
        fields.add("PALISADE_INCIDENT", &incident.to_string());
    }
    fields.add("PALISADE_OBSERVED", &alert.observed.to_string());
    fields.add("PALISADE_EXPECTED", &alert.expected.to_string());
    fields.add("PALISADE_UNIT", &alert.unit);
    for what in &alert.response {
        fields.add("PALISADE_RESPONSE", what);
    }
    fields.add("PALISADE_KEY", &notice.key);
    fields.0
}

/// Fields in the journal's native form.
struct Fields(Vec<u8>);

impl Fields {
    fn add(&mut self, name: &str, value: &str) {
        let mut end = value.len().min(LONGEST);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = &value[..end];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // With its length in front: a line end in a value must not begin a field.
            self.0.push(b'\n');
            self.0
                .extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::notice::sample;
    use super::*;
    use crate::detect::AlertKind;

    #[test]
    fn a_line_end_in_a_value_begins_no_field() {
        let mut alert = sample(AlertKind::PortScan, Severity::Warning);
        alert.why = "first\nPALISADE_KIND=forged".to_owned();
        let datagram = datagram(&Notice::new(Event::Fired, "edge1", 0, alert));
        let text = String::from_utf8_lossy(&datagram);
        let length =
            "warning fired: port_scan about 203.0.113.7: first\nPALISADE_KIND=forged".len();
        assert!(datagram.starts_with(&[b"MESSAGE\n", &(length as u64).to_le_bytes()[..]].concat()));
        assert!(text.contains("\nPALISADE_KIND=port_scan\nPALISADE_SEVERITY=warning\n"));
        assert!(text.contains("\nPRIORITY=4\n"));
    }

    #[test]
    fn where_no_journald_listens_that_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let journald = Journald::new(&folder.path().join("socket"));
        match journald.deliver(&Notice::test("edge1", 0)) {
            Delivery::Again { why, .. } => assert!(why.contains("does not listen"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_very_long_value_is_cut_and_still_arrives() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).expect("bound");
        let mut alert = sample(AlertKind::PortScan, Severity::Warning);
        alert.why = "ä".repeat(1 << 20);
        let delivery = Journald::new(&path).deliver(&Notice::new(Event::Fired, "edge1", 0, alert));
        assert!(matches!(delivery, Delivery::Done(_)), "{delivery:?}");
        let mut buffer = vec![0; 1 << 17];
        let length = listener.recv(&mut buffer).expect("received");
        assert!(
            (LONGEST - 1000..LONGEST + 1000).contains(&length),
            "{length}"
        );
    }
}
