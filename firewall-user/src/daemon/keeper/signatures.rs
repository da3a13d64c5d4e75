//! Signatures of floods: looked for after each round, told, and put in force where that is allowed.

use serde_json::Value;

use super::Keeper;
use crate::daemon::documents::{SignatureDocument, Signatures};
use crate::daemon::failure::Failure;
use crate::detect::signature::{About, EVIDENCE, Finding, Search, Signature, evidence};
use crate::detect::{Alert, AlertState, Time};
use crate::policy::Mode;
use crate::respond::SignatureMode;

const SECOND: Time = 1_000_000_000;
/// Signatures for one alert.
const MOST: usize = 3;
/// A flood goes on in spite of its signatures when so much of it is still let through.
const GOES_ON: f64 = 0.2;

impl Keeper {
    /// Looks for signatures of the floods that alerts tell of, and tells of them.
    pub(super) fn look_for_signatures(&mut self, now: Time) {
        for (id, name) in self.signing.look_after(&mut self.datapath) {
            self.tell(
                id,
                vec![format!("{name} ended: nothing fits it any more")],
                None,
            );
        }
        self.look_at_the_rest(now);
        for (id, finding) in self.watch.look(now) {
            let active = self.detector.active().find(|alert| alert.id == id);
            let Some(alert) = active.cloned() else {
                continue;
            };
            let (said, evidence) = self.answer_finding(&alert, &finding);
            if evidence.is_some() && self.settings.respond.signature == SignatureMode::Enforce {
                let about = About::of(&alert);
                let rate = self.watch.passing(about, now, SECOND);
                self.flooded.insert(id, (about, rate, now));
            }
            self.tell(id, said, evidence);
        }
    }

    /// Ends the signatures of an alert that is over.
    pub(super) fn end_signatures(&mut self, alert: &Alert) -> Vec<String> {
        self.watch.resolved(alert.id);
        self.flooded.remove(&alert.id);
        let ended = self.signing.end_of(&mut self.datapath, alert.id);
        ended
            .into_iter()
            .map(|name| format!("{name} ended with the flood"))
            .collect()
    }

    /// `GET /v1/signatures`.
    pub fn signatures(&self) -> Signatures {
        Signatures {
            signatures: self.signature_documents(),
        }
    }

    pub(super) fn signature_documents(&self) -> Vec<SignatureDocument> {
        self.signing.documents(&self.datapath)
    }

    /// `DELETE /v1/signatures`.
    pub fn remove_signature(&mut self, name: &str) -> Result<Signatures, Failure> {
        if !self.signing.remove(&mut self.datapath, name) {
            return Err(Failure::NotFound(format!(
                "no signature of this name is in force: {name}"
            )));
        }
        Ok(self.signatures())
    }

