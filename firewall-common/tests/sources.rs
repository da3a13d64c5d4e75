//! What the source table promises: heavy sources are kept and counted exactly, whoever floods it.

use std::collections::HashMap;

use firewall_common::Verdict;
use firewall_common::layout::{SOURCE_WAYS, SourceBody, SourceCounters, SourceFronts, SourceHeads};
use firewall_common::packet::{Kind, Packet, mark, protocol};
use firewall_common::sources::{
    self, CREDIT, Front, IDLE_MILLISECONDS, MAX_WEIGHT, Observation, Recorded, bucket_index, hash,
    mark_of,
};
use proptest::prelude::*;

const MILLISECOND: u64 = 1_000_000;
const BYTES: u32 = 100;
/// A silence is noticed so much too late, at most.
const STEP: u64 = 9_000 * MILLISECOND;

fn packet(key: u64) -> Observation {
    Observation {
        key,
        packets: 1,
        bytes: BYTES,
        ..Observation::default()
    }
}

/// A bucket as the kernel program sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    fronts: SourceFronts,
    heads: SourceHeads,
    body: SourceBody,
}

fn record(bucket: &mut Bucket, observation: &Observation, now: u64) -> Recorded {
    let Bucket {
        fronts,
        heads,
        body,
    } = bucket;
    sources::record(fronts, heads, body, observation, now)
}

fn counters(bucket: &Bucket, key: u64) -> Option<SourceCounters> {
    let way = bucket.heads.keys.iter().position(|known| *known == key)?;
    Some(sources::counters(
        &bucket.heads,
        &bucket.body,
        way,
        MILLISECOND,
    ))
}

/// A stream of words that look random (Marsaglia 2003, "Xorshift RNGs").
fn words(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_sends_more_than_four_times_the_rest_of_its_bucket_is_kept(
        others in prop::collection::vec(2_u64..40, 0..200),
        seed in 1_u64..,
    ) {
        let mut stream = others.clone();
        stream.resize((CREDIT as usize + 1) * others.len() + 1, 1);
        for (at, word) in (1..stream.len()).rev().zip(words(seed)) {
            stream.swap(at, word as usize % (at + 1));
        }
        let mut bucket = Bucket::default();
        for key in stream {
            record(&mut bucket, &packet(key), MILLISECOND);
        }
        prop_assert!(counters(&bucket, 1).is_some());
    }

    #[test]
    fn a_kept_source_is_counted_exactly_since_it_entered(
        stream in prop::collection::vec(1_u64..9, 0..400),
    ) {
        let mut bucket = Bucket::default();
        let mut since_entry: HashMap<u64, u64> = HashMap::new();
        for key in stream {
            let before = bucket.heads.keys;
            let recorded = record(&mut bucket, &packet(key), MILLISECOND);
            since_entry.retain(|known, _| bucket.heads.keys.contains(known));
            if recorded == Recorded::TurnedAway {
                prop_assert_eq!(before, bucket.heads.keys);
                prop_assert!(!bucket.heads.keys.contains(&key));
            } else {
                *since_entry.entry(key).or_default() += 1;
            }
        }
        for (key, packets) in since_entry {
            let counted = counters(&bucket, key).unwrap();
            prop_assert_eq!((counted.packets, counted.bytes), (packets, packets * u64::from(BYTES)));
        }
    }
}

/// The order that is worst for a source: whenever it has worn a place down, a stranger takes it.
#[test]
fn whoever_sends_enough_is_kept_although_others_take_each_place_that_it_wears_down() {
    for others in [4, 5, 8, 30, 100] {
        let mut bucket = Bucket::default();
        let (mut strangers, mut sent) = (0, 0);
        while sent <= others * CREDIT {
            let is_worn = bucket
                .fronts
                .words
                .iter()
                .any(|word| Front(*word).weight() == 0);
            if is_worn && strangers < others {
                strangers += 1;
                record(
                    &mut bucket,
                    &packet(1_000 + u64::from(strangers)),
                    MILLISECOND,
                );
            } else {
                sent += 1;
                record(&mut bucket, &packet(1), MILLISECOND);
            }
        }
        assert!(counters(&bucket, 1).is_some(), "beside {others} others");
    }
}

