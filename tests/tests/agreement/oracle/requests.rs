//! What asks a server for something: HTTP, TLS, QUIC, DNS, ping.

use super::parse::{Body, UDP, UDPLITE};

const METHODS: [&[u8]; 8] = [
    b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"PRI ",
];

/// Whether a transport (`rest`, header included) is a request. What begins more than `reach` bytes
/// behind its start is not looked at.
pub fn is_one(body: Body, protocol: u8, v6: bool, rest: &[u8], reach: usize) -> bool {
    match body {
        Body::Tcp { .. } => {
            let header = usize::from(rest[12] >> 4) * 4;
            let data = rest.get(header..).filter(|_| header <= reach);
            data.is_some_and(|data| data.len() >= 8 && (is_http(data) || is_client_hello(data)))
        }
        Body::Ports { to, .. } if protocol == UDP || protocol == UDPLITE => {
            let data = rest.get(8..).filter(|_| reach >= 8);
            data.is_some_and(|data| data.len() >= 6 && (is_query(data, to) || is_initial(data)))
        }
        Body::Icmp { kind, .. } => kind == if v6 { 128 } else { 8 },
        Body::Ports { .. } | Body::Opaque => false,
    }
}

fn is_http(data: &[u8]) -> bool {
    METHODS.iter().any(|method| data.starts_with(method))
}

fn is_client_hello(data: &[u8]) -> bool {
    data[0] == 22 && data[1] == 3 && data[5] == 1
}

fn is_query(data: &[u8], to: u16) -> bool {
    to == 53 && data[2] < 128
}

fn is_initial(data: &[u8]) -> bool {
    data[0] >> 4 == 12 && data[1..5] != [0; 4] && data.len() >= 1200
}
