//! Addresses and prefixes as people write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a text is no prefix, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct BadPrefix {
    pub message: String,
    pub help: String,
}

/// Reads an address or a prefix; an address becomes a prefix of full length.
pub fn parse_prefix(text: &str) -> Result<IpNet, BadPrefix> {
    well_formed(text).ok_or_else(|| explain(text))
}

/// As [`parse_prefix`], without the cost of saying why not.
pub fn well_formed(text: &str) -> Option<IpNet> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(parse_length(length)?)),
        None => (text, None),
    };
    if address.contains(':') {
        let address: Ipv6Addr = address.parse().ok()?;
        let prefix = Ipv6Net::new(address, length.unwrap_or(128)).ok()?;
        (prefix.network() == address && mapped(prefix).is_none()).then_some(IpNet::V6(prefix))
    } else {
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix = Ipv4Net::new(address, length.unwrap_or(32)).ok()?;
        (prefix.network() == address).then_some(IpNet::V4(prefix))
    }
}

/// A prefix as people write it: a single address without its length.
pub fn print_prefix(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

/// Whether a text was meant as an address rather than as a name.
pub fn resembles_address(text: &str) -> bool {
    let digits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    text.contains(['/', ':', '%']) || (!text.is_empty() && text.bytes().all(digits))
}

/// The IPv4 prefix that an IPv4-mapped IPv6 prefix stands for.
fn mapped(prefix: Ipv6Net) -> Option<IpNet> {
    let length = prefix.prefix_len().checked_sub(96)?;
    let address = prefix.addr().to_ipv4_mapped()?;
    Some(IpNet::V4(Ipv4Net::new(address, length).ok()?))
}

fn parse_length(text: &str) -> Option<u8> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

fn explain(text: &str) -> BadPrefix {
    let shown: String = text.chars().take(60).collect();
    let bad = |message: &str, help: String| BadPrefix {
        message: format!("\"{}\" {message}", shown.escape_debug()),
        help,
    };
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return bad("is not an address or prefix", guess(text));
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(length) => match parse_length(length) {
            Some(length) if length <= most => length,
            _ => {
                let help = match netmask_length(length) {
                    Some(length) => format!("write {address}/{length}"),
                    None => format!("a length is a number from 0 to {most}"),
                };
                return bad("has no valid prefix length", help);
            }
        },
    };
    // The length was compared with the family's most above.
    let Ok(prefix) = IpNet::new(address, length) else {
        return bad("has no valid prefix length", String::new());
    };
    if let IpNet::V6(prefix) = prefix
        && let Some(plain) = mapped(prefix)
    {
        let help = format!("write {}", print_prefix(&plain.trunc()));
        return bad("is an IPv4 address in IPv6 form", help);
    }
    bad(
        &format!("has bits set behind its length of {length}"),
        format!(
            "write {} for the network or {address} for the one address",
            prefix.trunc()
        ),
    )
}

/// The length that a dotted netmask stands for.
fn netmask_length(mask: &str) -> Option<u8> {
    ipnet::ip_mask_to_prefix(mask.parse().ok()?).ok()
}

fn guess(text: &str) -> String {
    let octets: Vec<&str> = text.split(['.', '/']).collect();
    let numeric =
        |octet: &&str| !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit());
    if text.contains('%') {
        "leave the zone out; name the interface with the key \"interface\"".to_owned()
    } else if text.starts_with('!') {
        "an address cannot be negated; put a rule for the exception before this one".to_owned()
    } else if text.contains('-') {
        "a range has to be written as prefixes".to_owned()
    } else if octets.len() >= 4 && octets.iter().take(4).all(numeric) {
        "each of the four numbers is 0 to 255, without leading zeros".to_owned()
    } else {
        "write an address such as 198.51.100.7 or a prefix such as 2001:db8::/32".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_and_prefixes_of_both_families_are_read() {
        for (text, prefix) in [
            ("198.51.100.7", "198.51.100.7/32"),
            ("198.51.100.0/24", "198.51.100.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:DB8:1::/48", "2001:db8:1::/48"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse_prefix(text).unwrap().to_string(), prefix);
        }
    }

    #[test]
    fn each_bad_prefix_says_what_is_wrong_and_what_would_be_right() {
        for (text, message, help) in [
            (
                "198.51.100.7/24",
                "\"198.51.100.7/24\" has bits set behind its length of 24",
                "write 198.51.100.0/24 for the network or 198.51.100.7 for the one address",
            ),
            (
                "2001:db8::1/32",
                "\"2001:db8::1/32\" has bits set behind its length of 32",
                "write 2001:db8::/32 for the network or 2001:db8::1 for the one address",
            ),
            (
                "198.51.100.0/33",
                "\"198.51.100.0/33\" has no valid prefix length",
                "a length is a number from 0 to 32",
            ),
            (
                "198.51.100.0/255.255.255.0",
                "\"198.51.100.0/255.255.255.0\" has no valid prefix length",
                "write 198.51.100.0/24",
            ),
            (
                "2001:db8::/+1",
                "\"2001:db8::/+1\" has no valid prefix length",
                "a length is a number from 0 to 128",
            ),
            (
                "::ffff:198.51.100.7",
                "\"::ffff:198.51.100.7\" is an IPv4 address in IPv6 form",
                "write 198.51.100.7",
            ),
            (
                "fe80::1%eth0",
                "\"fe80::1%eth0\" is not an address or prefix",
                "leave the zone out; name the interface with the key \"interface\"",
            ),
            (
                "198.51.100.256",
                "\"198.51.100.256\" is not an address or prefix",
                "each of the four numbers is 0 to 255, without leading zeros",
            ),
            (
                "198.51.100.1-198.51.100.9",
                "\"198.51.100.1-198.51.100.9\" is not an address or prefix",
                "a range has to be written as prefixes",
            ),
            (
                "1.2.3",
                "\"1.2.3\" is not an address or prefix",
                "write an address such as 198.51.100.7 or a prefix such as 2001:db8::/32",
            ),
        ] {
            let bad = parse_prefix(text).unwrap_err();
            assert_eq!((bad.message.as_str(), bad.help.as_str()), (message, help));
        }
    }

    proptest! {
        #[test]
        fn a_printed_prefix_reads_back_as_itself(bits: u128, length in 0u8..=128, v4: bool) {
            let prefix = if v4 {
                IpNet::V4(Ipv4Net::new((bits as u32).into(), length.min(32)).unwrap())
            } else {
                IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap())
            }
            .trunc();
            let mapped = matches!(prefix, IpNet::V6(prefix) if mapped(prefix).is_some());
            prop_assert_eq!(parse_prefix(&print_prefix(&prefix)).is_ok(), !mapped);
            if !mapped {
                prop_assert_eq!(parse_prefix(&print_prefix(&prefix)).unwrap(), prefix);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9a-f.:/%!-]{0,40}|.{0,40}") {
            let read = parse_prefix(&text);
            prop_assert!(read.is_err() || resembles_address(&text));
        }
    }
}
