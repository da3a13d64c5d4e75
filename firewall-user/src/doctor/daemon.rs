//! The daemon's health, if one answers.

use super::{Check, Patient};
use crate::daemon::documents::Status;
use crate::export;

pub(super) fn examine(patient: &Patient) -> Vec<Check> {
    let Some(status) = &patient.status else {
        return vec![Check::note(
            "daemon.answers",
            "no daemon answers",
            "what is attached goes on being judged; `systemctl start palisade` starts it",
        )];
    };
    let mut checks = vec![if status.version == export::VERSION {
        Check::ok(
            "daemon.answers",
            format!("process {}, version {}", status.pid, status.version),
        )
    } else {
        Check::warning(
            "daemon.answers",
            format!(
                "the daemon is version {}, this is {}",
                status.version,
                export::VERSION
            ),
            "restart the daemon: the fence stands meanwhile",
        )
    }];
    checks.push(policy(status));
    checks.extend(attached(status, patient));
    if let Some(trial) = &status.policy.trial {
        checks.push(Check::note(
            "daemon.trial",
            format!(
                "generation {} is on trial for another {} s",
                trial.generation, trial.remaining_seconds
            ),
            "`palisade confirm` keeps it",
        ));
    }
    checks.extend(status.policy.cuts.iter().map(|cut| {
        Check::warning(
            "daemon.cuts",
            cut.to_string(),
            "write a rule that lets it pass",
        )
    }));
    checks.push(match status.health.events_lost {
        0 => Check::ok("daemon.events", "no sampled packet was lost"),
        lost => Check::note(
            "daemon.events",
            format!("{lost} sampled packets were lost since the fence stands"),
            "detection sees less of a flood; verdicts are not affected",
        ),
    });
    checks.extend(
        status
            .maps
            .iter()
            .filter(|map| map.capacity > 0 && map.entries * 5 >= map.capacity * 4)
            .map(|map| {
                Check::warning(
                    "daemon.map",
                    format!("{} of {} entries are taken", map.entries, map.capacity),
                    "docs/operations.md says what happens when it is full",
                )
                .about(&map.map)
            }),
    );
    checks
}

fn policy(status: &Status) -> Check {
    const ID: &str = "daemon.policy";
    let policy = &status.policy;
    match &policy.error {
        Some(error) => Check::error(
            ID,
            format!(
                "{} is not in force as it stands: {error}",
                policy.file.display()
            ),
            "mend it and `palisade apply`",
        ),
        None => Check::ok(
            ID,
            format!(
                "generation {} of {}, mode {}",
                policy.generation, policy.source, policy.mode
            ),
        ),
    }
}

fn attached(status: &Status, patient: &Patient) -> Vec<Check> {
    const ID: &str = "daemon.attached";
    let wanted = patient
        .usable()
        .map(|settings| settings.interfaces.as_slice())
        .unwrap_or_default();
    let is_attached = |name: &str| status.interfaces.iter().any(|one| one.name == name);
    let open = wanted
        .iter()
        .filter(|interface| !is_attached(&interface.name));
    let mut checks: Vec<Check> = open
        .map(|interface| {
            let waits = status.waiting.iter().any(|one| one.name == interface.name);
            let check = if waits {
                let advice =
                    "it is fenced as soon as it comes; `ip link` lists those that are there";
                Check::error(ID, "not protected: waiting for the device", advice)
            } else {
                Check::error(ID, "not protected", "`palisade apply` puts the fence up")
            };
            check.about(&interface.name)
        })
        .collect();
    if status.interfaces.is_empty() && checks.is_empty() {
        checks.push(Check::error(
            ID,
            "no interface is protected",
            "`palisade apply` puts the fence up",
        ));
    }
    checks.extend(status.interfaces.iter().map(|interface| {
        let found = format!("in: xdp {}; out: {}", interface.mode, interface.egress);
        let check = match &interface.fallback {
            Some(why) => Check::note(
                ID,
                format!("{found}; native mode was refused: {why}"),
                "generic mode works and costs more for each packet; driver, MTU and offloads above may say why",
            ),
            None => Check::ok(ID, found),
        };
        check.about(&interface.name)
    }));
    checks
}
