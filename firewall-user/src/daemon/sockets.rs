//! Looks at the kernel's socket table now and then: how far the connections to this host's services are
//! (`sock_diag(7)`, with what TCP_INFO says of each).
//!
//! On a thread of its own, as a table of many connections takes a while to read; the pauses grow with it.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::detect::SocketSample;
use crate::host::sock_diag::{
    CLOSE_WAIT, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, LISTEN, Message, Request, SockDiag, TCP_INFO,
};

/// How often the table is read, if reading it takes no more than a fiftieth of that.
const PAUSE: Duration = Duration::from_secs(2);
const SHARE: u32 = 50;
/// Connections that are read at most.
const MOST: usize = 1 << 16;

/// A thread that looks, as long as somebody takes what it finds.
#[derive(Debug)]
pub struct SocketWatch {
    found: Receiver<Vec<SocketSample>>,
}

impl SocketWatch {
    /// Begins to look. Where that is not possible, nothing will be found, and it is said why.
    pub fn start() -> Self {
        let (give, found) = sync_channel(1);
        let looking = thread::Builder::new()
            .name("sockets".to_owned())
            .spawn(move || look(&give));
        if let Err(error) = looking {
            warn!("the socket table is not looked at: no thread: {error}");
        }
        Self { found }
    }

    /// What was found since the last call.
    pub fn take(&self) -> Option<Vec<SocketSample>> {
        self.found.try_recv().ok()
    }
}

fn look(give: &SyncSender<Vec<SocketSample>>) {
    loop {
        let began = Instant::now();
        match read() {
            Ok(samples) => {
                if let Err(TrySendError::Disconnected(_)) = give.try_send(samples) {
                    return;
                }
            }
            Err(error) => {
                warn!(
                    "the socket table cannot be read, slow clients are told by packets alone: {error:#}"
                );
                return;
            }
        }
        thread::sleep(PAUSE.max(began.elapsed() * SHARE));
    }
}

/// Reads the connections to services of this host.
fn read() -> anyhow::Result<Vec<SocketSample>> {
    let mut table = Table::default();
    SockDiag::open()?.dump(CONNECTIONS, |message| {
        table.message(message);
    })?;
    Ok(table.samples())
}

const CONNECTIONS: Request<'_> = Request {
    protocol: libc::IPPROTO_TCP,
    states: &[ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, LISTEN],
    attributes: &[TCP_INFO],
};
/// Where bytes_acked and bytes_received stand in tcp_info.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

/// What has been read so far.
#[derive(Debug, Default)]
struct Table {
    listening: HashSet<u16>,
    connections: Vec<SocketSample>,
}

impl Table {
    /// Takes in one socket.
    fn message(&mut self, message: Message<'_>) -> Option<()> {
        if message.state()? == LISTEN {
            self.listening.insert(message.local_port()?);
            return Some(());
        }
        if self.connections.len() >= MOST {
            return None;
        }
        let (server, client) = (message.local()?, message.peer()?);
        let waiting = message.waiting()?;
        let info = message.attribute(TCP_INFO)?;
        let count = |at: usize| -> Option<u64> {
            Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?))
        };
        self.connections.push(SocketSample {
            client,
            server,
            received: count(BYTES_RECEIVED)?,
            acknowledged: count(BYTES_ACKED)?,
            waiting,
        });
        Some(())
    }

    /// Those of clients: of what listens here.
    fn samples(self) -> Vec<SocketSample> {
        let Self {
            listening,
            mut connections,
        } = self;
        connections.retain(|sample| {
            listening.contains(&sample.server.port()) && !sample.client.ip().is_loopback()
        });
        connections
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_how_far_a_connection_to_a_service_is() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(server).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        client.write_all(&[1; 300]).unwrap();
        accepted.read_exact(&mut [0; 300]).unwrap();
        accepted.write_all(&[2; 700]).unwrap();
        client.read_exact(&mut [0; 700]).unwrap();
        let mut table = Table::default();
        let diag = SockDiag::open().unwrap();
        diag.dump(CONNECTIONS, |message| {
            table.message(message);
        })
        .unwrap();
        assert!(table.listening.contains(&server.port()));
        let ours = client.local_addr().unwrap();
        let found = table
            .connections
            .iter()
            .find(|sample| sample.client == ours && sample.server == server);
        let found = found.unwrap();
        assert_eq!((found.received, found.acknowledged), (300, 700));
        assert_eq!(found.waiting, 0);
        // Its own end is no service's.
        assert!(
            table
                .connections
                .iter()
                .any(|sample| sample.server == ours && !table.listening.contains(&ours.port()))
        );
    }
}
