//! Which addresses a list of prefixes covers, as merged ranges: asking costs a binary search, so
//! that lists of a hundred thousand prefixes can be compared.

use ipnet::IpNet;

/// Inclusive ranges, sorted and merged, for each family.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Coverage {
    pub fn of<'p>(prefixes: impl IntoIterator<Item = &'p IpNet>) -> Self {
        let mut coverage = Self::default();
        for prefix in prefixes {
            match prefix {
                IpNet::V4(_) => coverage.v4.push(bounds(prefix)),
                IpNet::V6(_) => coverage.v6.push(bounds(prefix)),
            }
        }
        coverage.v4 = merged(coverage.v4);
        coverage.v6 = merged(coverage.v6);
        coverage
    }

    /// Whether every address of `prefix` is covered.
    pub fn covers(&self, prefix: &IpNet) -> bool {
        let (low, high) = bounds(prefix);
        self.first_ending_at_or_after(prefix, low)
            .is_some_and(|range| range.0 <= low && high <= range.1)
    }

    /// Whether any address of `prefix` is covered.
    pub fn overlaps(&self, prefix: &IpNet) -> bool {
        let (low, high) = bounds(prefix);
        self.first_ending_at_or_after(prefix, low)
            .is_some_and(|range| range.0 <= high)
    }

    /// Whether there are IPv4 and IPv6 addresses.
    pub fn families(&self) -> (bool, bool) {
        (!self.v4.is_empty(), !self.v6.is_empty())
    }

    fn first_ending_at_or_after(&self, prefix: &IpNet, low: u128) -> Option<(u128, u128)> {
        let ranges = match prefix {
            IpNet::V4(_) => &self.v4,
            IpNet::V6(_) => &self.v6,
        };
        let index = ranges.partition_point(|range| range.1 < low);
        ranges.get(index).copied()
    }
}

fn bounds(prefix: &IpNet) -> (u128, u128) {
    match prefix {
        IpNet::V4(prefix) => (
            u32::from(prefix.network()).into(),
            u32::from(prefix.broadcast()).into(),
        ),
        IpNet::V6(prefix) => (prefix.network().into(), prefix.broadcast().into()),
    }
}

fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(bits: u8, length: u8) -> IpNet {
        let address = std::net::Ipv4Addr::new(198, 51, 100, bits);
        IpNet::new(address.into(), 24 + length).unwrap().trunc()
    }

    proptest! {
        #[test]
        fn covering_and_overlapping_agree_with_trying_each_address(
            list in prop::collection::vec((any::<u8>(), 0u8..=8), 0..12),
            bits: u8,
            length in 0u8..=8,
        ) {
            let list: Vec<IpNet> = list.into_iter().map(|(bits, length)| prefix(bits, length)).collect();
            let asked = prefix(bits, length);
            let coverage = Coverage::of(&list);
            let hits = |address| list.iter().any(|prefix| prefix.contains(&std::net::IpAddr::V4(address)));
            let IpNet::V4(addresses) = asked else { unreachable!() };
            let (first, last) = (u32::from(addresses.network()), u32::from(addresses.broadcast()));
            prop_assert_eq!(coverage.covers(&asked), (first..=last).all(|bits| hits(bits.into())));
            prop_assert_eq!(coverage.overlaps(&asked), (first..=last).any(|bits| hits(bits.into())));
        }
    }

    #[test]
    fn families_do_not_cover_each_other() {
        let all: IpNet = "::/0".parse().unwrap();
        let coverage = Coverage::of([&all]);
        assert!(coverage.covers(&"2001:db8::/32".parse().unwrap()));
        assert!(!coverage.overlaps(&"198.51.100.0/24".parse().unwrap()));
        assert_eq!(coverage.families(), (false, true));
    }
}
