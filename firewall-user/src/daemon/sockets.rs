//! Looks at the kernel's socket table now and then: how far the connections to this host's services are
//! (`sock_diag(7)`, with what TCP_INFO says of each).
//!
//! On a thread of its own, as a table of many connections takes a while to read; the pauses grow with it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use tracing::warn;

use crate::detect::SocketSample;

/// How often the table is read, if reading it takes no more than a fiftieth of that.
const PAUSE: Duration = Duration::from_secs(2);
const SHARE: u32 = 50;
/// Connections that are read at most.
const MOST: usize = 1 << 16;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .context("no socket for sock_diag")?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).context("no timeout")?;
    let mut table = Table::default();
    for family in [libc::AF_INET, libc::AF_INET6] {
        ask(&socket, family as u8, &mut table)?;
    }
    Ok(table.samples())
}

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h.
const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const REQUEST: usize = HEADER + 56;
const MESSAGE: usize = 72;
const INFO: u16 = 2;
const ESTABLISHED: u8 = 1;
const FIN_WAIT_1: u8 = 4;
const FIN_WAIT_2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;
/// Where bytes_acked and bytes_received stand in tcp_info.
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

/// Asks for the TCP sockets of a family.
fn ask(socket: &OwnedFd, family: u8, table: &mut Table) -> anyhow::Result<()> {
    let states = [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, LISTEN]
        .iter()
        .fold(0_u32, |states, state| states | 1 << state);
    let mut request = [0_u8; REQUEST];
    request[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    request[HEADER] = family;
    request[HEADER + 1] = libc::IPPROTO_TCP as u8;
    request[HEADER + 2] = 1 << (INFO - 1);
    request[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    rustix::net::send(socket, &request, SendFlags::empty()).context("the kernel was not asked")?;
    let mut buffer = vec![0_u8; 1 << 16];
    loop {
        let (_, length) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())
            .context("the kernel does not answer")?;
        if table.take(&buffer[..length.min(buffer.len())])? {
            return Ok(());
        }
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Table {
    listening: HashSet<u16>,
    connections: Vec<SocketSample>,
}

impl Table {
    /// Takes in the messages of a datagram; whether they were the last.
    fn take(&mut self, mut datagram: &[u8]) -> anyhow::Result<bool> {
        while let (Some(length), Some(kind)) = (word(datagram, 0), half(datagram, 4)) {
            let length = length as usize;
            match kind {
                DONE => return Ok(true),
                ERROR => {
                    let number = word(datagram, HEADER).unwrap_or(0).cast_signed();
                    let error = std::io::Error::from_raw_os_error(-number);
                    return Err(error).context("the kernel refuses");
                }
                _ => {}
            }
            if let Some(message) = datagram.get(HEADER..length) {
                self.message(message);
            }
            let next = length.max(HEADER).next_multiple_of(4);
            datagram = datagram.get(next..).unwrap_or_default();
        }
        Ok(false)
    }

    /// Takes in one socket.
    fn message(&mut self, message: &[u8]) -> Option<()> {
        let (family, state) = (*message.first()?, *message.get(1)?);
        let (local, remote) = (big_half(message, 4)?, big_half(message, 6)?);
        if state == LISTEN {
            self.listening.insert(local);
            return Some(());
        }
        if self.connections.len() >= MOST {
            return None;
        }
        let server = SocketAddr::new(address(family, message, 8)?, local);
        let client = SocketAddr::new(address(family, message, 24)?, remote);
        let waiting = word(message, 60)?;
        let info = attribute(message.get(MESSAGE..)?, INFO)?;
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

fn address(family: u8, message: &[u8], at: usize) -> Option<IpAddr> {
    if i32::from(family) == libc::AF_INET {
        let bytes: [u8; 4] = message.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::from(bytes))
    } else {
        let bytes: [u8; 16] = message.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::from(bytes).to_canonical())
    }
}

/// The attribute of a kind among those of a message.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        if half(attributes, 2)? == kind {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn big_half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
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
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )
        .unwrap();
        let mut table = Table::default();
        ask(&socket, libc::AF_INET as u8, &mut table).unwrap();
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

    #[test]
    fn what_the_kernel_never_sends_is_no_danger() {
        for length in 0..200 {
            for byte in [0, 1, 4, 20, 72, 255] {
                let mut table = Table::default();
                let _ = table.take(&vec![byte; length]);
                assert_eq!(table.connections, []);
            }
        }
    }
}
