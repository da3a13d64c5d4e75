//! The metrics of SYN cookies.

use prometheus::{IntCounter, IntGaugeVec, Opts, Registry};

use crate::daemon::documents::CookieReport;

/// What came of them, and where they are sent.
pub(super) fn cookies(registry: &Registry, report: &CookieReport) -> prometheus::Result<()> {
    for (name, help, value) in [
        (
            "palisade_syn_cookies_sent_total",
            "SYN-ACKs with a cookie that were sent in place of the stack's.",
            report.sent,
        ),
        (
            "palisade_syn_cookies_accepted_total",
            "Handshakes that a client ended with a valid cookie.",
            report.accepted,
        ),
        (
            "palisade_syn_cookies_rejected_total",
            "Packets dropped that belong to no connection of an armed service and hold no valid cookie.",
            report.rejected,
        ),
    ] {
        let counter = IntCounter::new(name, help)?;
        registry.register(Box::new(counter.clone()))?;
        counter.inc_by(value);
    }
    let armed = IntGaugeVec::new(
        Opts::new(
            "palisade_syn_cookies_armed",
            "1 for each service whose SYNs are answered with cookies now.",
        ),
        &["service"],
    )?;
    registry.register(Box::new(armed.clone()))?;
    for service in &report.armed {
        armed
            .get_metric_with_label_values(&[service.service.as_str()])?
            .set(1);
    }
    Ok(())
}