    /// An attacker may change what it sends: what is still let through is looked at again.
    fn look_at_the_rest(&mut self, now: Time) {
        let due: Vec<u64> = self
            .flooded
            .iter()
            .filter(|(id, (about, rate, since))| {
                now.saturating_sub(*since) >= 2 * SECOND
                    && self.signing.count(**id) < MOST
                    && self.watch.passing(*about, now, SECOND) > rate * GOES_ON
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some((_, _, since)) = self.flooded.get_mut(&id) {
                *since = now;
            }
            self.watch.look_again(id, now);
        }
    }

    /// Does what is allowed about what was found. Gives what to say, and what the alert keeps of it.
    fn answer_finding(&mut self, alert: &Alert, finding: &Finding) -> (Vec<String>, Option<Value>) {
        let searches = match finding {
            Finding::Dropped => {
                let said = "no signature is needed: the policy drops nearly all of it";
                return (vec![said.to_owned()], None);
            }
            Finding::TooFew => {
                let said = "no signature: too few of its packets were let through to look at";
                return (vec![said.to_owned()], None);
            }
            Finding::Looked(searches) => searches,
        };
        let mut said = Vec::new();
        for (search, number) in searches.iter().zip(1..) {
            let words = match search {
                Search::Found(signature) => {
                    format!(
                        "signature {}: {}",
                        signature.in_words(),
                        self.sign(alert, signature)
                    )
                }
                Search::Alike(Some(best)) => format!(
                    "no signature for {}: it looks like ordinary traffic; the best there is, {}, would hit {} of that",
                    if number == 1 { "it" } else { "the rest" },
                    best.in_words(),
                    percent(best.collateral.share)
                ),
                Search::Alike(None) => {
                    "no signature: its packets have nothing in common".to_owned()
                }
            };
            said.push(words);
        }
        (said, evidence(alert, finding))
    }

    /// Puts a signature in force if that is allowed; says so, or why not.
    fn sign(&mut self, alert: &Alert, signature: &Signature) -> String {
        let respond = &self.settings.respond;
        let estimate = format!(
            "covers {} of the flood and {} of ordinary traffic (at most {})",
            percent(signature.coverage),
            percent(signature.collateral.share),
            percent(signature.collateral.at_most)
        );
        let not = if respond.signature == SignatureMode::Suggest {
            "a suggestion, `[respond] signature` says so".to_owned()
        } else if let Some(name) = self.signing.same(&signature.conditions) {
            format!("in force as {name} already")
        } else if !signature.harmless {
            match &signature.worst {
                _ if signature.excessive => {
                    "not put in force: it fits more packets than were too many".to_owned()
                }
                Some((service, share)) if share.at_least > respond.signature_collateral => {
                    let port = service
                        .port
                        .map_or_else(String::new, |port| format!(" port {port}"));
                    format!(
                        "not put in force: it would hit {} of what comes to {}{port}",
                        percent(share.share),
                        crate::policy::protocol::protocol_name(service.protocol)
                    )
                }
                _ => format!(
                    "not put in force: `[respond] signature_collateral` allows {}",
                    percent(respond.signature_collateral)
                ),
            }
        } else {
            match self.signing.put(&mut self.datapath, alert, signature) {
                Ok(name) if self.policy.defaults.mode == Mode::Observe => {
                    format!("counted as {name}, as the policy only observes")
                }
                Ok(name) => {
                    self.note_answer("signature.put", alert, std::slice::from_ref(&name));
                    format!("in force as {name}")
                }
                Err(why) => format!("not put in force: {why}"),
            }
        };
        format!("{not}; {estimate}")
    }

    /// Notes what was done about an alert that fires.
    fn tell(&mut self, id: u64, said: Vec<String>, evidence: Option<Value>) {
        if let Some(evidence) = evidence {
            self.told.insert(id, evidence);
        }
        let active = self.alerts.active().find(|alert| alert.id == id);
        let Some(mut alert) = active.cloned() else {
            return;
        };
        for what in said {
            // A search that is repeated tells the same as long as nothing changes.
            if alert.response.contains(&what) {
                continue;
            }
            tracing::warn!(alert = id, "{what}");
            self.detector.record_response(id, what.clone());
            if let Some(incident) = alert.incident {
                self.incidents.note_response(incident, &what);
            }
            alert.response.push(what);
        }
        self.add_signature(&mut alert);
        self.chronicle.note_alert(&alert);
        self.alerts.record(alert);
    }

    /// Adds an alert's signature to its evidence; forgets it with the alert.
    pub(super) fn add_signature(&mut self, alert: &mut Alert) {
        let told = match alert.state {
            AlertState::Firing => self.told.get(&alert.id).cloned(),
            AlertState::Resolved => self.told.remove(&alert.id),
        };
        if let Some(told) = told {
            alert.evidence.insert(EVIDENCE.to_owned(), told);
        }
    }
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.01 {
        format!("{:.2} %", share * 100.0)
    } else if share < 0.1 {
        format!("{:.1} %", share * 100.0)
    } else {
        format!("{:.0} %", share * 100.0)
    }
}

/// For each alert with signatures in force: what it is about, what came before them, and since when.
pub(super) type Flooded = std::collections::BTreeMap<u64, (About, f64, Time)>;
