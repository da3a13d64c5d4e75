//! What the host's kernel says of its TCP connections.

use std::net::SocketAddr;

/// A connection to one of this host's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSample {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Bytes that came from the client.
    pub received: u64,
    /// Bytes that the client has acknowledged.
    pub acknowledged: u64,
    /// Bytes that the service has written and the client has not acknowledged.
    pub waiting: u32,
}
