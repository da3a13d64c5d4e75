//! Whom a ban is about, as people write it: an address or a prefix.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// A text that names no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address or prefix: write e.g. 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48")]
pub struct BadPrefix(pub String);

/// Reads an address or a prefix. Bits beyond the prefix length are dropped, as in a routing table.
pub fn parse_prefix(text: &str) -> Result<IpNet, BadPrefix> {
    let text = text.trim();
    let parsed = match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse().ok(),
    };
    let prefix: IpNet = parsed.ok_or_else(|| BadPrefix(text.to_owned()))?;
    Ok(unmapped(prefix).trunc())
}

/// An IPv4 prefix written in its IPv6 form (`::ffff:203.0.113.7`) is that IPv4 prefix.
fn unmapped(prefix: IpNet) -> IpNet {
    if let IpNet::V6(v6) = prefix
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(v4, length)
    {
        return IpNet::V4(v4);
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes_are_read_in_every_usual_form() {
        for (text, expected) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_prefix(text).expect(text).to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for text in [
            "",
            "example.org",
            "203.0.113",
            "203.0.113.7/33",
            "1.2.3.4-5",
        ] {
            let error = parse_prefix(text).expect_err(text);
            assert!(error.to_string().contains("203.0.113.0/24"), "{text}");
        }
    }
}
