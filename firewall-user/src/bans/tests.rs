use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use firewall_common::bans::{EntryV4, FOREVER, HEADER_SEED, MAX_PREFIXES, covering};

use super::*;

/// Some numbers that are the same each time (xorshift; Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn address(&mut self, v4: bool) -> IpAddr {
        if v4 {
            Ipv4Addr::from_bits((self.next() >> 11) as u32).into()
        } else {
            let bits = u128::from(self.next()) << 64 | u128::from(self.next());
            Ipv6Addr::from_bits(bits).into()
        }
    }
}

fn set() -> BanSet {
    BanSet::private().unwrap()
}

fn banned_by(set: &mut BanSet, address: IpAddr, now: u64) -> Option<IpNet> {
    let key = covering(crate::engine::address(address), now, set)?;
    prefix_of(&key)
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Every word of the filter but the seed.
fn filter_words(set: &BanSet) -> impl Iterator<Item = u64> {
    (0..firewall_common::bans::FILTER_WORDS)
        .filter(|word| *word != HEADER_SEED)
        .map(|word| set.memory.filter(word))
}

#[test]
fn every_length_of_both_families_bans_its_addresses_and_no_others() {
    let mut numbers = Numbers(7);
    for v4 in [true, false] {
        for length in 1..=if v4 { 32 } else { 128_u8 } {
            let mut set = set();
            let address = numbers.address(v4);
            let banned = IpNet::new(address, length).unwrap().trunc();
            set.insert(banned, u64::MAX).unwrap();
            assert_eq!(banned_by(&mut set, address, 0), Some(banned));
            assert_eq!(banned_by(&mut set, banned.network(), 0), Some(banned));
            assert_eq!(banned_by(&mut set, banned.broadcast(), 0), Some(banned));
            // The neighbour differs in the prefix's last bit only.
            let neighbour = match address {
                IpAddr::V4(v4) => {
                    IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ 1 << (32 - length)))
                }
                IpAddr::V6(v6) => {
                    IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ 1 << (128 - length)))
                }
            };
            assert_eq!(banned_by(&mut set, neighbour, 0), None, "{banned}");
            assert!(set.remove(banned));
            assert_eq!(banned_by(&mut set, address, 0), None, "{banned}");
            assert!(filter_words(&set).all(|word| word == 0), "{banned}");
        }
    }
}

#[test]
fn the_longest_prefix_in_force_answers_and_ends_by_itself() {
    let mut set = set();
    let second = 1_000_000_000;
    set.insert(prefix("203.0.0.0/8"), u64::MAX).unwrap();
    set.insert(prefix("203.0.113.0/24"), 10 * second).unwrap();
    set.insert(prefix("203.0.113.7/32"), 5 * second).unwrap();
    let at = |set: &mut BanSet, now: u64| {
        banned_by(set, "203.0.113.7".parse().unwrap(), now * second).unwrap()
    };
    assert_eq!(at(&mut set, 4), prefix("203.0.113.7/32"));
    assert_eq!(at(&mut set, 6), prefix("203.0.113.0/24"));
    assert_eq!(at(&mut set, 11), prefix("203.0.0.0/8"));
    set.insert(prefix("203.0.113.7/32"), 20 * second).unwrap();
    assert_eq!(at(&mut set, 11), prefix("203.0.113.7/32"));
    assert_eq!(set.len(), 3);
}

#[test]
fn a_limit_is_found_as_one_and_a_ban_around_it_is_stronger() {
    for (narrow, wide, address) in [
        ("203.0.113.7/32", "203.0.113.0/24", "203.0.113.7"),
        ("2001:db8:7:7::/64", "2001:db8:7::/48", "2001:db8:7:7::1"),
    ] {
        let mut set = set();
        let address = crate::engine::address(address.parse().unwrap());
        let second = 1_000_000_000;
        set.limit(prefix(narrow), 10 * second).unwrap();
        let key = covering(address, second, &mut set).unwrap();
        assert_eq!((prefix_of(&key), key.limited), (Some(prefix(narrow)), 1));
        assert_eq!(covering(address, 11 * second, &mut set), None, "it is over");
        set.insert(prefix(wide), u64::MAX).unwrap();
        let key = covering(address, second, &mut set).unwrap();
        assert_eq!((prefix_of(&key), key.limited), (Some(prefix(wide)), 0));
        set.limit(prefix(wide), u64::MAX).unwrap();
        let key = covering(address, second, &mut set).unwrap();
        assert_eq!((prefix_of(&key), key.limited), (Some(prefix(narrow)), 1));
        let kept: Vec<_> = set.iter().map(|(key, end)| (key.limited, end)).collect();
        assert!(kept.contains(&(1, u64::MAX)), "{kept:?}");
        set.insert(prefix(narrow), u64::MAX).unwrap();
        let key = covering(address, second, &mut set).unwrap();
        assert_eq!((prefix_of(&key), key.limited), (Some(prefix(narrow)), 0));
        assert_eq!(set.len(), 2, "each prefix has one entry");
    }
}