#[test]
fn a_flood_of_ten_million_spoofed_sources_hides_none_of_the_hundred_heaviest() {
    let (spoofed, heavy) = if cfg!(miri) {
        (2_000, 10)
    } else {
        (10_000_000, 100)
    };
    let buckets = if cfg!(miri) { 64_u32 } else { 1 << 15 };
    let mut table = vec![Bucket::default(); buckets as usize];
    let mut random = words(0x1234_5678_9abc_def1);
    let mut sent: HashMap<u64, u64> = HashMap::new();
    for flood in random.by_ref().take(spoofed).collect::<Vec<_>>() {
        // Spoofed sources send once each; heavy ones send as in a Zipf distribution, the least of
        // them some two hundred packets.
        let mut send = |key: u64| {
            let bucket = &mut table[bucket_index(key, 7, buckets) as usize];
            record(bucket, &packet(key), MILLISECOND);
        };
        send(flood | 1 << 63);
        for rank in 1..=heavy {
            if flood % (rank * 500) == rank {
                *sent.entry(rank).or_default() += 1;
                send(rank);
            }
        }
    }
    let kept = |key: u64| {
        let counted = counters(&table[bucket_index(key, 7, buckets) as usize], key);
        counted.is_some_and(|counted| counted.packets * 100 >= sent[&key] * 90)
    };
    let found = sent.keys().filter(|key| kept(**key)).count();
    assert!(found * 100 >= sent.len() * 99, "{found} of {}", sent.len());
}

#[test]
fn a_full_bucket_turns_strangers_away_until_the_lightest_is_worn_down() {
    let mut bucket = Bucket::default();
    for key in 1..=SOURCE_WAYS as u64 {
        for _ in 0..=key {
            assert_eq!(
                record(&mut bucket, &packet(key), MILLISECOND),
                Recorded::Kept
            );
        }
    }
    assert_eq!(
        record(&mut bucket, &packet(90), MILLISECOND),
        Recorded::TurnedAway
    );
    assert_eq!(
        record(&mut bucket, &packet(91), MILLISECOND),
        Recorded::TurnedAway
    );
    assert_eq!(
        record(&mut bucket, &packet(92), MILLISECOND),
        Recorded::Displaced
    );
    assert!(counters(&bucket, 1).is_none());
    assert_eq!(counters(&bucket, 92).unwrap().packets, 1);
}

#[test]
fn an_answered_contact_alone_displaces_nobody_and_wears_nobody_down() {
    let mut bucket = Bucket::default();
    for key in 1..=SOURCE_WAYS as u64 {
        record(&mut bucket, &packet(key), MILLISECOND);
    }
    let refusal = Observation {
        packets: 0,
        failed: 1,
        ..packet(99)
    };
    for _ in 0..10 {
        assert_eq!(
            record(&mut bucket, &refusal, MILLISECOND),
            Recorded::TurnedAway
        );
    }
    let weights = bucket.fronts.words.map(|word| Front(word).weight());
    assert_eq!(weights, [1; SOURCE_WAYS]);
}

/// Of each place, whether a reader has been told of it.
fn told(bucket: &Bucket) -> [bool; SOURCE_WAYS] {
    bucket.fronts.words.map(|word| word & Front::TOLD != 0)
}

#[test]
fn a_packet_of_a_source_takes_back_that_it_was_told_of_whatever_its_weight_and_those_of_strangers_do_not()
 {
    for packets in [1, 2, 100, MAX_WEIGHT - 1, MAX_WEIGHT, MAX_WEIGHT + 3] {
        let mut bucket = Bucket::default();
        for key in 1..=SOURCE_WAYS as u64 {
            for _ in 0..packets {
                record(&mut bucket, &packet(key), MILLISECOND);
            }
        }
        assert_eq!(told(&bucket), [false; SOURCE_WAYS]);
        for word in &mut bucket.fronts.words {
            assert!(*word & Front::TAKEN != 0);
            *word |= Front::TOLD;
        }
        let weights = bucket.fronts.words.map(|word| Front(word).weight());
        assert_eq!(weights, [packets.min(MAX_WEIGHT); SOURCE_WAYS]);
        let recorded = record(&mut bucket, &packet(90), MILLISECOND);
        assert_eq!(recorded, Recorded::TurnedAway);
        assert_eq!(told(&bucket), [true; SOURCE_WAYS]);
        // The place that the stranger wore down is as heavy again as it was.
        record(&mut bucket, &packet(1), MILLISECOND);
        assert_eq!(told(&bucket), [false, true, true, true]);
        let weights = bucket.fronts.words.map(|word| Front(word).weight());
        assert_eq!(weights, [packets.min(MAX_WEIGHT); SOURCE_WAYS]);
    }
}

