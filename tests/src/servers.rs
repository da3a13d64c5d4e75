//! Small real servers, each on a thread in a namespace for as long as its guard lives.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::namespace::Namespace;

/// How long a server may sleep before it sees that it should stop.
const BREATH: Duration = Duration::from_millis(20);

/// A server that ends when this goes.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || work(&seen));
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic is printed already; a second one here would hide the test's.
            let _ = thread.join();
        }
    }
}

/// Answers every HTTP request with `body`, on IPv4 and IPv6.
pub fn http(namespace: &Namespace, port: u16, body: &str) -> Result<Server> {
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    tcp(namespace, port, move |mut stream| {
        let mut request: Vec<u8> = Vec::new();
        let mut part = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part)? {
                0 => return Ok(()),
                length => request.extend(&part[..length]),
            }
        }
        stream.write_all(response.as_bytes())
    })
}

/// Sends every byte back, until the client closes.
pub fn tcp_echo(namespace: &Namespace, port: u16) -> Result<Server> {
    tcp(namespace, port, |mut stream| {
        let mut part = [0; 16384];
        loop {
            match stream.read(&mut part)? {
                0 => return Ok(()),
                length => stream.write_all(&part[..length])?,
            }
        }
    })
}

/// Reads to the end, then answers with the count of bytes in decimal.
pub fn tcp_count(namespace: &Namespace, port: u16) -> Result<Server> {
    tcp(namespace, port, |mut stream| {
        let mut part = [0; 65536];
        let mut total = 0;
        loop {
            match stream.read(&mut part)? {
                0 => return stream.write_all(format!("{total}").as_bytes()),
                length => total += length,
            }
        }
    })
}

/// An FTP server that refuses every password, three to a connection.
pub fn ftp_that_refuses(namespace: &Namespace, port: u16) -> Result<Server> {
    tcp(namespace, port, |mut stream| {
        stream.write_all(b"220 ready\r\n")?;
        let mut lines = std::io::BufReader::new(stream.try_clone()?);
        let (mut line, mut refused) = (String::new(), 0);
        while refused < 3 {
            line.clear();
            if std::io::BufRead::read_line(&mut lines, &mut line)? == 0 {
                return Ok(());
            }
            let answer: &[u8] = match line.get(..4).map(str::to_uppercase).as_deref() {
                Some("USER") => b"331 and the password?\r\n",
                Some("PASS") => {
                    refused += 1;
                    b"530 Login incorrect.\r\n"
                }
                Some("QUIT") => return stream.write_all(b"221 bye\r\n"),
                _ => b"530 Please log in.\r\n",
            };
            stream.write_all(answer)?;
        }
        Ok(())
    })
}

fn tcp(
    namespace: &Namespace,
    port: u16,
    serve: impl Fn(TcpStream) -> std::io::Result<()> + Clone + Send + 'static,
) -> Result<Server> {
    let listener = namespace.inside(move || {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .with_context(|| format!("TCP port {port} cannot be listened on"))
    })?;
    listener.set_nonblocking(true)?;
    Ok(Server::start(move |stop| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let serve = serve.clone();
                    // Detached: it ends with its connection, at the latest with the namespace.
                    std::thread::spawn(move || {
                        let _ = stream.set_nonblocking(false);
                        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
                        // A client that goes away is no failure of the server.
                        let _ = serve(stream);
                    });
                }
                Err(_) => wait_for(&listener),
            }
        }
    }))
}

/// Sends every datagram back where it came from.
pub fn udp_echo(namespace: &Namespace, port: u16) -> Result<Server> {
    let socket = udp(namespace, port)?;
    Ok(Server::start(move |stop| {
        let mut datagram = vec![0; 65536];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                // An unreachable client is no failure of the server.
                let _ = socket.send_to(&datagram[..length], from);
            }
        }
    }))
}

/// Counts datagrams by sender and answers none.
#[derive(Debug)]
pub struct UdpSink {
    arrivals: Arc<Mutex<HashMap<SocketAddr, Vec<Instant>>>>,
    total: Arc<AtomicU64>,
    _server: Server,
}

impl UdpSink {
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let socket = udp(namespace, port)?;
        let arrivals: Arc<Mutex<HashMap<SocketAddr, Vec<Instant>>>> = Arc::default();
        let total: Arc<AtomicU64> = Arc::default();
        let (seen, counted) = (Arc::clone(&arrivals), Arc::clone(&total));
        let server = Server::start(move |stop| {
            let mut datagram = vec![0; 65536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((_, from)) = socket.recv_from(&mut datagram) else {
                    continue;
                };
                counted.fetch_add(1, Ordering::Relaxed);
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.entry(from).or_default().push(Instant::now());
            }
        });
        Ok(Self {
            arrivals,
            total,
            _server: server,
        })
    }

    /// Datagrams that came, from anybody.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// When the datagrams of one sender came, in order.
    pub fn arrivals_from(&self, sender: SocketAddr) -> Vec<Instant> {
        // An IPv4 sender shows as a mapped address on a socket of both families.
        let mapped = match sender.ip() {
            IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), sender.port()),
            IpAddr::V6(_) => sender,
        };
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.get(&mapped).cloned().unwrap_or_default()
    }
}

fn udp(namespace: &Namespace, port: u16) -> Result<UdpSocket> {
    let socket = namespace.inside(move || {
        UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))
            .with_context(|| format!("UDP port {port} cannot be listened on"))
    })?;
    // A count that a full buffer made wrong would be a false alarm.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20);
    socket.set_read_timeout(Some(BREATH))?;
    Ok(socket)
}

fn wait_for(listener: &TcpListener) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let breath = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(BREATH.subsec_nanos()),
    };
    // Interrupted or timed out: the caller looks again either way.
    let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&breath));
}

/// Whether an error only says that nothing came in time.
pub fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
