//! What the outside does to the protected host, and how it says what came of it.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::namespace::{Namespace, join};
use crate::patience::stretched;
use crate::process::{Background, Finished, finish, wait_until};
use crate::servers::is_timeout;

/// Fetches `http://to:port/` from the address `from` with curl; gives up after `patience`.
pub fn curl(
    namespace: &Namespace,
    from: IpAddr,
    to: IpAddr,
    port: u16,
    patience: Duration,
) -> Result<Finished> {
    finish(
        namespace
            .command("curl")
            .args(["--silent", "--show-error", "--noproxy", "*"])
            .args([
                "--max-time",
                &format!("{:.1}", stretched(patience).as_secs_f64()),
            ])
            .args(["--interface", &from.to_string()])
            .arg(format!("http://{}/", SocketAddr::new(to, port))),
    )
}

/// curl's exit code when nothing answers in time.
pub const CURL_TIMED_OUT: i32 = 28;

/// What `ping` counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    pub sent: u64,
    pub answered: u64,
}

/// Sends `count` echo requests, one each `interval`, and counts the answers.
pub fn ping(
    namespace: &Namespace,
    from: IpAddr,
    to: IpAddr,
    count: u32,
    interval: Duration,
) -> Result<Pings> {
    let finished = finish(&mut ping_command(namespace, from, to, count, interval))?;
    read_ping(&finished.stdout).with_context(|| format!("ping said: {finished}"))
}

/// How long ping waits for the last answer.
const ANSWER: Duration = Duration::from_millis(500);

fn ping_command(
    namespace: &Namespace,
    from: IpAddr,
    to: IpAddr,
    count: u32,
    interval: Duration,
) -> Command {
    let answer = stretched(ANSWER);
    let mut command = namespace.command("ping");
    command
        .args([
            "-n",
            "-q",
            "-W",
            &format!("{:.1}", answer.as_secs_f64()),
            "-I",
            &from.to_string(),
        ])
        .args(["-c", &count.to_string()])
        .args(["-i", &format!("{:.4}", interval.as_secs_f64())])
        .arg(to.to_string());
    command
}

/// Pings under way. Their number is fixed from the start, so that the last answer is waited for
/// and a missing one was truly lost.
#[derive(Debug)]
pub struct Pinging {
    ping: Background,
    patience: Duration,
}

impl Pinging {
    pub fn start(
        namespace: &Namespace,
        from: IpAddr,
        to: IpAddr,
        count: u32,
        interval: Duration,
    ) -> Result<Self> {
        let ping = Background::spawn(
            ping_command(namespace, from, to, count, interval).stdout(Stdio::piped()),
        )?;
        Ok(Self {
            ping,
            patience: interval * count * 2 + Duration::from_secs(10),
        })
    }

    /// Whether there are still some to come.
    pub fn runs(&mut self) -> Result<bool> {
        self.ping.runs()
    }

    /// Waits for the last answer, and counts.
    pub fn finish(self) -> Result<Pings> {
        let output = self.ping.output(self.patience)?;
        read_ping(&output).with_context(|| format!("ping said: {output}"))
    }
}

/// Reads "200 packets transmitted, 198 received, ..." from ping's summary.
fn read_ping(output: &str) -> Result<Pings> {
    let line = output
        .lines()
        .find(|line| line.contains("packets transmitted"))
        .context("no summary")?;
    let number = |after: &str| -> Result<u64> {
        let part = line
            .split(',')
            .find(|part| part.contains(after))
            .with_context(|| format!("no `{after}` in {line}"))?;
        let word = part.split_whitespace().next().unwrap_or_default();
        word.parse().with_context(|| format!("{word} in {line}"))
    };
    Ok(Pings {
        sent: number("transmitted")?,
        answered: number("received")?,
    })
}

/// How an attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    Accepted,
    /// Reset: the packet reached a host where nobody listens.
    Refused,
    /// No answer at all: what a fence that drops looks like.
    Silent,
}

/// Tries a TCP connection from within `namespace`.
pub fn connect(namespace: &Namespace, to: SocketAddr, patience: Duration) -> Result<Connect> {
    let patience = stretched(patience);
    namespace.inside(move || match TcpStream::connect_timeout(&to, patience) {
        Ok(_) => Ok(Connect::Accepted),
        Err(error) if is_timeout(&error) => Ok(Connect::Silent),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(Connect::Refused),
        Err(error) => Err(error).with_context(|| format!("connecting to {to}")),
    })
}

/// Sends one datagram from within `namespace` and waits for the same back.
pub fn udp_exchange(
    namespace: &Namespace,
    to: SocketAddr,
    length: usize,
    patience: Duration,
) -> Result<bool> {
    namespace.inside(move || {
        let socket = UdpSocket::bind(any_address(to.ip(), 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(stretched(patience)))?;
        let datagram: Vec<u8> = (0..length).map(|index| index as u8).collect();
        socket.send(&datagram)?;
        let mut answer = vec![0; length + 1];
        match socket.recv(&mut answer) {
            Ok(received) if answer[..received] == datagram => Ok(true),
            Ok(received) => bail!("{received} other bytes came back from {to}"),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("an answer from {to}")),
        }
    })
}

/// A steady stream of small datagrams, until it is stopped.
#[derive(Debug)]
pub struct UdpStream {
    pub from: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl UdpStream {
    /// Sends from `from` (port 0 for any) one datagram each `interval`.
    pub fn start(
        namespace: &Namespace,
        from: SocketAddr,
        to: SocketAddr,
        interval: Duration,
    ) -> Result<Self> {
        let socket = namespace.inside(move || {
            let socket = UdpSocket::bind(from).with_context(|| format!("sending from {from}"))?;
            socket.connect(to)?;
            Ok(socket)
        })?;
        let from = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sent = 0u64;
            let mut due = Instant::now();
            while !seen.load(Ordering::Relaxed) {
                match socket.send(&sent.to_be_bytes()) {
                    Ok(_) => sent += 1,
                    // Where nobody listens, an ICMP error comes back and is told on the next send.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error).context("datagram not sent"),
                }
                due += interval;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(sent)
        });
        Ok(Self {
            from,
            stop,
            thread: Some(thread),
        })
    }

    /// Stops, and tells how many datagrams went out.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(0), join)
    }
}

impl Drop for UdpStream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until `count()` stands still, so that what is under way has arrived.
pub fn settle(mut count: impl FnMut() -> u64) -> Result<u64> {
    let mut before = count();
    let mut since = Instant::now();
    wait_until("traffic comes to rest", Duration::from_secs(5), || {
        let now = count();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        Ok(since.elapsed() > stretched(Duration::from_millis(60)))
    })?;
    Ok(before)
}

/// The unspecified address of the family of `like`.
pub fn any_address(like: IpAddr, port: u16) -> SocketAddr {
    match like {
        IpAddr::V4(_) => SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port),
        IpAddr::V6(_) => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_s_summary_is_read() -> Result<()> {
        let output = "--- 198.51.100.1 ping statistics ---\n200 packets transmitted, 198 received, +1 errors, 1% packet loss, time 796ms\n";
        assert_eq!(
            read_ping(output)?,
            Pings {
                sent: 200,
                answered: 198
            }
        );
        assert!(read_ping("ping: connect: Network is unreachable").is_err());
        Ok(())
    }
}
