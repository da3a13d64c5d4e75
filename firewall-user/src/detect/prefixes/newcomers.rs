//! Prefixes of which many sources come at once that were never seen before: the beginning of an attack by many, or of
//! one in forged names. A flood that says more explains them, so it gets a moment to be told first.

use super::super::book::{Book, Details, RELEASE, Sign};
use super::super::per_source::{evidence, seconds, span};
use super::super::window::Window;
use super::super::{AlertKind, Subject, Time};
use super::{Column, View};

/// So many addresses of one prefix that come within a window and were never seen before are not there by chance; as
/// long as hardly anybody is known, everybody is new.
const NEWCOMERS: f64 = 64.0;
pub(super) const ACQUAINTED: Time = 5_000_000_000;
/// And so many of its sources are new, at least; and it has so many of all that are new to the host, which is not
/// what a crowd looks like, nor a flood forged over many networks.
const MOSTLY: f64 = 0.5;
const NEARLY_ALL: f64 = 0.75;
/// Most floods are told within this time: new sources alone are told after it.
const PATIENCE: Time = 500_000_000;

/// Sources of a prefix that were never seen before.
#[derive(Clone, Debug, Default)]
pub(super) struct Newcomers {
    window: Window<1>,
    /// Since when they have been too many, and the most that there were.
    since: Option<(Time, f64)>,
}

impl Newcomers {
    /// Adds one.
    pub fn add(&mut self, from: Time, now: Time, span: Time) {
        self.window.add(from, now, span, [1.0]);
    }

    /// How many of a prefix's `sources` are new, and of `all` that are new to the host, if that is remarkable and has
    /// been for long enough.
    pub fn surge(&mut self, now: Time, span: Time, sources: u32, all: f64) -> Option<f64> {
        let [newcomers] = self.window.sums(now, span);
        let is_remarkable = newcomers >= NEWCOMERS * RELEASE
            && newcomers >= f64::from(sources) * MOSTLY
            && newcomers >= all * NEARLY_ALL;
        if !is_remarkable {
            self.since = None;
        } else if newcomers >= NEWCOMERS {
            let (_, most) = self.since.get_or_insert((now, newcomers));
            *most = most.max(newcomers);
        }
        // Those who come once and wait then are to be told as well: the most counts.
        self.since
            .filter(|(since, _)| now.saturating_sub(*since) >= PATIENCE)
            .map(|(_, most)| most)
    }

    /// Whether there are too many, and it is not told yet for want of patience.
    pub fn is_waiting(&self, now: Time) -> bool {
        self.since
            .is_some_and(|(since, _)| now.saturating_sub(since) < PATIENCE)
    }
}

impl View<'_> {
    /// Many sources at once of which none was seen before.
    pub(super) fn new_source_surge(&self, book: &mut Book, newcomers: f64) {
        if book
            .alerts()
            .any(|alert| explains(alert.kind, &alert.subject, &self.subject))
        {
            return;
        }
        let sign = Sign {
            kind: AlertKind::NewSourceSurge,
            subject: self.subject,
            observed: (newcomers / seconds(self.span)).round(),
            expected: NEWCOMERS / seconds(self.span),
            unit: "new sources/s",
            started: self.track.newcomers.window.since(self.now, self.span),
        };
        book.note(self.now, sign, || Details {
            why: format!(
                "{newcomers:.0} sources of {} came within {} that were never seen before.",
                self.subject,
                span(self.span),
            ),
            evidence: evidence([
                ("new_sources", newcomers),
                ("sources", f64::from(self.sources)),
                ("packets", self.sum(Column::Packets)),
                ("syns", self.sum(Column::Syns)),
                ("requests", self.sum(Column::Requests)),
                ("window_seconds", seconds(self.span)),
            ]),
        });
    }
}

/// Whether an alert of this kind and subject tells why sources of `prefix` are new: a flood from everywhere or from
/// there, as nearly all who are new are of the prefix; or packets in made-up names.
fn explains(kind: AlertKind, subject: &Subject, prefix: &Subject) -> bool {
    let is_about_many =
        kind.is_flood() || matches!(kind, AlertKind::Malformed | AlertKind::SpoofedSource);
    is_about_many && (matches!(subject, Subject::Host) || subject == prefix)
}
