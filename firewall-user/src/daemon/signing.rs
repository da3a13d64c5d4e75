//! The signatures in force: which place each has, for which alert, what it has dropped, and when it
//! is over. The kernel ends one by its own clock soon after this daemon stops to prolong it.

use firewall_common::signature::SLOTS;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::documents::{Count, SignatureDocument};
use crate::datapath::{Datapath, clock};
use crate::detect::signature::{
    Condition, Signature, conditions, in_words, name, reason, rule_text,
};
use crate::detect::{Alert, AlertKind};
use crate::state::{Kind, Store};

const PART: &str = "signatures";
const SECOND: u64 = 1_000_000_000;
/// The kernel ends a signature when nobody has prolonged it for so long.
const HOLD: u64 = 30 * SECOND;
/// One is over when it has hit next to nothing for so long.
const QUIET: u64 = 15 * SECOND;
/// Next to nothing: this share of its highest rate, ...
const TRICKLE: f64 = 0.01;
/// ... or so many packets a second.
const FEW: f64 = 5.0;
/// Rates are taken over this, at least.
const SPAN: u64 = SECOND / 2;
/// A place is used again only when no packet can still be looking at what stood there.
const REST: u64 = SECOND / 4;

/// The places.
#[derive(Debug)]
pub struct Signing {
    store: Store,
    places: [Place; SLOTS],
}

#[derive(Debug, Default)]
struct Place {
    signed: Option<Signed>,
    freed: u64,
}

/// A signature in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Signed {
    slot: usize,
    /// What the kernel's place has beside it, so that a later daemon knows its own.
    id: u64,
    name: String,
    alert: u64,
    kind: AlertKind,
    conditions: Vec<Condition>,
    since: Timestamp,
    coverage: f64,
    collateral: f64,
    collateral_at_most: f64,
    /// The place's counter when it began.
    before: Count,
    #[serde(skip)]
    course: Course,
}

/// How it goes.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// The reading that rates are counted from, and its time.
    read: u64,
    packets: u64,
    /// The highest rate.
    most: f64,
    /// When it last hit more than next to nothing.
    busy: u64,
    until: u64,
}

impl Signing {
    /// Takes over what an earlier daemon left in the kernel and in the state; what only one of them
    /// knows is over.
    pub fn resume(store: Store, datapath: &mut Datapath, allowed: bool) -> Self {
        let remembered: Vec<Signed> = store.part(PART).unwrap_or_default();
        let mut signing = Self {
            places: Default::default(),
            store,
        };
        let now = clock::monotonic();
        let table = datapath.signatures().read();
        for (slot, place) in table.slots.iter().enumerate() {
            if place.until == 0 {
                continue;
            }
            let known = remembered
                .iter()
                .find(|signed| signed.slot == slot && signed.id == place.id);
            match known {
                Some(signed) if allowed && place.until > now => {
                    info!(signature = signed.name, "still in force");
                    let mut signed = signed.clone();
                    signed.course = Course {
                        read: now,
                        packets: hits(datapath, slot).packets,
                        busy: now,
                        until: place.until,
                        most: 0.0,
                    };
                    signing.places[slot].signed = Some(signed);
                }
                _ => {
                    datapath.signatures().last(slot, 0);
                    signing.places[slot].freed = now;
                }
            }
        }
        if !remembered.is_empty() {
            signing.save();
        }
        signing
    }

