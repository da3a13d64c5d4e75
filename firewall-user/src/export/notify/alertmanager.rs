//! Alertmanager, by version 2 of its API. It is told a state and not events: what fires is told again and again
//! with an end that is a little ahead, so that it ends there by itself if this daemon is gone; what is over is told
//! with its end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Delivery;
use super::http::Peer;
use super::notice::Notice;
use crate::detect::{Alert, AlertState, Time};

/// Where alerts go, below the address in the settings.
pub const PATH: &str = "/api/v2/alerts";
/// Ends that wait to be told; of more, the oldest are left to end by themselves.
const MOST_OVER: usize = 1000;
/// An alert ends by itself after so many times without being told again.
const MISSED: u32 = 4;
/// The same name that the shipped Prometheus rule gives, so that one route serves both.
const NAME: &str = "PalisadeAttack";
/// Labels that are not the operator's.
pub const OWN_LABELS: [&str; 6] = [
    "alertname",
    "kind",
    "severity",
    "subject",
    "instance",
    "source",
];

#[derive(Debug)]
pub struct Alertmanager {
    pub peer: Peer,
    pub labels: BTreeMap<String, String>,
    pub instance: String,
    /// How often it is told again what fires.
    pub resend: Duration,
}

/// What it has to be told.
#[derive(Debug, Default)]
pub struct Held {
    active: BTreeMap<u64, Alert>,
    over: VecDeque<Alert>,
    /// Changes that it has not been told.
    pub untold: usize,
}

impl Held {
    /// Takes in a change; how many ends had to be given up for it.
    pub fn take(&mut self, alert: Alert, now: Time) -> u64 {
        self.untold += 1;
        let before = if alert.state == AlertState::Resolved {
            // One that was never told to fire is told all the same: it knows what it has.
            self.active.remove(&alert.id);
            Some(alert)
        } else {
            let before = self.active.insert(alert.id, alert.clone());
            // Another severity is another label, and that another alert.
            before
                .filter(|before| before.severity != alert.severity)
                .map(|before| Alert {
                    ended: Some(now),
                    ..before
                })
        };
        self.over.extend(before);
        let surplus = self.over.len().saturating_sub(MOST_OVER);
        self.over.drain(..surplus);
        surplus as u64
    }

    pub fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// It was told all.
    pub fn told(&mut self) {
        self.over.clear();
        self.untold = 0;
    }
}

impl Alertmanager {
    /// Tells all that is held.
    pub async fn tell(&self, held: &Held, now: Time) -> Delivery {
        self.post(self.batch(held, now)).await
    }

    /// Tells one thing at once.
    pub async fn deliver(&self, notice: &Notice) -> Delivery {
        let alert = &notice.alert;
        self.post(vec![
            self.document(alert, alert.ended.unwrap_or(alert.detected)),
        ])
        .await
    }

    fn batch(&self, held: &Held, now: Time) -> Vec<Value> {
        let lasts = |over: &&Alert| {
            held.active.values().any(|alert| {
                (alert.kind, alert.subject, alert.severity)
                    == (over.kind, over.subject, over.severity)
            })
        };
        // The end of one that fires again is no end.
        let over = held.over.iter().filter(|over| !lasts(over));
        let over = over.map(|alert| self.document(alert, alert.ended.unwrap_or(now)));
        let ahead = Time::try_from((self.resend * MISSED).as_nanos()).unwrap_or(Time::MAX);
        let active = held.active.values();
        over.chain(active.map(|alert| self.document(alert, now.saturating_add(ahead))))
            .collect()
    }

    async fn post(&self, alerts: Vec<Value>) -> Delivery {
        match serde_json::to_vec(&alerts) {
            Ok(body) => self.peer.post(Vec::new(), body).await,
            Err(error) => Delivery::Refused(format!("it cannot be written down: {error}")),
        }
    }