#[test]
fn a_ban_of_everything_is_refused() {
    for everything in ["0.0.0.0/0", "::/0"] {
        assert_eq!(
            set().insert(prefix(everything), 1),
            Err(Refused::Everything)
        );
    }
}

/// Prefixes that overlap a lot, put in and taken out at random, beside a plain list.
#[test]
fn overlapping_bans_come_and_go_as_in_a_plain_list() {
    let mut numbers = Numbers(11);
    for v4 in [true, false] {
        let mut set = set();
        let mut list: Vec<IpNet> = Vec::new();
        for _ in 0..4_000 {
            // Few addresses, so that they share /16s, /24s and /64s.
            let near = numbers.next() & 0x0003_0003_0107_0303;
            let address: IpAddr = if v4 {
                Ipv4Addr::from_bits(0xcb00_0000 | near as u32 & 0x0107_0303).into()
            } else {
                let bits = (0x2001_0db8_0000_0000_u64 ^ near) as u128;
                Ipv6Addr::from_bits(bits << 64 | u128::from(numbers.next() & 7)).into()
            };
            let lengths: &[u8] = if v4 {
                &[4, 9, 15, 16, 17, 22, 24, 25, 31, 32]
            } else {
                &[3, 16, 19, 20, 30, 32, 33, 47, 48, 56, 63, 64, 65, 127, 128]
            };
            let length = lengths[numbers.next() as usize % lengths.len()];
            let prefix = IpNet::new(address, length).unwrap().trunc();
            if numbers.next().is_multiple_of(3) {
                let known = list.iter().position(|other| *other == prefix);
                assert_eq!(set.remove(prefix), known.is_some());
                if let Some(at) = known {
                    list.swap_remove(at);
                }
            } else if !list.contains(&prefix) {
                set.insert(prefix, u64::MAX).unwrap();
                list.push(prefix);
            }
            let expected = list
                .iter()
                .filter(|prefix| prefix.contains(&address))
                .max_by_key(|prefix| prefix.prefix_len());
            assert_eq!(banned_by(&mut set, address, 0), expected.copied());
            assert_eq!(set.len(), list.len() as u64);
        }
        for prefix in list {
            assert!(set.remove(prefix));
        }
        assert!(filter_words(&set).all(|word| word == 0));
    }
}

#[test]
fn a_million_bans_of_each_family_fit_and_each_is_found_and_the_next_is_refused() {
    let mut set = set();
    for v4 in [true, false] {
        let mut numbers = Numbers(13);
        let mut next = || {
            let address = numbers.address(v4);
            let length = match (v4, numbers.next() % 4) {
                (true, 0..=2) => 32,
                (true, _) => 24,
                (false, 0) => 128,
                (false, 1) => 48,
                (false, _) => 64,
            };
            IpNet::new(address, length).unwrap().trunc()
        };
        let mut last = next();
        let before = set.len();
        while set.len() - before < u64::from(MAX_PREFIXES) {
            last = next();
            set.insert(last, u64::MAX).unwrap();
        }
        assert!(set.remove(last));
        set.insert(last, 5).unwrap();
        let more = if v4 { "10.1.2.3/32" } else { "2001:db8::7/128" };
        assert_eq!(set.insert(prefix(more), 1), Err(Refused::Full));
    }
    let all: Vec<IpNet> = set.iter().filter_map(|(key, _)| prefix_of(&key)).collect();
    assert_eq!(all.len() as u64, set.len());
    for prefix in all.into_iter().step_by(16) {
        let found = banned_by(&mut set, prefix.network(), 0).unwrap();
        assert!(found.prefix_len() >= prefix.prefix_len(), "{prefix}");
    }
}

