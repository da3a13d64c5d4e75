//! What a replay found, as people's scripts read it.

use firewall_common::layout::Counter;
use firewall_common::{Reason, Verdict};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::capture::LinkType;
use super::outcome::Outcome;
use crate::detect::signature::{EVIDENCE, Limits, Watch, evidence};
use crate::detect::{Alert, AlertChange, AlertState, Incident, Incidents, Sighting, Time};
use crate::respond::COLLATERAL;

/// The document of `palisade replay --json`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Packets judged.
    pub packets: u64,
    /// When the first of them was captured, in Unix seconds; null without any.
    pub started: Option<f64>,
    /// Time between the first and the last of them, in seconds; jumps back in time left out.
    pub seconds: f64,
    pub verdicts: Tally<2>,
    pub reasons: Tally<{ Reason::ALL.len() }>,
    /// The policy's rules in its order, then built-in ones that were hit.
    pub rules: Rules,
    /// Packets that the kernel's test run cannot take, judged by the host engine instead.
    pub host_judged: u64,
    /// Packets that the two engines judged differently; only where both judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatches: Option<u64>,
    /// Packets of a link type that is not Ethernet and cannot be made to look like it: not judged.
    pub skipped: u64,
    /// The first such link type.
    #[serde(skip)]
    pub skipped_link: Option<LinkType>,
    pub alerts: Vec<Alert>,
    /// The alerts by what belongs together.
    pub incidents: Vec<Incident>,
    pub engine: EngineKind,
    /// Why the capture was not read to its end, if it was not.
    pub damage: Option<String>,
    /// The first of the mismatches, in words.
    #[serde(skip)]
    pub differences: Vec<String>,
    #[serde(skip)]
    grouping: Incidents,
    /// Looks for the signatures of floods.
    #[serde(skip)]
    watch: Watch,
}

/// Which engine judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The loaded kernel programs, through BPF_PROG_TEST_RUN
    Kernel,
    /// The same decision in user space; needs no privilege
    Host,
}

impl EngineKind {
    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Host => "host",
        }
    }
}

/// Packets by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<const N: usize> {
    names: [&'static str; N],
    counts: [u64; N],
}

/// Hits by rule name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<(String, Counter)>);

impl Tally<2> {
    /// Of verdicts.
    pub fn verdicts() -> Self {
        Self {
            names: [Verdict::Pass.name(), Verdict::Drop.name()],
            counts: [0; 2],
        }
    }
}

impl Tally<{ Reason::ALL.len() }> {
    /// Of reasons.
    pub fn reasons() -> Self {
        Self {
            names: Reason::ALL.map(Reason::name),
            counts: [0; Reason::ALL.len()],
        }
    }
}

impl<const N: usize> Tally<N> {
    /// The names with their packets.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.into_iter().zip(self.counts)
    }

    /// Packets under a name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, count)| count)
    }
}

impl Rules {
    /// Hits of a rule.
    pub fn get(&self, name: &str) -> Option<Counter> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, counter)| *counter)
    }
}

impl Report {
    /// An empty report.
    pub fn new(engine: EngineKind) -> Self {
        Self {
            packets: 0,
            started: None,
            seconds: 0.0,
            verdicts: Tally::verdicts(),
            reasons: Tally::reasons(),
            rules: Rules::default(),
            host_judged: 0,
            mismatches: None,
            skipped: 0,
            skipped_link: None,
            alerts: Vec::new(),
            incidents: Vec::new(),
            grouping: Incidents::default(),
            watch: Watch::new(Limits {
                collateral: COLLATERAL,
            }),
            engine,
            damage: None,
            differences: Vec::new(),
        }
    }

    /// Counts a judged packet.
    #[inline]
    pub fn count(&mut self, outcome: Outcome) {
        self.packets += 1;
        self.verdicts.counts[outcome.verdict as usize] += 1;
        self.reasons.counts[outcome.reason as usize] += 1;
    }

    /// Takes in the packets of a tick, before what the detector makes of it.
    pub fn see(&mut self, now: Time, sightings: &[Sighting]) {
        self.grouping.see(now, sightings);
        self.watch.take(now, sightings);
    }

    /// Takes in what a tick of the detector brought: each alert and incident as it was last.
    pub fn note(&mut self, now: Time, changes: Vec<AlertChange>) {
        for change in changes {
            let mut alert = match change {
                AlertChange::Fired(alert)
                | AlertChange::Updated(alert)
                | AlertChange::Resolved(alert) => alert,
            };
            let incident = self.grouping.take_in(now, &alert);
            alert.incident = Some(incident);
            match alert.state {
                AlertState::Firing => self.watch.fired(&alert),
                AlertState::Resolved => self.watch.resolved(alert.id),
            }
            if let Some(incident) = self.grouping.get(incident).cloned() {
                alert.take_evidence(&incident);
                match self
                    .incidents
                    .iter_mut()
                    .rfind(|known| known.id == incident.id)
                {
                    Some(known) => *known = incident,
                    None => self.incidents.push(incident),
                }
            }
            match self.alerts.iter_mut().rfind(|known| known.id == alert.id) {
                Some(known) => {
                    if let Some(told) = known.evidence.remove(EVIDENCE) {
                        alert.evidence.insert(EVIDENCE.to_owned(), told);
                    }
                    *known = alert;
                }
                None => self.alerts.push(alert),
            }
        }
        self.grouping.settle(now);
        self.add_signatures(now);
    }
}

impl Report {
    /// Adds the signatures that were found by now to their alerts.
    fn add_signatures(&mut self, now: Time) {
        for (id, finding) in self.watch.look(now) {
            let alert = self.alerts.iter_mut().rfind(|alert| alert.id == id);
            if let Some(alert) = alert
                && let Some(told) = evidence(alert, &finding)
            {
                alert.evidence.insert(EVIDENCE.to_owned(), told);
            }
        }
    }
}

impl<const N: usize> Serialize for Tally<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Serialize for Rules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Hits {
            packets: u64,
            bytes: u64,
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, counter) in &self.0 {
            let hits = Hits {
                packets: counter.packets,
                bytes: counter.bytes,
            };
            map.serialize_entry(name, &hits)?;
        }
        map.end()
    }
}
