//! What can be asked of the fence.

use firewall_common::layout::{
    CONNECTION_ASSURED, CONNECTION_CLOSING, Connection, FlowKey, NO_RULE,
};
use firewall_common::packet::Kind;
use jiff::Timestamp;
use std::collections::HashMap;
use std::path::PathBuf;

use super::Keeper;
use crate::daemon::documents::{
    AlertReport, ConnectionDocument, ConnectionQuery, ConnectionReport, EventDocument,
    HealthDocument, InterfaceStatus, MapDocument, PolicyDocument, PolicyStatus, RuleDocument,
    Rules, SliceDocument, SourceOrder, Status, TotalDocument, WaitingStatus,
};
use crate::daemon::failure::Failure;
use crate::daemon::ledger::Count;
use crate::datapath::{AttachMode, MapUse, RuleHits, clock};
use crate::detect::Sighting;
use crate::engine;
use crate::export::{self, Reading};
use crate::policy::{Mode, Rule};
use crate::respond::Origin;

/// Sources in the metrics.
const TOP_SOURCES: usize = 20;

impl Keeper {
    /// `palisade status`.
    pub fn status(&self) -> Result<Status, Failure> {
        let health = self.datapath.health()?;
        let totals = self.datapath.totals()?;
        let (maps, sources_tracked) = self.map_use()?;
        Ok(Status {
            version: export::VERSION.to_owned(),
            revision: export::REVISION.to_owned(),
            pid: std::process::id(),
            started: self.started,
            settings: self.settings.file.clone(),
            policy: PolicyStatus {
                file: self.policy_file(),
                source: self.source.clone(),
                valid: self.policy_error.is_none(),
                error: self.policy_error.clone(),
                generation: self.datapath.generation(),
                applied: self.applied,
                mode: mode_of(self.policy.defaults.mode == Mode::Observe).to_owned(),
                rules: self.policy.rules.len(),
                sets: self.policy.sets.len(),
                observed: self.observed_rules(),
                trial: self.trial_status(),
                given_back: self.given_back_status(),
                cuts: self.cuts.clone(),
            },
            interfaces: self
                .datapath
                .attachments()
                .iter()
                .map(|attachment| InterfaceStatus {
                    name: attachment.interface.clone(),
                    index: attachment.index,
                    mode: mode_name(attachment.mode).to_owned(),
                    fallback: attachment.fallback.clone(),
                    egress: attachment.egress.to_owned(),
                    taken_over: attachment.taken_over,
                })
                .collect(),
            waiting: self
                .datapath
                .waiting()
                .iter()
                .map(|waiting| WaitingStatus {
                    name: waiting.interface.clone(),
                    why: waiting.why.clone(),
                })
                .collect(),
            totals: totals
                .into_iter()
                .filter(|total| total.counter.packets > 0)
                .map(|total| TotalDocument {
                    interface: total.interface,
                    direction: total.direction.name().to_owned(),
                    verdict: total.verdict.name().to_owned(),
                    reason: total.reason.name().to_owned(),
                    packets: total.counter.packets,
                    bytes: total.counter.bytes,
                })
                .collect(),
            bans: self.warden.counts(),
            signatures: self.signature_documents(),
            alerts_active: self.alerts.active().len(),
            incidents_active: self.incidents.active().count(),
            sources_tracked,
            maps: maps
                .into_iter()
                .map(|map| MapDocument {
                    map: map.map.to_owned(),
                    entries: map.entries,
                    capacity: map.capacity,
                })
                .collect(),
            health: HealthDocument {
                events_throttled: health.thinning.withheld,
                events_lost: health.events_lost,
                connections_refused: health.connections_refused,
                sources_contended: health.sources_contended,
            },
            syn_cookies: self.cookies()?,
            confinement: self.confinement.clone(),
            state: self.store.health().report(),
        })
    }

