//! Which addresses a list of prefixes covers, as merged ranges: asking costs a binary search, so
//! that lists of a hundred thousand prefixes can be compared.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Inclusive ranges, sorted and merged, for each family.
#[derive(Clone, Debug)]
pub(super) struct Coverage {
    v4: Arc<[(u128, u128)]>,
    v6: Arc<[(u128, u128)]>,
    /// How many prefixes lie within another of the list, or stand there twice, and one of them with the
    /// one that it lies within.
    pub(super) needless: usize,
    pub(super) example: Option<(IpNet, IpNet)>,
}

impl Coverage {
    pub fn of<'p>(prefixes: impl IntoIterator<Item = &'p IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(_) => v4.push(bounds(prefix)),
                IpNet::V6(_) => v6.push(bounds(prefix)),
            }
        }
        let (v4, v6) = (merged(v4), merged(v6));
        Self {
            needless: v4.needless + v6.needless,
            example: v4
                .example
                .map(|(inner, outer)| (prefix_v4(inner), prefix_v4(outer)))
                .or_else(|| {
                    v6.example
                        .map(|(inner, outer)| (prefix_v6(inner), prefix_v6(outer)))
                }),
            v4: v4.ranges.into(),
            v6: v6.ranges.into(),
        }
    }

    /// The addresses of one family.
    pub fn ranges(&self, v6: bool) -> Arc<[(u128, u128)]> {
        if v6 { self.v6.clone() } else { self.v4.clone() }
    }

    /// Whether every address of a family is covered.
    pub fn is_whole(&self, v6: bool) -> bool {
        let last = if v6 { u128::MAX } else { u32::MAX.into() };
        self.ranges(v6).first() == Some(&(0, last))
    }

    /// Whether every address of `other` is covered.
    pub fn covers_all(&self, other: &Self) -> bool {
        let family = |mine: &[(u128, u128)], theirs: &[(u128, u128)]| {
            theirs.iter().all(|(low, high)| {
                let index = mine.partition_point(|range| range.1 < *low);
                mine.get(index)
                    .is_some_and(|range| range.0 <= *low && *high <= range.1)
            })
        };
        family(&self.v4, &other.v4) && family(&self.v6, &other.v6)
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

fn prefix_v4((low, high): (u128, u128)) -> IpNet {
    let length = ((high - low) as u32).leading_zeros() as u8;
    // The bounds are those of a prefix.
    Ipv4Net::new_assert((low as u32).into(), length).into()
}

fn prefix_v6((low, high): (u128, u128)) -> IpNet {
    let length = (high - low).leading_zeros() as u8;
    Ipv6Net::new_assert(low.into(), length).into()
}

#[derive(Default)]
struct Merged {
    ranges: Vec<(u128, u128)>,
    needless: usize,
    example: Option<((u128, u128), (u128, u128))>,
}

fn merged(mut bounds: Vec<(u128, u128)>) -> Merged {
    // The wider of two that begin together comes first.
    bounds.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
    let mut merged = Merged::default();
    // Prefixes are apart or within each other: only the latest that is within none can hold the next.
    let mut outer: Option<(u128, u128)> = None;
    for (low, high) in bounds {
        match outer {
            Some(wide) if high <= wide.1 => {
                merged.needless += 1;
                merged.example.get_or_insert(((low, high), wide));
                continue;
            }
            _ => outer = Some((low, high)),
        }
        match merged.ranges.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.ranges.push((low, high)),
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
            prop_assert_eq!(coverage.covers_all(&Coverage::of([&asked])), (first..=last).all(|bits| hits(bits.into())));
            prop_assert_eq!(coverage.overlaps(&asked), (first..=last).any(|bits| hits(bits.into())));
        }
    }

    #[test]
    fn prefixes_within_others_and_twice_are_counted() {
        let list: Vec<IpNet> = [
            "198.51.100.0/24",
            "198.51.100.7/32",
            "203.0.113.1/32",
            "203.0.113.1/32",
            "203.0.113.2/32",
            "::/0",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let coverage = Coverage::of(&list);
        assert_eq!(coverage.needless, 2);
        assert_eq!(coverage.example, Some((list[1], list[0])));
        assert!(coverage.is_whole(true) && !coverage.is_whole(false));
        assert!(coverage.covers_all(&Coverage::of(&list[1..])));
        assert!(!Coverage::of(&list[1..]).covers_all(&coverage));
    }

    #[test]
    fn families_do_not_cover_each_other() {
        let all: IpNet = "::/0".parse().unwrap();
        let coverage = Coverage::of([&all]);
        assert!(coverage.is_whole(true));
        assert!(!coverage.overlaps(&"198.51.100.0/24".parse().unwrap()));
        assert_eq!(coverage.families(), (false, true));
    }
}
