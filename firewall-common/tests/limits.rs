//! Limits let through what a token bucket does, whatever the rate, the clock and the crowd.

use firewall_common::limit::table::{Line, charge};
use firewall_common::limit::{Limit, LimitTable, Per, Taken, Terms, Unfit, Unit, ticks};
use firewall_common::packet::{Packet, flag, mark, protocol};
use firewall_common::{Address, layout};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const SOURCE: Per = Per::Sender { v4: 32, v6: 64 };

fn limit(rate: u64, seconds: u32, burst: u64, unit: Unit) -> Limit {
    let terms = Terms {
        rate,
        seconds,
        burst,
    };
    Limit::new(terms, unit, SOURCE).unwrap_or_else(|unfit| panic!("{terms:?} {unfit}"))
}

/// A bucket of its own, full at first.
struct Bucket {
    limit: Limit,
    full: u64,
}

impl Bucket {
    fn new(limit: Limit, now: u64) -> Self {
        Self {
            limit,
            full: ticks(now),
        }
    }

    fn takes(&mut self, amount: u32, now: u64) -> bool {
        match self
            .limit
            .take(self.full, ticks(now), self.limit.cost(amount))
        {
            Taken::Within(full) => self.full = full,
            Taken::Over => return false,
            Taken::OverAnew(full) => {
                self.full = full;
                return false;
            }
        }
        true
    }
}

fn from(source: u32) -> Packet {
    Packet {
        sender: Address::v4(source),
        source: Address::v4(source),
        destination: Address::v4(0xc633_6401),
        ..Packet::default()
    }
}

/// Lets a source send a packet at `now`; whether it passes.
fn sends(table: &LimitTable, limit: &Limit, source: u32, now: u64) -> bool {
    let key = limit.key(&from(source), layout::FIRST_POLICY_COUNTER, 7);
    !charge(&table.line(key), key, limit, ticks(now), limit.cost(1)).over
}