#[test]
fn a_set_taken_over_after_a_crash_has_every_ban_once_and_no_bit_too_many() {
    let mut set = set();
    let mut numbers = Numbers(17);
    let prefixes: Vec<IpNet> = (0..2_000)
        .map(|index| {
            let v4 = index % 2 == 0;
            let length = [21, 24, 32][index % 3] + if v4 { 0 } else { 28 };
            IpNet::new(numbers.address(v4), length).unwrap().trunc()
        })
        .collect();
    for prefix in &prefixes {
        set.insert(*prefix, u64::MAX).unwrap();
    }
    let bits: Vec<u64> = filter_words(&set).collect();
    // A writer died while it moved a ban, and after it set the bits of one that is not there.
    let (_, second) = EntryV4::key(0xcb00_7107, 32).buckets(set.memory.seed());
    set.insert(prefix("203.0.113.7/32"), u64::MAX).unwrap();
    let copy = EntryV4::key(0xcb00_7107, 32).until(9).0;
    let free = set
        .memory
        .words_v4(second)
        .iter()
        .find(|word| word.load(Ordering::Relaxed) == 0);
    free.unwrap().store(copy, Ordering::Relaxed);
    set.memory.set_filter(firewall_common::bans::V4_FINE + 5, 1);

    let mut set = BanSet::open(set.memory, || unreachable!("the seed stays"));
    assert_eq!(set.len(), 2_001);
    assert!(set.remove(prefix("203.0.113.7/32")));
    assert_eq!(banned_by(&mut set, "203.0.113.7".parse().unwrap(), 0), None);
    assert!(filter_words(&set).eq(bits));
    for prefix in prefixes {
        assert!(set.remove(prefix), "{prefix}");
    }
}

/// What the packet path sees of memory that another thread writes.
struct Reader<'m>(&'m Memory);

impl Bans for Reader<'_> {
    type Bucket = BucketCopy;

    fn ban_filter(&self, word: u32) -> u64 {
        self.0.filter(word)
    }

    fn bans_v4(&self, bucket: u32) -> Option<BucketCopy> {
        self.0.bucket_v4(bucket)
    }

    fn bans_v6(&self, bucket: u32) -> Option<BucketCopy> {
        self.0.bucket_v6(bucket)
    }

    fn forget_bits(&mut self, bits: u64) -> u64 {
        bits
    }
}

#[test]
fn no_ban_is_missed_while_others_push_it_from_bucket_to_bucket() {
    let mut set = set();
    let address: IpAddr = "203.0.113.7".parse().unwrap();
    set.insert(address.into(), u64::MAX).unwrap();
    let memory = &set.memory;
    let key = ban_key(address.into());
    let entry = EntryV4::key(key.address.as_v4(), 32);
    let (first, second) = entry.buckets(memory.seed());
    let in_second = || {
        let words = memory.words_v4(second).iter();
        words
            .into_iter()
            .find(|word| EntryV4(word.load(Ordering::Relaxed)).is_of(entry))
    };
    let over = AtomicBool::new(false);
    // Odd while the ban is put back by means that the table itself never uses.
    let round = AtomicU64::new(0);
    let mut moved = 0;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0_u64;
            while !over.load(Ordering::Acquire) {
                let before = round.load(Ordering::Acquire);
                let found = covering(crate::engine::address(address), 0, &mut Reader(memory));
                let after = round.load(Ordering::Acquire);
                assert!(found.is_some() || before != after || before % 2 == 1);
                looks += 1;
            }
            looks
        });
        for _ in 0..20_000 {
            // As when others want its place.
            assert!(exact::make_room(memory, exact::Family::V4, first, 1).is_some());
            moved += u32::from(in_second().is_some());
            round.fetch_add(1, Ordering::AcqRel);
            if let Some(copy) = in_second() {
                copy.store(0, Ordering::Release);
                exact::insert(memory, &key, FOREVER).unwrap();
            }
            round.fetch_add(1, Ordering::AcqRel);
        }
        over.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 1_000);
    });
    assert_eq!(moved, 20_000);
}
