//! All that is known and was done about a source.

use std::collections::HashMap;
use std::net::IpAddr;

use firewall_common::Reason;
use ipnet::IpNet;
use jiff::Timestamp;

use super::Keeper;
use crate::daemon::documents::{OutcomeDocument, SpanDocument, WhyReport};
use crate::detect::{Alert, Incident, Sighting, Subject, Time};

/// Alerts that are told of.
const MOST_ALERTS: usize = 50;

impl Keeper {
    /// `palisade why`.
    pub fn why(&self, address: IpAddr) -> WhyReport {
        let address = address.to_canonical();
        // An address always has a source.
        let source = Subject::source(address)
            .prefix()
            .unwrap_or_else(|| IpNet::from(address));
        let dealings = self
            .warden
            .dealings(address, source, &self.settings.respond);
        let alerts: Vec<Alert> = self
            .alerts
            .all()
            .into_iter()
            .filter(|alert| touches(&alert.subject, &source))
            .take(MOST_ALERTS)
            .collect();
        let part_of = |incident: &Incident| {
            alerts
                .iter()
                .any(|alert| alert.incident == Some(incident.id))
                || incident
                    .subjects
                    .iter()
                    .any(|known| touches(&known.subject, &source))
        };
        let incidents = self.incidents.all().into_iter().filter(part_of).collect();
        let mut seen = self.events.latest(usize::MAX);
        seen.retain(|sighting| {
            source.contains(&sighting.sender()) || source.contains(&sighting.destination())
        });
        // What the link needs tells nothing of the source.
        let telling = seen.iter().find(|sighting| sighting.reason != Reason::Link);
        let latest = telling.map(|sighting| self.name_event(sighting));
        WhyReport {
            address,
            source,
            counts: self.rates.get(&source.addr()),
            connections: self
                .regulars
                .known(&source)
                .map(|(first, latest)| SpanDocument {
                    first: moment(first),
                    latest: moment(latest),
                }),
            sets: self
                .policy
                .sets_covering(address)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            protected_by: dealings.protected_by,
            outcomes: self.outcomes(&seen),
            latest,
            bans: dealings.bans,
            past_bans: dealings.past,
            offences: dealings.offences,
            alerts,
            incidents,
        }
    }

    /// What packets met, the most frequent first.
    fn outcomes(&self, seen: &[Sighting]) -> Vec<OutcomeDocument> {
        let mut sums: HashMap<_, u64> = HashMap::new();
        for sighting in seen {
            let end = (
                sighting.direction as u32,
                sighting.verdict as u32,
                sighting.reason as u32,
                sighting.rule,
            );
            *sums.entry(end).or_default() += sighting.packets;
        }
        let mut outcomes: Vec<OutcomeDocument> = Vec::new();
        for sighting in seen {
            let end = (
                sighting.direction as u32,
                sighting.verdict as u32,
                sighting.reason as u32,
                sighting.rule,
            );
            if let Some(packets) = sums.remove(&end) {
                outcomes.push(OutcomeDocument {
                    direction: sighting.direction.name().to_owned(),
                    verdict: sighting.verdict.name().to_owned(),
                    reason: sighting.reason.name().to_owned(),
                    rule: self.datapath.rule_name(sighting.rule),
                    packets,
                });
            }
        }
        outcomes.sort_by_key(|outcome| std::cmp::Reverse(outcome.packets));
        outcomes
    }
}

/// Whether a subject is the source, covers it or is a part of it.
fn touches(subject: &Subject, source: &IpNet) -> bool {
    subject
        .prefix()
        .is_some_and(|prefix| prefix.contains(source) || source.contains(&prefix))
}

fn moment(time: Time) -> Timestamp {
    Timestamp::from_nanosecond(time.into()).unwrap_or_default()
}