    /// All that is known about an alert or, by its number, an incident.
    pub fn alert_report(&self, id: u64) -> Result<AlertReport, Failure> {
        let alert = self.alerts.get(id).cloned();
        let number = alert.as_ref().map_or(Some(id), |alert| alert.incident);
        let incident = number
            .and_then(|number| self.incidents.get(number))
            .cloned();
        if alert.is_none() && incident.is_none() {
            return Err(Failure::NotFound(format!(
                "there is no alert or incident {id}, or it is forgotten: `palisade alerts` and `palisade incidents` list them"
            )));
        }
        let slice = number
            .and_then(|number| self.chronicle.slice(number))
            .map(|path| SliceDocument {
                bytes: std::fs::metadata(&path).map_or(0, |about| about.len()),
                path,
            });
        Ok(AlertReport {
            alert,
            incident,
            slice,
        })
    }

    /// What the connection table holds.
    pub fn connection(&self, query: &ConnectionQuery) -> Result<ConnectionReport, Failure> {
        let key = FlowKey {
            local: engine::address(query.local),
            remote: engine::address(query.remote),
            local_port: query.local_port,
            remote_port: query.remote_port,
            protocol: query.protocol,
            reserved: [0; 3],
        };
        let now = clock::monotonic();
        let found = self.datapath.connection(&key)?;
        let document = |found: Connection| ConnectionDocument {
            idle_seconds: now.saturating_sub(found.last_seen) as f64 / 1e9,
            answered: found.flags & CONNECTION_ASSURED != 0,
            closing: found.flags & CONNECTION_CLOSING != 0,
            rule: match found.rule {
                NO_RULE => None,
                counter => self.datapath.rule_name(counter),
            },
        };
        Ok(ConnectionReport {
            connection: found.map(document),
        })
    }

    /// Names of the rules that are only observed.
    fn observed_rules(&self) -> Vec<String> {
        let rules = self.policy.rules.iter();
        rules
            .filter(|rule| rule.mode == Mode::Observe)
            .map(|rule| rule.name.clone())
            .collect()
    }

    /// The daemon's own policy file: whoever asks may stand in another folder than the daemon does.
    fn policy_file(&self) -> PathBuf {
        let file = &self.settings.policy;
        std::path::absolute(file).unwrap_or_else(|_| file.clone())
    }

    /// The text of the policy in force, or on trial.
    pub fn policy_in_force(&self) -> Result<PolicyDocument, Failure> {
        let remembered = self.memory.trial.as_ref().or(self.memory.in_force.as_ref());
        let remembered = remembered.ok_or_else(|| {
            Failure::Unavailable("the text of the policy in force is not known".to_owned())
        })?;
        Ok(PolicyDocument {
            generation: self.datapath.generation(),
            source: remembered.source.clone(),
            text: remembered.text.clone(),
            file: Some(self.policy_file()),
            base: remembered.base.clone(),
        })
    }

    /// Hits of every rule, built-in ones included.
    pub fn rules(&self) -> Result<Rules, Failure> {
        let rules: HashMap<&str, &Rule> = self
            .policy
            .rules
            .iter()
            .map(|rule| (rule.name.as_str(), rule))
            .collect();
        let now = Timestamp::now();
        let observing = self.policy.defaults.mode == Mode::Observe;
        let document = |hits: RuleHits| {
            let rule = rules.get(hits.rule.as_str());
            let observed = match rule {
                Some(rule) => observing || rule.mode == Mode::Observe,
                // Built-in counters of what would have been done.
                None => hits.rule.starts_with("observe:"),
            };
            let reading = Count {
                packets: hits.counter.packets,
                bytes: hits.counter.bytes,
            };
            let total = self.ledger.total(&hits.rule, reading);
            RuleDocument {
                built_in: rule.is_none(),
                limited: rule.and_then(|rule| rule.limit).map(|_| {
                    let reading = Count {
                        packets: hits.limited.packets,
                        bytes: hits.limited.bytes,
                    };
                    self.ledger.limited(&hits.rule, reading)
                }),
                standing: self.ledger.standing(&hits.rule),
                mode: mode_of(observed).to_owned(),
                packets: total.packets,
                bytes: total.bytes,
                observed: self.ledger.observed(&hits.rule, reading, now),
                rule: hits.rule,
            }
        };
        let hits = self.datapath.rule_hits();
        Ok(Rules {
            generation: self.datapath.generation(),
            rules: hits.into_iter().map(document).collect(),
        })
    }

