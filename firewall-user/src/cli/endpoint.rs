//! An address with or without a port, as people write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: Option<u16>,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}; right are 198.51.100.7, 198.51.100.7:443, 2001:db8::1 and [2001:db8::1]:443"
            )
        };
        let bare = |address| Self {
            address,
            port: None,
        };
        if text.contains('/') {
            return Err(wrong("a prefix is no address: give one address of it"));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(bare(address.to_canonical()));
        }
        let (address, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let Some((address, rest)) = rest.split_once(']') else {
                    return Err(wrong("the bracket is not closed"));
                };
                let address: Result<Ipv6Addr, _> = address.parse();
                let address = address.map_err(|_| wrong("no IPv6 address in the brackets"))?;
                let address = IpAddr::V6(address).to_canonical();
                match rest.strip_prefix(':') {
                    Some(port) => (address, port),
                    None if rest.is_empty() => return Ok(bare(address)),
                    None => return Err(wrong("after the brackets comes a colon and the port")),
                }
            }
            None => {
                let Some((address, port)) = text.rsplit_once(':') else {
                    return Err(wrong("no IP address"));
                };
                let address = address.parse::<Ipv4Addr>();
                let address = address.map_err(|_| wrong("no IP address"))?;
                (IpAddr::V4(address), port)
            }
        };
        let port = port
            .parse()
            .map_err(|_| wrong("the port is no number from 0 to 65535"))?;
        Ok(Self {
            address,
            port: Some(port),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, None) => write!(formatter, "{address}"),
            (IpAddr::V4(address), Some(port)) => write!(formatter, "{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => write!(formatter, "[{address}]:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "198.51.100.7",
            "198.51.100.7:443",
            "2001:db8::1",
            "[2001:db8::1]:443",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        assert_eq!("[2001:db8::1]".parse::<Endpoint>().unwrap().port, None);
        let mapped: Endpoint = "::ffff:198.51.100.7".parse().unwrap();
        assert_eq!(mapped.to_string(), "198.51.100.7");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        for (text, reason) in [
            ("shop", "no IP address"),
            ("shop:443", "no IP address"),
            ("198.51.100.0/24", "a prefix is no address"),
            ("198.51.100.7:https", "the port is no number"),
            ("198.51.100.7:65536", "the port is no number"),
            ("[2001:db8::1", "the bracket is not closed"),
            ("[2001:db8::1]443", "a colon and the port"),
            ("[198.51.100.7]:443", "no IPv6 address in the brackets"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(
                error.starts_with(reason) || error.contains(reason),
                "{text}: {error}"
            );
            assert!(error.contains("right are"), "{text}: {error}");
        }
    }
}
