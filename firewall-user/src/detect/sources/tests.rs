//! Who is remembered, for how long, and what is told of each.

use std::net::Ipv4Addr;

use super::*;

const SECOND: Time = 1_000_000_000;
const SPANS: Spans = Spans {
    rate: 2 * SECOND,
    scan: 60 * SECOND,
    sweep: 15 * SECOND,
    contacts: 60 * SECOND,
};

/// Milliseconds of the clock of entries.
fn clock(time: Time) -> u64 {
    time / 1_000_000
}

fn sample(last: u32, now: Time, counters: SourceCounters) -> SourceSample {
    SourceSample {
        source: Ipv4Addr::from(0xc633_6400 + last).into(),
        counters,
        entered: counters.first_seen.into(),
        last_seen: now,
    }
}

fn counters(first_seen: u32, packets: u64, syns: u32) -> SourceCounters {
    SourceCounters {
        packets,
        syns,
        first_seen,
        ..SourceCounters::default()
    }
}

fn deltas(sources: &mut Sources, second: Time, samples: &[SourceSample]) -> Vec<Delta> {
    let interval = Interval {
        from: (second - 1) * SECOND,
        now: second * SECOND,
    };
    let mut shown = Vec::new();
    sources.update(interval, clock(interval.now), samples, |_, _, delta| {
        shown.push(*delta);
    });
    shown
}

#[test]
fn a_source_that_was_there_before_is_judged_by_what_it_adds() {
    let mut sources = Sources::new(SPANS, 16);
    sources.rebase(
        SECOND,
        clock(SECOND),
        &[sample(1, SECOND, counters(5, 1_000, 10))],
    );
    let shown = deltas(
        &mut sources,
        2,
        &[sample(1, 2 * SECOND, counters(5, 1_007, 12))],
    );
    assert_eq!((shown[0].packets, shown[0].syns), (7, 2));
}

#[test]
fn a_new_source_counts_from_zero() {
    let mut sources = Sources::new(SPANS, 16);
    sources.rebase(
        SECOND,
        clock(SECOND),
        &[sample(1, SECOND, counters(5, 10, 0))],
    );
    let shown = deltas(
        &mut sources,
        2,
        &[sample(2, 2 * SECOND, counters(1_900, 40, 3))],
    );
    assert_eq!((shown[0].packets, shown[0].syns), (40, 3));
}

#[test]
fn an_old_source_that_was_never_looked_at_starts_without_history() {
    let mut sources = Sources::new(SPANS, 16);
    sources.rebase(
        SECOND,
        clock(SECOND),
        &[sample(1, SECOND, counters(500, 10, 0))],
    );
    let old = counters(100, 1_000_000, 900_000);
    assert!(deltas(&mut sources, 2, &[sample(2, 2 * SECOND, old)]).is_empty());
}

#[test]
fn a_source_that_came_back_into_the_table_counts_from_zero() {
    let mut sources = Sources::new(SPANS, 16);
    sources.rebase(
        SECOND,
        clock(SECOND),
        &[sample(1, SECOND, counters(5, 1_000, 900))],
    );
    let back = sample(1, 2 * SECOND, counters(1_800, 10, 9));
    let shown = deltas(&mut sources, 2, &[back]);
    assert_eq!((shown[0].packets, shown[0].syns), (10, 9));
}

#[test]
fn a_source_that_lost_part_of_its_counts_is_not_taken_for_new() {
    let mut sources = Sources::new(SPANS, 16);
    let other = sample(2, SECOND, counters(900, 1, 0));
    sources.rebase(
        SECOND,
        clock(SECOND),
        &[sample(1, SECOND, counters(5, 9_000, 0)), other],
    );
    let less = sample(1, 2 * SECOND, counters(700, 5_000, 0));
    assert!(deltas(&mut sources, 2, &[less]).is_empty());
    let more = sample(1, 3 * SECOND, counters(700, 5_003, 0));
    assert_eq!(deltas(&mut sources, 3, &[more])[0].packets, 3);
}