    /// Puts a signature in force for an alert; its name, or why not.
    pub fn put(
        &mut self,
        datapath: &mut Datapath,
        alert: &Alert,
        signature: &Signature,
    ) -> Result<String, &'static str> {
        let now = clock::monotonic();
        let free = |place: &Place| place.signed.is_none() && now.saturating_sub(place.freed) > REST;
        let Some(slot) = self.places.iter().position(free) else {
            return Err("every place for a signature is taken");
        };
        let number = (1..).find(|number| !self.knows(&name(alert.id, *number)));
        let name = name(alert.id, number.unwrap_or(0));
        let before = hits(datapath, slot);
        let until = now + HOLD;
        datapath
            .signatures()
            .put(slot, now, conditions(&signature.conditions), until);
        self.places[slot].signed = Some(Signed {
            slot,
            id: now,
            name: name.clone(),
            alert: alert.id,
            kind: alert.kind,
            conditions: signature.conditions.clone(),
            since: Timestamp::now(),
            coverage: signature.coverage,
            collateral: signature.collateral.share,
            collateral_at_most: signature.collateral.at_most,
            before,
            course: Course {
                read: now,
                packets: before.packets,
                most: 0.0,
                busy: now,
                until,
            },
        });
        self.save();
        Ok(name)
    }

    /// Prolongs what still hits, and ends what does not any more: the names of those, with their
    /// alerts.
    pub fn look_after(&mut self, datapath: &mut Datapath) -> Vec<(u64, String)> {
        let now = clock::monotonic();
        let mut over = Vec::new();
        for slot in 0..SLOTS {
            let Some(signed) = &mut self.places[slot].signed else {
                continue;
            };
            if now.saturating_sub(signed.course.read) < SPAN {
                continue;
            }
            let packets = hits(datapath, slot).packets;
            signed.course.note(now, packets);
            if now.saturating_sub(signed.course.busy) >= QUIET {
                over.push((signed.alert, signed.name.clone()));
                self.end(datapath, slot);
            } else if signed.course.until.saturating_sub(now) < HOLD - SECOND {
                signed.course.until = now + HOLD;
                datapath.signatures().last(slot, now + HOLD);
            }
        }
        if !over.is_empty() {
            self.save();
        }
        over
    }

    /// Ends those that answer an alert; their names.
    pub fn end_of(&mut self, datapath: &mut Datapath, alert: u64) -> Vec<String> {
        self.end_where(datapath, |signed| signed.alert == alert)
    }

    /// Ends the one of this name; whether there was one.
    pub fn remove(&mut self, datapath: &mut Datapath, name: &str) -> bool {
        !self
            .end_where(datapath, |signed| signed.name == name)
            .is_empty()
    }

    /// Puts all in force again where the pinned state was made anew.
    pub fn put_again(&mut self, datapath: &mut Datapath) {
        let now = clock::monotonic();
        for signed in self
            .places
            .iter_mut()
            .filter_map(|place| place.signed.as_mut())
        {
            let together = conditions(&signed.conditions);
            signed.before = hits(datapath, signed.slot);
            signed.course.until = now + HOLD;
            datapath
                .signatures()
                .put(signed.slot, signed.id, together, now + HOLD);
        }
    }

    /// The one with these conditions.
    pub fn same(&self, conditions: &[Condition]) -> Option<&str> {
        let mut signed = self.signed();
        let same = signed.find(|signed| signed.conditions == conditions)?;
        Some(&same.name)
    }

    /// How many answer an alert.
    pub fn count(&self, alert: u64) -> usize {
        let signed = self.signed();
        signed.filter(|signed| signed.alert == alert).count()
    }

    pub fn documents(&self, datapath: &Datapath) -> Vec<SignatureDocument> {
        let document = |signed: &Signed| {
            let hits = hits(datapath, signed.slot).minus(signed.before);
            SignatureDocument {
                name: signed.name.clone(),
                alert: signed.alert,
                conditions: signed.conditions.clone(),
                words: in_words(&signed.conditions),
                since: signed.since,
                coverage: signed.coverage,
                collateral: signed.collateral,
                collateral_at_most: signed.collateral_at_most,
                packets: hits.packets,
                bytes: hits.bytes,
                rule: rule_text(
                    &signed.name,
                    &signed.conditions,
                    &reason(signed.kind, signed.alert),
                    None,
                ),
            }
        };
        self.signed().map(document).collect()
    }

    fn signed(&self) -> impl Iterator<Item = &Signed> {
        self.places.iter().filter_map(|place| place.signed.as_ref())
    }

    fn knows(&self, name: &str) -> bool {
        self.signed().any(|signed| signed.name == name)
    }

    fn end_where(
        &mut self,
        datapath: &mut Datapath,
        which: impl Fn(&Signed) -> bool,
    ) -> Vec<String> {
        let mut ended = Vec::new();
        for slot in 0..SLOTS {
            if let Some(signed) = self.places[slot].signed.as_ref().filter(|one| which(one)) {
                ended.push(signed.name.clone());
                self.end(datapath, slot);
            }
        }
        if !ended.is_empty() {
            self.save();
        }
        ended
    }

    fn end(&mut self, datapath: &mut Datapath, slot: usize) {
        datapath.signatures().last(slot, 0);
        self.places[slot].freed = clock::monotonic();
        if let Some(signed) = self.places[slot].signed.take() {
            info!(signature = signed.name, "no longer in force");
        }
    }

    /// Has them kept.
    fn save(&self) {
        let signed: Vec<&Signed> = self.signed().collect();
        self.store.put_json(Kind::Part, PART, &signed);
    }
}

impl Course {
    /// Takes in what the counter says now.
    fn note(&mut self, now: u64, packets: u64) {
        let seconds = now.saturating_sub(self.read) as f64 / SECOND as f64;
        let rate = packets.saturating_sub(self.packets) as f64 / seconds;
        self.most = self.most.max(rate);
        if rate > FEW.max(self.most * TRICKLE) {
            self.busy = now;
        }
        (self.read, self.packets) = (now, packets);
    }
}

/// A place's counter.
fn hits(datapath: &Datapath, slot: usize) -> Count {
    let counter = datapath.signature_hits(slot);
    Count {
        packets: counter.packets,
        bytes: counter.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_that_dwindles_to_a_trickle_is_over() {
        let mut course = Course::default();
        course.note(SECOND, 10_000);
        assert_eq!(course.busy, SECOND);
        course.note(2 * SECOND, 10_000 + 101);
        assert_eq!(course.busy, 2 * SECOND);
        course.note(3 * SECOND, 10_101 + 99);
        assert_eq!(course.busy, 2 * SECOND);
    }

    #[test]
    fn names_tell_the_alert_and_are_names_of_rules() {
        assert_eq!(
            name(1_732_278_148_000_000, 2),
            "signature-1732278148000000-2"
        );
    }
}
