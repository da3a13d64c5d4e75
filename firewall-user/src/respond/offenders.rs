//! Who misbehaved before: bans grow with each offence and shrink with clean time. Bounded; those whose
//! offences are longest ago give way.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BanDuration;

/// Offenders that are remembered.
const MOST: usize = 16_384;

/// One offender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offender {
    pub prefix: IpNet,
    /// Offences that are not forgotten, as of `since`.
    pub offences: u32,
    /// Since when it has been clean: the end of what answered its latest offence.
    pub since: Timestamp,
}

/// All that are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offenders {
    known: BTreeMap<IpNet, Offender>,
}

impl Offenders {
    /// Offences of a prefix that are not forgotten at `now`.
    pub fn offences(&self, prefix: &IpNet, now: Timestamp, forget_after: BanDuration) -> u32 {
        self.known
            .get(prefix)
            .map_or(0, |offender| offender.left(now, forget_after))
    }

    /// Notes an offence that is answered until `until`; gives how many it makes.
    pub fn note(
        &mut self,
        prefix: IpNet,
        now: Timestamp,
        until: Option<Timestamp>,
        forget_after: BanDuration,
    ) -> u32 {
        let offences = self.offences(&prefix, now, forget_after).saturating_add(1);
        if !self.known.contains_key(&prefix) {
            self.make_room(now, forget_after);
        }
        self.known.insert(
            prefix,
            Offender {
                prefix,
                offences,
                since: until.unwrap_or(Timestamp::MAX),
            },
        );
        offences
    }

    /// What answered its latest offence lasts until then now.
    pub fn extend(&mut self, prefix: &IpNet, until: Option<Timestamp>) {
        if let Some(offender) = self.known.get_mut(prefix) {
            offender.since = until.unwrap_or(Timestamp::MAX);
        }
    }

    /// Takes the latest offence back: it was somebody else's.
    pub fn forgive(&mut self, prefix: &IpNet) {
        if let Some(offender) = self.known.get_mut(prefix) {
            offender.offences = offender.offences.saturating_sub(1);
            if offender.offences == 0 {
                self.known.remove(prefix);
            }
        }
    }

    /// Those of `prefix`, itself among them.
    pub fn within(&self, prefix: &IpNet) -> impl Iterator<Item = &Offender> {
        // Prefixes are in the order of their addresses, and a wider one is before what it holds.
        let prefix = *prefix;
        self.known
            .range(prefix..)
            .take_while(move |(other, _)| prefix.contains(&other.addr()))
            .map(|(_, offender)| offender)
            .filter(move |offender| prefix.contains(&offender.prefix))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Offender> {
        self.known.values()
    }

    fn make_room(&mut self, now: Timestamp, forget_after: BanDuration) {
        if self.known.len() < MOST {
            return;
        }
        self.known
            .retain(|_, offender| offender.left(now, forget_after) > 0);
        while self.known.len() >= MOST {
            let oldest = self.known.values().min_by_key(|offender| offender.since);
            let Some(oldest) = oldest.map(|offender| offender.prefix) else {
                return;
            };
            self.known.remove(&oldest);
        }
    }
}

impl Offender {
    fn left(&self, now: Timestamp, forget_after: BanDuration) -> u32 {
        let Some(step) = forget_after.0.filter(|step| !step.is_zero()) else {
            return self.offences;
        };
        let clean = now.duration_since(self.since);
        if clean <= SignedDuration::ZERO {
            return self.offences;
        }
        let steps = clean.as_secs_f64() / step.as_secs_f64();
        self.offences.saturating_sub(steps as u32)
    }
}

impl FromIterator<Offender> for Offenders {
    fn from_iter<I: IntoIterator<Item = Offender>>(offenders: I) -> Self {
        let known = offenders
            .into_iter()
            .take(MOST)
            .map(|offender| (offender.prefix, offender))
            .collect();
        Self { known }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: BanDuration = BanDuration(Some(Duration::from_secs(3_600)));

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn offences_add_up_and_are_forgotten_one_after_the_other_in_clean_time() {
        let mut offenders = Offenders::default();
        for source in ["203.0.113.7/32", "2001:db8:7::/64"].map(net) {
            for offence in 1..=3 {
                let now = at(i64::from(offence) * 100);
                let until = at(i64::from(offence) * 100 + 50);
                assert_eq!(offenders.note(source, now, Some(until), HOUR), offence);
            }
            for (second, left) in [(300, 3), (3_949, 3), (3_950, 2), (7_550, 1), (90_000, 0)] {
                assert_eq!(
                    offenders.offences(&source, at(second), HOUR),
                    left,
                    "{second}"
                );
            }
            assert_eq!(offenders.note(source, at(7_550), Some(at(7_600)), HOUR), 2);
        }
    }

    #[test]
    fn time_under_a_ban_is_no_clean_time_and_never_is_never() {
        let mut offenders = Offenders::default();
        let source = net("203.0.113.7/32");
        offenders.note(source, at(0), Some(at(3_600)), HOUR);
        offenders.extend(&source, Some(at(36_000)));
        assert_eq!(offenders.offences(&source, at(36_000), HOUR), 1);
        assert_eq!(offenders.offences(&source, at(39_600), HOUR), 0);
        let never = BanDuration(None);
        assert_eq!(offenders.offences(&source, at(1_000_000_000), never), 1);
        offenders.note(source, at(0), None, HOUR);
        assert!(offenders.offences(&source, at(1_000_000_000), HOUR) > 0);
    }

    #[test]
    fn an_offence_that_was_somebody_elses_is_taken_back() {
        let mut offenders = Offenders::default();
        let whole = net("2001:db8:7:7::/64");
        for other in [
            "2001:db8:7:6::9/128",
            "2001:db8:7:7::9/128",
            "2001:db8:7:8::/64",
        ] {
            offenders.note(net(other), at(0), Some(at(600)), HOUR);
        }
        for _ in 0..2 {
            offenders.note(whole, at(0), Some(at(600)), HOUR);
        }
        let within: Vec<IpNet> = offenders.within(&whole).map(|one| one.prefix).collect();
        assert_eq!(within, [whole, net("2001:db8:7:7::9/128")]);
        offenders.forgive(&whole);
        assert_eq!(offenders.offences(&whole, at(600), HOUR), 1);
        offenders.forgive(&whole);
        offenders.forgive(&whole);
        assert_eq!(offenders.within(&whole).count(), 1);
    }

    #[test]
    fn memory_stays_bounded_and_the_latest_are_kept() {
        let mut offenders = Offenders::default();
        let source = |number: u32| -> IpNet {
            IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(
                number,
            )))
        };
        let last = MOST as u32 + 100;
        for number in 0..last {
            offenders.note(
                source(number),
                at(number.into()),
                Some(at(number.into())),
                BanDuration(None),
            );
        }
        assert_eq!(offenders.iter().count(), MOST);
        let now = at(last.into());
        assert_eq!(
            offenders.offences(&source(last - 1), now, BanDuration(None)),
            1
        );
        assert_eq!(offenders.offences(&source(0), now, BanDuration(None)), 0);
    }
}