proptest! {
    #[test]
    fn a_sender_over_the_limit_passes_rate_times_time_plus_burst(
        rate in prop_oneof![1_u64..100, 1_u64..1_000_000, Just(100_000_000)],
        seconds in prop_oneof![Just(1_u32), Just(60), Just(3_600)],
        // A bucket of one unit is full now and then, between two packets, and what would flow in is lost.
        burst in prop_oneof![2_u64..10, 2_u64..100_000],
        start in any::<u64>(),
        excess in 2_u64..8,
    ) {
        let terms = Terms { rate, seconds, burst };
        let unfit = Limit::new(terms, Unit::Packets, SOURCE);
        prop_assume!(unfit != Err(Unfit::TooDeep));
        let mut bucket = Bucket::new(unfit.unwrap(), start);
        // Packets come `excess` times as fast as they may, after the burst at once.
        let mut passed = 0_u64;
        while passed <= burst && bucket.takes(1, start) {
            passed += 1;
        }
        prop_assert_eq!(passed, burst);
        let sent = 20_000;
        let period = u128::from(SECOND) * u128::from(seconds);
        let mut passed = 0;
        for number in 1..=sent {
            let after = u128::from(number) * period / u128::from(rate * excess);
            passed += u64::from(bucket.takes(1, start.wrapping_add(after as u64)));
        }
        let expected = sent / excess;
        // One may still be on its way; the clock's steps are a nanosecond.
        prop_assert!(passed.abs_diff(expected) <= 1 + expected / 100, "{passed} of {expected}");
    }

    #[test]
    fn a_sender_within_the_limit_loses_nothing(
        rate in 1_u64..1_000_000,
        burst in 1_u64..50,
        start in any::<u64>(),
        waits in proptest::collection::vec(0_u64..3_000, 1..400),
    ) {
        let limit = limit(rate, 1, burst, Unit::Packets);
        let mut bucket = Bucket::new(limit, start);
        // A reference that counts tokens in parts of 1/second; it never sends without one.
        let full = u128::from(burst) * u128::from(SECOND);
        let (mut tokens, mut now) = (full, start);
        for wait in waits {
            // Around the time that a unit takes.
            let wait = SECOND / rate * wait / 1_000;
            now = now.wrapping_add(wait);
            tokens = full.min(tokens + u128::from(wait) * u128::from(rate));
            if tokens >= u128::from(SECOND) {
                tokens -= u128::from(SECOND);
                prop_assert!(bucket.takes(1, now));
            }
        }
    }

    #[test]
    fn bytes_of_any_sizes_pass_at_their_rate(
        rate in prop_oneof![1_000_u64..1_000_000, 1_000_000_u64..12_500_000_000],
        // Two of the longest at least: one alone fills the bucket now and then before the next comes, and what would
        // flow in is lost.
        burst in 3_028_u64..2_000_000,
        sizes in proptest::collection::vec(60_u32..1_514, 50..200),
    ) {
        let mut bucket = Bucket::new(limit(rate, 1, burst, Unit::Bytes), 0);
        let (mut sent, mut passed, mut now) = (0_u128, 0_u128, 0_u128);
        for size in sizes.iter().cycle().take(sizes.len() * 60) {
            // Three times the rate.
            now += u128::from(*size) * 1_000_000 / 3;
            sent += u128::from(*size);
            let nanoseconds = now * u128::from(SECOND) / (u128::from(rate) * 1_000_000);
            if bucket.takes(*size, nanoseconds as u64) {
                passed += u128::from(*size);
            }
        }
        let expected = (u128::from(burst) + sent / 3).min(sent);
        prop_assert!(
            passed.abs_diff(expected) <= 1_514 + expected / 100,
            "{passed} of {expected} bytes"
        );
    }

    #[test]
    fn what_is_stored_is_read_back(
        rate in 1_u64..1_000_000,
        burst in 1_u64..1_000,
        v4 in 1_u8..=32,
        v6 in 1_u8..=128,
        number in 0_u32..3,
    ) {
        let terms = Terms { rate, seconds: 60, burst };
        let limits: Vec<Limit> = [
            (Unit::Packets, Per::Sender { v4, v6 }),
            (Unit::Connections, Per::Rule),
            (Unit::Requests, Per::Service),
        ]
        .into_iter()
        .map(|(unit, per)| Limit::new(terms, unit, per).unwrap())
        .collect();
        // Counters 32 to 36; the second, fourth and fifth have limits 1 to 3.
        let mut image = vec![0, 5, 1 << 16 | 2 << 48, 3];
        image.extend(limits.iter().flat_map(Limit::words));
        image.resize(24, 0);
        let counter = layout::FIRST_POLICY_COUNTER + [1, 3, 4][number as usize];
        let image = image.as_slice();
        prop_assert_eq!(Limit::of_rule(&image, 1, counter), Some(limits[number as usize]));
        for none in [0, 31, 32, 34, 37, u32::MAX] {
            prop_assert_eq!(Limit::of_rule(&image, 1, none), None);
        }
    }
}

#[test]
fn a_small_burst_at_a_high_rate_lets_the_rate_through() {
    // Every 2 microseconds one comes and every 10 one may: the coarse clock would show 4 ms at a time.
    let mut bucket = Bucket::new(limit(100_000, 1, 5, Unit::Packets), 0);
    let passed = (0..5_000_000_u64)
        .filter(|number| bucket.takes(1, number * 2_000))
        .count();
    assert_eq!(passed, 1_000_004);
}

#[test]
fn a_frame_larger_than_the_burst_waits_for_a_full_bucket_and_is_paid_for() {
    let mut bucket = Bucket::new(limit(1_000_000, 1, 3_000, Unit::Bytes), 0);
    // 64 kB at 1 MB/s: one every 64 ms, if they come all the time.
    let passed = (0..6_400_u64)
        .filter(|number| bucket.takes(64_000, number * 1_000_000))
        .count();
    assert!((95..=101).contains(&passed), "{passed} in 6.4 s");
    assert!(
        !bucket.takes(60, 6_340 * 1_000_000),
        "the debt is still open"
    );
}

#[test]
fn a_clock_that_goes_back_or_a_limit_that_grew_costs_no_more_than_a_whole_bucket() {
    let day = 86_400 * SECOND;
    let mut bucket = Bucket::new(limit(100, 1, 50, Unit::Packets), 2 * day);
    while bucket.takes(1, 2 * day) {}
    // A day back: one packet is lost, and then the bucket fills as ever.
    assert!(!bucket.takes(1, day));
    let passed = (1..=1_000)
        .filter(|number| bucket.takes(1, day + number * SECOND / 1_000))
        .count();
    assert!((99..=101).contains(&passed), "{passed} in a second");

    // What was owed to a limit of 5 an hour is no debt of hours to one of 100 a second.
    let mut slow = Bucket::new(limit(5, 3_600, 5, Unit::Packets), 0);
    while slow.takes(1, 0) {}
    let mut fast = Bucket {
        limit: limit(100, 1, 50, Unit::Packets),
        full: slow.full,
    };
    assert!(!fast.takes(1, 0));
    assert!(fast.takes(1, SECOND / 50));
}