    fn document(&self, alert: &Alert, ends: Time) -> Value {
        let mut labels = self.labels.clone();
        let own: [String; OWN_LABELS.len()] = [
            NAME.to_owned(),
            alert.kind.to_string(),
            alert.severity.to_string(),
            alert.subject.to_string(),
            self.instance.clone(),
            "palisade".to_owned(),
        ];
        labels.extend(OWN_LABELS.map(str::to_owned).into_iter().zip(own));
        let mut description = format!(
            "{} {} were observed, {} expected.",
            alert.observed, alert.unit, alert.expected
        );
        for what in &alert.response {
            description.push_str(&format!(" {what}."));
        }
        json!({
            "labels": labels,
            "annotations": {
                "summary": alert.why,
                "description": description,
                "runbook": format!("docs/runbook.md#{}", alert.kind),
                "alert": alert.id.to_string(),
                "incident": alert.incident.map(|id| id.to_string()).unwrap_or_default(),
            },
            "startsAt": moment(alert.started),
            "endsAt": moment(ends.max(alert.started)),
        })
    }
}

fn moment(time: Time) -> String {
    Timestamp::from_nanosecond(time.into())
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::super::notice::sample;
    use super::super::settings::Endpoint;
    use super::*;
    use crate::detect::{AlertKind, Severity};

    const SECOND: Time = 1_000_000_000;
    const NOW: Time = 1_700_000_100 * SECOND;

    fn manager() -> Alertmanager {
        let endpoint = Endpoint {
            url: Some("http://127.0.0.1:9093/am".to_owned()),
            ..Endpoint::default()
        };
        let peer = Peer::new(&endpoint, Duration::from_secs(1)).expect("taken");
        Alertmanager {
            peer: peer.at(PATH),
            labels: [("team".to_owned(), "edge".to_owned())].into(),
            instance: "edge1".to_owned(),
            resend: Duration::from_secs(60),
        }
    }

    fn alert(id: u64, severity: Severity, ended: Option<Time>) -> Alert {
        Alert {
            id,
            ended,
            state: match ended {
                Some(_) => AlertState::Resolved,
                None => AlertState::Firing,
            },
            ..sample(AlertKind::PortScan, severity)
        }
    }

    fn ends(batch: &[Value]) -> Vec<(&str, &str)> {
        let mut ends: Vec<_> = batch
            .iter()
            .filter_map(|it| Some((it["labels"]["severity"].as_str()?, it["endsAt"].as_str()?)))
            .collect();
        ends.sort_unstable();
        ends
    }

    #[test]
    fn what_fires_ends_ahead_and_what_is_over_when_it_ended() {
        let mut held = Held::default();
        held.take(alert(1, Severity::Warning, None), NOW);
        let batch = manager().batch(&held, NOW);
        assert_eq!(ends(&batch), [("warning", "2023-11-14T22:19:00Z")]);
        assert_eq!(batch[0]["labels"]["alertname"], "PalisadeAttack");
        assert_eq!(batch[0]["labels"]["subject"], "203.0.113.7");
        assert_eq!(batch[0]["labels"]["team"], "edge");
        held.told();
        held.take(alert(1, Severity::Warning, Some(NOW)), NOW);
        let batch = manager().batch(&held, NOW + SECOND);
        assert_eq!(ends(&batch), [("warning", "2023-11-14T22:15:00Z")]);
        assert!(!held.is_active());
    }

    #[test]
    fn a_severity_that_rises_ends_the_alert_with_the_lower_one() {
        let mut held = Held::default();
        held.take(alert(1, Severity::Warning, None), NOW);
        held.take(alert(1, Severity::Critical, None), NOW);
        assert_eq!(
            ends(&manager().batch(&held, NOW)),
            [
                ("critical", "2023-11-14T22:19:00Z"),
                ("warning", "2023-11-14T22:15:00Z")
            ]
        );
    }

    #[test]
    fn one_that_fires_again_before_its_end_was_told_goes_on() {
        let mut held = Held::default();
        held.take(alert(1, Severity::Warning, Some(NOW)), NOW);
        held.take(alert(2, Severity::Warning, None), NOW);
        assert_eq!(
            ends(&manager().batch(&held, NOW)),
            [("warning", "2023-11-14T22:19:00Z")]
        );
    }
}
