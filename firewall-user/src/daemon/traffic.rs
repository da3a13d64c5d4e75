//! The latest half hour of traffic by verdict, so that whoever opens the page sees what led to what is now.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firewall_common::layout::Counter;
use firewall_common::{Direction, Verdict};
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use super::documents::{RateDocument, Traffic, TrafficPoint, VerdictRates};
use super::fence::Fence;
use super::keeper::Keeper;

/// Between two points.
const INTERVAL: Duration = Duration::from_secs(2);
/// Points that are kept: half an hour.
const KEPT: usize = 900;

/// What was judged, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    inbound: [Count; 2],
    outbound: [Count; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    packets: u64,
    bytes: u64,
}

impl Counts {
    pub fn add(&mut self, direction: Direction, verdict: Verdict, counter: Counter) {
        let by_verdict = match direction {
            Direction::Inbound => &mut self.inbound,
            Direction::Outbound => &mut self.outbound,
        };
        let count = match verdict {
            Verdict::Pass => &mut by_verdict[0],
            Verdict::Drop => &mut by_verdict[1],
        };
        count.packets = count.packets.saturating_add(counter.packets);
        count.bytes = count.bytes.saturating_add(counter.bytes);
    }

    fn since(&self, before: &Self, seconds: f64, time: f64) -> TrafficPoint {
        let rates = |now: &[Count; 2], then: &[Count; 2]| VerdictRates {
            pass: rate(now[0], then[0], seconds),
            drop: rate(now[1], then[1], seconds),
        };
        TrafficPoint {
            time,
            inbound: rates(&self.inbound, &before.inbound),
            outbound: rates(&self.outbound, &before.outbound),
        }
    }
}

/// Counters start from zero when the pins are made anew: then nothing is better than a huge number.
fn rate(now: Count, then: Count, seconds: f64) -> RateDocument {
    let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
    RateDocument {
        packets_per_second: per_second(now.packets, then.packets),
        bytes_per_second: per_second(now.bytes, then.bytes),
    }
}

/// The points that are kept.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: Arc<Mutex<VecDeque<TrafficPoint>>>,
}

impl History {
    /// Those after `since`, in Unix seconds.
    pub fn after(&self, since: f64) -> Traffic {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        Traffic {
            interval_seconds: INTERVAL.as_secs_f64(),
            points: points
                .iter()
                .filter(|point| point.time > since)
                .copied()
                .collect(),
        }
    }

    fn push(&self, point: TrafficPoint) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if points.len() >= KEPT {
            points.pop_front();
        }
        points.push_back(point);
    }

    /// Adds a point each interval, until the fence thread ends.
    pub async fn keep(self, fence: Fence) {
        let mut intervals = interval(INTERVAL);
        intervals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<(Instant, Counts)> = None;
        loop {
            intervals.tick().await;
            let counts = match fence.call(|keeper: &mut Keeper| keeper.traffic()).await {
                Ok(Ok(counts)) => counts,
                Ok(Err(error)) => {
                    warn!("traffic cannot be read for the page: {error:#}");
                    continue;
                }
                Err(_) => return,
            };
            let now = Instant::now();
            if let Some((then, earlier)) = before {
                let seconds = now.duration_since(then).as_secs_f64();
                let time = Timestamp::now().as_millisecond() as f64 / 1e3;
                self.push(counts.since(&earlier, seconds, time));
            }
            before = Some((now, counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: packets * 100,
        }
    }

    #[test]
    fn a_point_is_what_came_in_its_interval_and_never_below_zero() {
        let mut before = Counts::default();
        before.add(Direction::Inbound, Verdict::Pass, counter(10));
        before.add(Direction::Outbound, Verdict::Drop, counter(50));
        let mut now = Counts::default();
        now.add(Direction::Inbound, Verdict::Pass, counter(20));
        now.add(Direction::Inbound, Verdict::Pass, counter(10));
        now.add(Direction::Outbound, Verdict::Drop, counter(1));
        let point = now.since(&before, 2.0, 7.0);
        assert_eq!(point.inbound.pass.packets_per_second, 10.0);
        assert_eq!(point.inbound.pass.bytes_per_second, 1000.0);
        assert_eq!(point.inbound.drop, RateDocument::default());
        assert_eq!(point.outbound.drop, RateDocument::default());
    }

    #[test]
    fn only_the_latest_points_are_kept_and_only_newer_ones_are_given() {
        let history = History::default();
        for second in 0..KEPT + 10 {
            history.push(TrafficPoint {
                time: second as f64,
                ..TrafficPoint::default()
            });
        }
        assert_eq!(history.after(0.0).points.len(), KEPT);
        let newer = history.after((KEPT + 7) as f64).points;
        assert_eq!(newer.len(), 2);
        assert!(newer[0].time < newer[1].time);
    }
}