#[test]
fn terms_that_cannot_be_kept_are_refused() {
    let of = |rate, seconds, burst, unit| {
        let terms = Terms {
            rate,
            seconds,
            burst,
        };
        Limit::new(terms, unit, SOURCE).err()
    };
    assert_eq!(of(0, 1, 1, Unit::Packets), Some(Unfit::NoRate));
    assert_eq!(of(1, 1, 0, Unit::Packets), Some(Unfit::NoBurst));
    assert_eq!(of(100_000_001, 1, 1, Unit::Packets), Some(Unfit::TooFast));
    assert_eq!(of(u64::MAX, 3_600, 1, Unit::Bytes), Some(Unfit::TooFast));
    assert_eq!(of(59, 60, 1, Unit::Bytes), Some(Unfit::TooSlow));
    assert_eq!(of(1, 3_600, 721, Unit::Requests), Some(Unfit::TooDeep));
    assert_eq!(of(1, 1, u64::MAX, Unit::Packets), Some(Unfit::TooDeep));
    for unit in [Unit::Packets, Unit::Connections, Unit::Requests] {
        assert_eq!(of(1, 3_600, 720, unit), None);
        assert_eq!(of(100_000_000, 1, 1, unit), None);
    }
    assert_eq!(of(50_000_000_000, 1, 1, Unit::Bytes), None);
}

#[test]
fn only_what_the_unit_is_about_counts() {
    let tcp = |flags| Packet {
        protocol: protocol::TCP,
        tcp_flags: flags,
        marks: mark::PORTS,
        ..from(1)
    };
    let udp = Packet {
        protocol: protocol::UDP,
        marks: mark::PORTS,
        ..from(1)
    };
    let amounts = |packet: &Packet, known| {
        [
            Unit::Packets,
            Unit::Bytes,
            Unit::Connections,
            Unit::Requests,
        ]
        .map(|unit| limit(1, 1, 1, unit).amount(packet, 3, 4_000, known))
    };
    assert_eq!(amounts(&tcp(flag::SYN), false), [3, 4_000, 1, 0]);
    assert_eq!(amounts(&tcp(flag::ACK), false), [3, 4_000, 0, 0]);
    assert_eq!(amounts(&tcp(flag::SYN | flag::ACK), true), [3, 4_000, 0, 0]);
    assert_eq!(amounts(&udp, false), [3, 4_000, 1, 0]);
    assert_eq!(amounts(&udp, true), [3, 4_000, 0, 0]);
    let request = Packet {
        marks: mark::PORTS | mark::REQUEST,
        ..udp
    };
    assert_eq!(amounts(&request, true), [3, 4_000, 0, 1]);
    let error = Packet {
        marks: mark::PORTS | mark::ICMP_ERROR,
        ..udp
    };
    assert_eq!(amounts(&error, false), [3, 4_000, 0, 0]);
}

#[test]
fn buckets_are_shared_by_whom_the_limit_says() {
    let key = |per, packet: &Packet, counter| {
        let terms = Terms {
            rate: 1,
            seconds: 1,
            burst: 1,
        };
        let limit = Limit::new(terms, Unit::Packets, per);
        limit.expect("plain terms").key(packet, counter, 99)
    };
    let v6 = |high, low| Packet {
        sender: Address::v6(high, low),
        ..from(1)
    };
    let prefixes = Per::Sender { v4: 24, v6: 48 };
    let (a, near, far) = (from(0xc000_0201), from(0xc000_02fe), from(0xc000_0301));
    let (six, neighbour, site) = (
        v6(0x2001_0db8_0001_0001, 1),
        v6(0x2001_0db8_0001_0001, 2),
        v6(0x2001_0db8_0001_0002, 1),
    );
    let abroad = v6(0x2001_0db8_0002_0001, 1);
    for (per, one, other, together) in [
        (Per::Rule, &a, &six, true),
        (SOURCE, &a, &a, true),
        (SOURCE, &a, &near, false),
        (SOURCE, &six, &neighbour, true),
        (SOURCE, &six, &site, false),
        (prefixes, &a, &near, true),
        (prefixes, &a, &far, false),
        (prefixes, &six, &site, true),
        (prefixes, &six, &abroad, false),
        (Per::Service, &a, &six, true),
    ] {
        assert_eq!(
            key(per, one, 40) == key(per, other, 40),
            together,
            "{per:?}"
        );
        assert_ne!(key(per, one, 40), key(per, one, 41), "two rules");
    }
    let served = Packet {
        protocol: protocol::TCP,
        destination_port: 443,
        marks: mark::PORTS,
        ..a
    };
    let other_port = Packet {
        destination_port: 80,
        ..served
    };
    assert_ne!(
        key(Per::Service, &served, 40),
        key(Per::Service, &other_port, 40)
    );
}