#[test]
fn nobody_was_told_of_who_displaces_another() {
    let mut bucket = Bucket::default();
    for key in 1..=SOURCE_WAYS as u64 {
        record(&mut bucket, &packet(key), MILLISECOND);
    }
    for word in &mut bucket.fronts.words {
        *word |= Front::TOLD;
    }
    while record(&mut bucket, &packet(90), MILLISECOND) != Recorded::Displaced {}
    let displaced = bucket.heads.keys.map(|key| key == 90);
    assert_eq!(told(&bucket), displaced.map(|displaced| !displaced));
}

#[test]
fn a_silent_source_gives_up_its_place_whatever_its_weight() {
    let mut bucket = Bucket::default();
    for key in 1..=SOURCE_WAYS as u64 {
        for _ in 0..1_000 {
            record(&mut bucket, &packet(key), MILLISECOND);
        }
    }
    let limit = u64::from(IDLE_MILLISECONDS) * MILLISECOND;
    let still_there = record(&mut bucket, &packet(90), limit);
    assert_eq!(still_there, Recorded::TurnedAway);
    let gone = record(&mut bucket, &packet(91), limit + STEP);
    assert_eq!(gone, Recorded::Displaced);
    assert_eq!(counters(&bucket, 91).unwrap().packets, 1);
}

#[test]
fn silence_is_measured_across_the_wrap_of_the_time_last_seen() {
    // 6 bits of steps of 2^33 nanoseconds are nine minutes.
    let wrap = 1_u64 << (6 + 33);
    let mut bucket = Bucket::default();
    for key in 1..=SOURCE_WAYS as u64 {
        for _ in 0..10 {
            record(&mut bucket, &packet(key), wrap - 5 * MILLISECOND);
        }
    }
    let soon = record(&mut bucket, &packet(90), wrap + 5 * MILLISECOND);
    assert_eq!(soon, Recorded::TurnedAway);
    let limit = u64::from(IDLE_MILLISECONDS) * MILLISECOND;
    let late = record(&mut bucket, &packet(91), wrap + limit + STEP);
    assert_eq!(late, Recorded::Displaced);
}

#[test]
fn sources_with_the_same_mark_in_a_bucket_are_told_apart() {
    let mark = |key| mark_of(hash(key, 0));
    let alike: Vec<u64> = (1..).filter(|key| mark(*key) == mark(1)).take(3).collect();
    let mut bucket = Bucket::default();
    for round in 1..=5 {
        for key in &alike {
            assert_eq!(
                record(&mut bucket, &packet(*key), MILLISECOND),
                Recorded::Kept
            );
            assert_eq!(counters(&bucket, *key).unwrap().packets, round);
        }
    }
    assert_eq!(bucket.heads.keys.iter().filter(|key| **key != 0).count(), 3);
}

#[test]
fn a_datagram_opens_something_unless_it_comes_from_a_service_that_answers() {
    let contact = |source_port, destination_port| {
        let packet = Packet {
            kind: Kind::Ip,
            protocol: protocol::UDP,
            source_port,
            destination_port,
            marks: mark::PORTS,
            ..Packet::default()
        };
        sources::observe(&packet, Verdict::Drop, false).contact
    };
    // Clients, and peers of each other.
    for (from, to) in [(40_000, 53), (123, 123), (40_000, 5_000), (11_211, 53)] {
        assert!(contact(from, to), "{from} to {to}");
    }
    // DNS, SNMP, SSDP, memcached.
    for from in [53, 161, 1_900, 11_211] {
        assert!(!contact(from, 40_000), "{from}");
    }
}