#[test]
fn memory_stays_within_the_cap_and_idle_sources_are_forgotten() {
    let mut sources = Sources::new(SPANS, 100);
    for second in 2..40_u64 {
        let samples: Vec<_> = (0..80)
            .map(|n| {
                let n = second as u32 * 80 + n;
                sample(n, second * SECOND, counters(second as u32 * 1_000, 1, 1))
            })
            .collect();
        deltas(&mut sources, second, &samples);
        assert!(sources.len() <= 100);
    }
    assert!(sources.len() > 50);
    deltas(&mut sources, 200, &[]);
    assert_eq!(sources.len(), 0);
}

#[test]
fn a_flood_of_strangers_does_not_displace_a_source_that_tries_around() {
    let mut sources = Sources::new(SPANS, 100);
    let scanner = |second: Time| {
        let mut counters = counters(1_500, second, second as u32);
        counters.ports = 1 << (second % 64);
        sample(9_999, second * SECOND, counters)
    };
    let mut seen = 0;
    for second in 2..40_u64 {
        let mut samples: Vec<_> = (0..200)
            .map(|n| {
                let n = second as u32 * 200 + n;
                sample(n, second * SECOND, counters(second as u32 * 1_000, 1, 1))
            })
            .collect();
        // It pauses for longer than a rate window between two tries.
        if second % 5 == 2 {
            samples.insert(0, scanner(second));
        }
        let scanning = IpAddr::from(Ipv4Addr::from(0xc633_6400_u32 + 9_999));
        let interval = Interval {
            from: (second - 1) * SECOND,
            now: second * SECOND,
        };
        sources.update(
            interval,
            clock(interval.now),
            &samples,
            |source, track, _| {
                if source == scanning {
                    let reach = track
                        .contacts
                        .reach(interval.now, SPANS.contacts, SPANS.contacts);
                    seen = seen.max(reach.ports.estimate as u32);
                }
            },
        );
    }
    assert!(seen >= 7, "{seen} ports remembered of 8");
}

#[test]
fn a_few_are_looked_at_in_each_tick_and_none_stays_long_after_its_window() {
    const TICK: Time = SECOND / 4;
    let mut sources = Sources::new(SPANS, 10_000);
    let begin = 100 * SECOND;
    let all: Vec<_> = (0..6_000)
        .map(|n| sample(n, begin, counters(99_000, 1, 1)))
        .collect();
    let tick = |sources: &mut Sources, now: Time, samples: &[SourceSample]| {
        let interval = Interval {
            from: now - TICK,
            now,
        };
        sources.update(interval, clock(now), samples, |_, _, _| {});
        sources.len()
    };
    let mut before = tick(&mut sources, begin, &all);
    assert_eq!(before, 6_000);
    let (longest, pass) = (60 * SECOND, 60 * SECOND / 8);
    let mut now = begin;
    while before > 0 {
        now += TICK;
        let left = tick(&mut sources, now, &[]);
        assert!(now > begin + longest || left == 6_000, "forgotten early");
        // A pass takes 30 ticks.
        assert!(before - left <= 201, "{} at once", before - left);
        assert!(now <= begin + longest + 2 * pass, "{left} stay");
        before = left;
    }
}

#[test]
fn at_the_cap_there_is_room_for_those_that_come_and_no_more_is_forgotten() {
    let mut sources = Sources::new(SPANS, 1_000);
    let crowd = |second: Time, first: u32, many: u32| -> Vec<_> {
        (first..first + many)
            .map(|n| sample(n, second * SECOND, counters(second as u32 * 1_000, 1, 1)))
            .collect()
    };
    deltas(&mut sources, 2, &crowd(2, 0, 1_000));
    for second in 10..20 {
        let first = 1_000 + second as u32 * 10;
        let shown = deltas(&mut sources, second, &crowd(second, first, 10));
        assert_eq!(shown.len(), 10);
        assert_eq!(sources.len(), 1_000);
    }
}
