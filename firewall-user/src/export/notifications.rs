//! The metrics of notifications: whether those who should know are told.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::notify::NotifierDocument;

pub(super) fn notifications(
    registry: &Registry,
    notifiers: &[NotifierDocument],
) -> prometheus::Result<()> {
    let told = IntCounterVec::new(
        Opts::new(
            "palisade_notifications_total",
            "Notifications by what came of them: delivered, failed (and tried again), refused by the peer, dropped.",
        ),
        &["notifier", "outcome"],
    )?;
    let queued = IntGaugeVec::new(
        Opts::new(
            "palisade_notifications_queued",
            "Notifications that wait for their peer.",
        ),
        &["notifier"],
    )?;
    registry.register(Box::new(told.clone()))?;
    registry.register(Box::new(queued.clone()))?;
    for notifier in notifiers {
        let name = notifier.name.as_str();
        for (outcome, number) in [
            ("delivered", notifier.delivered),
            ("failed", notifier.failed),
            ("refused", notifier.refused),
            ("dropped", notifier.dropped),
        ] {
            told.get_metric_with_label_values(&[name, outcome])?
                .inc_by(number);
        }
        queued
            .get_metric_with_label_values(&[name])?
            .set(i64::try_from(notifier.queued).unwrap_or(i64::MAX));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn every_outcome_of_a_notifier_begins_at_zero() {
        let registry = Registry::new();
        let pager = NotifierDocument {
            name: "pager".to_owned(),
            queued: 3,
            failed: 7,
            ..NotifierDocument::default()
        };
        notifications(&registry, &[pager]).unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "palisade_notifications_queued{notifier=\"pager\"} 3",
            "palisade_notifications_total{notifier=\"pager\",outcome=\"failed\"} 7",
            "palisade_notifications_total{notifier=\"pager\",outcome=\"dropped\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
