//! A small HTTP client that chooses its own address.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// How long a visitor waits before giving up.
const PATIENCE: Duration = Duration::from_secs(3);

/// A connection from `from`, all of whose waits are bounded.
pub fn open(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    // The timeout for sending bounds connecting, too (socket(7)).
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, direction, Some(PATIENCE))?;
    }
    bind(&socket, &SocketAddr::new(from, 0))?;
    connect(&socket, &to)?;
    Ok(socket.into())
}

/// Asks for a path on an open connection and reads the answer; how many bytes its body had.
pub fn get(stream: &mut TcpStream, path: &str) -> io::Result<usize> {
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: visitor\r\nAccept: */*\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 16_384];
    let head = loop {
        if let Some(end) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
            break end + 4;
        }
        let length = stream.read(&mut part)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend(&part[..length]);
    };
    let words = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    if !words.starts_with("http/1.1 200") {
        return Err(io::Error::other("not served"));
    }
    let length = words
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no length"))?;
    let mut received = answer.len() - head;
    while received < length {
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => received += more,
        }
    }
    Ok(received)
}