    /// What a scrape shows.
    pub fn reading(&self) -> Result<Reading, Failure> {
        let bans = self.warden.counts();
        let top = self.rates.top(SourceOrder::Packets, TOP_SOURCES);
        let (maps, sources_tracked) = self.map_use()?;
        Ok(Reading {
            totals: self.datapath.totals()?,
            rules: self.rules()?.rules,
            bans: [
                (Origin::Manual.name(), bans.manual),
                (Origin::Automatic.name(), bans.automatic),
            ],
            sources_tracked,
            round_seconds: self.rounds.quantiles(),
            look_seconds: self.looks.quantiles(),
            top_sources: top
                .into_iter()
                .map(|source| (source.source, source.packets_per_second))
                .collect(),
            alert_totals: self.alerts.totals().collect(),
            active_alerts: self
                .alerts
                .active()
                .map(|alert| (alert.kind, alert.severity, alert.subject))
                .collect(),
            ranges: self
                .detector
                .readings()
                .map(|(owner, reading)| (owner.clone(), reading))
                .collect(),
            incident_totals: self.incidents.totals().collect(),
            active_incidents: self
                .incidents
                .active()
                .map(|incident| (incident.kinds.first().copied(), incident.severity))
                .collect(),
            events_lost: self.datapath.health()?.events_lost,
            syn_cookies: self.cookies()?,
            notifications: self.notifiers.documents(),
            standing: self.datapath.standing(),
            maps,
            generation: self.datapath.generation(),
            applied: self.applied,
            valid: self.policy_error.is_none(),
            trial_deadline: self.trial_status().map(|trial| trial.deadline),
            state: self.store.health().report(),
        })
    }

    /// How full the kernel's tables are, and how many sources one of them holds.
    fn map_use(&self) -> Result<(Vec<MapUse>, usize), Failure> {
        let (maps, sources) = self.datapath.map_use()?;
        Ok((maps, usize::try_from(sources).unwrap_or(usize::MAX)))
    }

    /// How many sources the kernel's table holds.
    pub fn sources_tracked(&self) -> usize {
        usize::try_from(self.datapath.sources_tracked()).unwrap_or(usize::MAX)
    }

    /// A sampled packet with the names that the kernel knows as numbers.
    pub fn name_event(&self, sighting: &Sighting) -> EventDocument {
        let packet = &sighting.packet;
        EventDocument {
            time: Timestamp::from_nanosecond(sighting.time.into()).unwrap_or_default(),
            interface: self
                .datapath
                .interface_name(sighting.interface)
                .unwrap_or_else(|| "unknown".to_owned()),
            direction: sighting.direction.name().to_owned(),
            verdict: sighting.verdict.name().to_owned(),
            reason: sighting.reason.name().to_owned(),
            rule: match sighting.rule {
                NO_RULE => None,
                counter => self.datapath.rule_name(counter),
            },
            kind: match packet.kind {
                Kind::Ip => "ip",
                Kind::Malformed => "malformed",
                Kind::Other => "other",
            }
            .to_owned(),
            ether_type: packet.ether_type,
            protocol: packet.protocol,
            source: sighting.sender(),
            source_port: packet.source_port,
            destination: sighting.destination(),
            destination_port: packet.destination_port,
            tcp_flags: packet.tcp_flags,
            icmp_type: packet.icmp_type,
            length: packet.length,
            class: sighting.class.name().to_owned(),
            packets: sighting.packets,
        }
    }
}

fn mode_of(observed: bool) -> &'static str {
    if observed { "observe" } else { "enforce" }
}

/// The name of an attach mode as the settings write it.
pub(super) fn mode_name(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Auto => "auto",
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    }
}
