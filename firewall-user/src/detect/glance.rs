//! Whether it is worth while to look at once: a flood must not wait for the next round.
//!
//! A round reads everything; a glance reads a few counters of the whole host, which costs next to
//! nothing, and only decides how soon the next round comes. It raises no alert.

use firewall_common::layout::{TRAFFIC_KINDS, TrafficKind};

use super::{HostRates, Time};

/// A kind of packets stands out at so many times its usual rate, if the rate would make an alert at all.
const TIMES: f64 = 3.0;
/// Over how long the usual rate is averaged, in seconds.
const USUAL: f64 = 10.0;
const SECOND: f64 = 1e9;

/// The counts of inbound packets by kind, and what is usual.
#[derive(Clone, Debug, Default)]
pub struct Glance {
    latest: Option<(Time, [u64; TRAFFIC_KINDS])>,
    usual: [f64; TRAFFIC_KINDS],
}

impl Glance {
    /// Takes the counts of inbound packets by kind; whether one rises as in a flood.
    pub fn look(&mut self, now: Time, kinds: &[u64; TRAFFIC_KINDS], rates: &HostRates) -> bool {
        let Some((before, earlier)) = self.latest.replace((now, *kinds)) else {
            return false;
        };
        let seconds = now.saturating_sub(before) as f64 / SECOND;
        if seconds <= 0.0 {
            return false;
        }
        let share = 1.0 - (-seconds / USUAL).exp();
        let mut rises = false;
        for kind in 0..TRAFFIC_KINDS {
            // Counters that went back say nothing this time.
            let rate = kinds[kind].saturating_sub(earlier[kind]) as f64 / seconds;
            let usual = &mut self.usual[kind];
            if let Some(alarming) = alarming(kind, rates) {
                rises |= rate >= alarming && rate >= *usual * TIMES;
            }
            *usual += (rate - *usual) * share;
        }
        rises
    }
}

/// The rate of a kind that an alert needs at least; `None` for a kind that no flood is counted by.
fn alarming(kind: usize, rates: &HostRates) -> Option<f64> {
    const KINDS: [TrafficKind; 8] = [
        TrafficKind::Syn,
        TrafficKind::Udp,
        TrafficKind::Echo,
        TrafficKind::IcmpError,
        TrafficKind::IcmpOther,
        TrafficKind::AmplifierReply,
        TrafficKind::SynAck,
        TrafficKind::Malformed,
    ];
    let kind = KINDS.into_iter().find(|known| *known as usize == kind)?;
    Some(match kind {
        TrafficKind::Syn => rates.syns,
        TrafficKind::Udp => rates.udp,
        TrafficKind::AmplifierReply => rates.amplifier_replies,
        TrafficKind::SynAck => rates.syn_acks,
        TrafficKind::Malformed => rates.malformed,
        _ => rates.icmp,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Time = 50_000_000;

    /// Glances at so many SYNs a second; how many of them say that they rise.
    fn glances(glance: &mut Glance, state: &mut (Time, u64), number: u64, rate: u64) -> usize {
        let mut rises = 0;
        for _ in 0..number {
            state.0 += TICK;
            state.1 += rate / 20;
            let mut kinds = [0; TRAFFIC_KINDS];
            kinds[TrafficKind::Syn as usize] = state.1;
            rises += usize::from(glance.look(state.0, &kinds, &HostRates::default()));
        }
        rises
    }

    #[test]
    fn a_flood_stands_out_with_the_first_glance_at_it() {
        let (mut glance, mut state) = (Glance::default(), (0, 0));
        assert_eq!(glances(&mut glance, &mut state, 100, 100), 0);
        assert_eq!(glances(&mut glance, &mut state, 20, 5_000), 20);
    }

    #[test]
    fn what_is_usual_does_not_stand_out_however_much_it_is() {
        let (mut glance, mut state) = (Glance::default(), (0, 0));
        glances(&mut glance, &mut state, 1_000, 4_000);
        assert_eq!(glances(&mut glance, &mut state, 100, 5_000), 0);
        // And a flood that goes on becomes usual to the glance: the rounds have it by then.
        glances(&mut glance, &mut state, 400, 50_000);
        assert_eq!(glances(&mut glance, &mut state, 10, 50_000), 0);
    }

    #[test]
    fn what_would_make_no_alert_is_not_looked_at() {
        let (mut glance, mut state) = (Glance::default(), (0, 0));
        glances(&mut glance, &mut state, 10, 0);
        assert_eq!(glances(&mut glance, &mut state, 10, 180), 0);
    }

    #[test]
    fn clocks_and_counters_that_go_back_do_no_harm() {
        let mut glance = Glance::default();
        let rates = HostRates::default();
        assert!(!glance.look(5 * TICK, &[1_000_000; TRAFFIC_KINDS], &rates));
        assert!(!glance.look(4 * TICK, &[2_000_000; TRAFFIC_KINDS], &rates));
        assert!(!glance.look(6 * TICK, &[0; TRAFFIC_KINDS], &rates));
    }
}