#[test]
fn a_spoofed_flood_takes_nobody_s_allowance_and_heavy_sources_stay_limited() {
    let table = LimitTable::default();
    // So slow a limit that a million forged sources all hold on to a place.
    let limit = limit(60, 60, 10, Unit::Packets);
    let (innocents, heavy) = (1..=1_000_u32, 5_000..=5_020_u32);
    let (mut innocent_lost, mut heavy_passed, mut heavy_sent) = (0, 0, 0);
    let mut forged = 0x4000_0000_u32;
    // 100 s, in steps of 10 ms: 10,000 forged packets a second, each from a new source.
    for step in 0..10_000_u64 {
        let now = step * SECOND / 100;
        for _ in 0..100 {
            forged += 1;
            sends(&table, &limit, forged, now);
        }
        for source in heavy.clone() {
            heavy_sent += 1;
            heavy_passed += u64::from(sends(&table, &limit, source, now));
        }
        // Each innocent sends every two seconds, where it may every second.
        for source in innocents
            .clone()
            .filter(|source| u64::from(*source) % 200 == step % 200)
        {
            innocent_lost += u64::from(!sends(&table, &limit, source, now));
        }
    }
    assert_eq!(innocent_lost, 0);
    let allowed = 21 * (100 + 10);
    assert_eq!(heavy_sent, 210_000);
    assert!(
        heavy_passed <= allowed * 102 / 100,
        "{heavy_passed} of {allowed} allowed"
    );
}

#[test]
fn a_full_bucket_gives_up_its_place_before_any_other_does() {
    let table = LimitTable::default();
    let limit = limit(1, 1, 3, Unit::Packets);
    // Sources on one line of the table.
    let key = |source| limit.key(&from(source), layout::FIRST_POLICY_COUNTER, 7);
    let line = |source: u32| std::ptr::from_ref(table.line(key(source)));
    let together: Vec<u32> = (0..)
        .filter(|source| line(*source) == line(0))
        .take(6)
        .collect();
    for source in &together[..4] {
        assert!(sends(&table, &limit, *source, 10 * SECOND));
    }
    for source in &together[..3] {
        assert!(sends(&table, &limit, *source, 10 * SECOND));
    }
    let known = |source: u32| {
        let line = table.line(key(source));
        (0..4).any(|way| line.key(way) == key(source))
    };
    // Half a second later none is full: the one that sent once is nearest to it.
    assert!(sends(&table, &limit, together[4], 10 * SECOND + SECOND / 2));
    let kept: Vec<bool> = together.iter().map(|source| known(*source)).collect();
    assert_eq!(kept, [true, true, true, false, true, false]);
    // Much later all are.
    assert!(sends(&table, &limit, together[5], 20 * SECOND));
    assert!(known(together[5]));
}

#[test]
fn many_threads_together_let_through_what_one_would() {
    let table = LimitTable::default();
    let limit = limit(50_000, 1, 5_000, Unit::Packets);
    let started = std::time::Instant::now();
    let run = std::time::Duration::from_millis(500);
    let send = || {
        let mut passed = 0_u64;
        while started.elapsed() < run {
            let now = started.elapsed().as_nanos() as u64;
            passed += u64::from(sends(&table, &limit, 9, now));
        }
        passed
    };
    let passed: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(send)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let allowed = 25_000 + 5_000;
    assert!(
        (allowed * 80 / 100..=allowed * 101 / 100).contains(&passed),
        "{passed} of {allowed} allowed"
    );
}
