//! Sums over a sliding window in constant space, for rates.

use super::Time;

/// The sums of `N` counts over about the last span: what came in the running span, plus the share
/// of the span before that still lies within reach (a sliding-window counter). Exact for steady
/// traffic, and never less than what the running span brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<const N: usize> {
    index: u64,
    current: [f64; N],
    earlier: [f64; N],
    since: Time,
}

impl<const N: usize> Default for Window<N> {
    fn default() -> Self {
        Self {
            index: 0,
            current: [0.0; N],
            earlier: [0.0; N],
            since: 0,
        }
    }
}

impl<const N: usize> Window<N> {
    /// Adds what came between `from` and `now`. When that is longer than the span, only the span's
    /// share of it counts.
    pub fn add(&mut self, from: Time, now: Time, span: Time, counts: [f64; N]) {
        self.advance(now, span);
        let idle = self
            .current
            .iter()
            .chain(&self.earlier)
            .all(|sum| *sum == 0.0);
        if idle {
            self.since = from;
        }
        let length = now.saturating_sub(from);
        let share = if length > span {
            span as f64 / length as f64
        } else {
            1.0
        };
        for (sum, count) in self.current.iter_mut().zip(counts) {
            *sum += count * share;
        }
    }

    /// The sums over the span before `now`.
    pub fn sums(&self, now: Time, span: Time) -> [f64; N] {
        let mut at_now = *self;
        at_now.advance(now, span);
        let reach = 1.0 - (now % span) as f64 / span as f64;
        let mut sums = at_now.current;
        for (sum, earlier) in sums.iter_mut().zip(at_now.earlier) {
            *sum += earlier * reach;
        }
        sums
    }

    /// When what the window holds began, at most one span ago.
    pub fn since(&self, now: Time, span: Time) -> Time {
        self.since.max(now.saturating_sub(span))
    }

    /// Moves on to the span of `now`; a time before the running span changes nothing.
    fn advance(&mut self, now: Time, span: Time) {
        let index = now / span;
        if index <= self.index {
            return;
        }
        self.earlier = if index == self.index + 1 {
            self.current
        } else {
            [0.0; N]
        };
        self.current = [0.0; N];
        self.index = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = 1_000_000_000;
    const SPAN: Time = 2 * SECOND;

    #[test]
    fn a_steady_rate_is_told_exactly_once_the_window_is_full() {
        let mut window = Window::<1>::default();
        for tick in 1..=40 {
            let now = tick * SECOND / 4;
            window.add(now - SECOND / 4, now, SPAN, [25.0]);
            if now > 2 * SPAN {
                let [sum] = window.sums(now, SPAN);
                assert!((sum - 200.0).abs() <= 25.0, "{sum} at {now}");
            }
        }
    }

    #[test]
    fn a_burst_counts_at_once_and_is_gone_after_two_spans() {
        let mut window = Window::<1>::default();
        window.add(0, SECOND, SPAN, [500.0]);
        assert_eq!(window.sums(SECOND, SPAN), [500.0]);
        assert_eq!(window.sums(SECOND + 2 * SPAN, SPAN), [0.0]);
    }

    #[test]
    fn counts_of_a_long_gap_are_spread_over_it() {
        let mut window = Window::<1>::default();
        window.add(0, 3_600 * SECOND, SPAN, [3_600_000.0]);
        assert_eq!(window.sums(3_600 * SECOND, SPAN), [2_000.0]);
    }

    #[test]
    fn it_began_when_it_was_last_empty() {
        let mut window = Window::<1>::default();
        window.add(9 * SECOND, 10 * SECOND, SPAN, [1.0]);
        window.add(10 * SECOND, 11 * SECOND, SPAN, [1.0]);
        assert_eq!(window.since(11 * SECOND, SPAN), 9 * SECOND);
        assert_eq!(window.since(20 * SECOND, SPAN), 18 * SECOND);
    }

    #[test]
    fn a_time_before_the_running_span_does_no_harm() {
        let mut window = Window::<1>::default();
        window.add(9 * SECOND, 10 * SECOND, SPAN, [7.0]);
        window.add(3 * SECOND, 4 * SECOND, SPAN, [1.0]);
        assert_eq!(window.sums(10 * SECOND, SPAN), [8.0]);
    }
}
