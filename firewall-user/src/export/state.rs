//! Whether what should outlive the daemon is on the disk.

use prometheus::{IntCounter, IntGauge, Registry};

use crate::state::HealthReport;

pub(super) fn state(registry: &Registry, report: &HealthReport) -> prometheus::Result<()> {
    let healthy = IntGauge::new(
        "palisade_state_healthy",
        "1 where the state folder takes what is written, 0 where something waits for it in memory.",
    )?;
    healthy.set(i64::from(report.healthy));
    registry.register(Box::new(healthy))?;
    for (name, help, count) in [
        (
            "palisade_state_errors_total",
            "Attempts to write to the state folder that failed.",
            report.errors,
        ),
        (
            "palisade_state_damaged_total",
            "Files of the state folder that were damaged and set aside.",
            report.damaged,
        ),
    ] {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(count);
        registry.register(Box::new(counter))?;
    }
    Ok(())
}
