//! Asking for a name.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Whether a name server answers a question for an address within a second.
pub fn ask(from: IpAddr, server: IpAddr, number: u64, name: &str) -> io::Result<bool> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(SocketAddr::new(server, 53))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let identifier = (number as u16).to_be_bytes();
    let mut query = identifier.to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    socket.send(&query)?;
    let mut answer = [0; 1_500];
    match socket.recv(&mut answer) {
        Ok(length) => Ok(length > 12 && answer[..2] == identifier),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if crate::servers::is_timeout(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
