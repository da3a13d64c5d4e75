//! `palisade alerts show`.

use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::cli::Global;
use crate::cli::client::{Client, read};
use crate::cli::incidents::kinds;
use crate::cli::output;
use crate::daemon::documents::AlertReport;
use crate::detect::signature::EVIDENCE;
use crate::detect::{Alert, Incident};

/// Runs the verb.
pub fn run(global: &Global, id: u64) -> anyhow::Result<ExitCode> {
    let document = Client::new(&global.socket)?.get(&format!("/v1/alerts/{id}"))?;
    if global.json {
        output::json(&document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let AlertReport {
        alert,
        incident,
        slice,
    } = read(document)?;
    if let Some(alert) = &alert {
        print_alert(alert)?;
    }
    if let Some(incident) = &incident {
        print_incident(incident, alert.is_none())?;
    }
    if let Some(slice) = slice {
        let path = slice.path.display();
        field("packets", &format!("{path} ({} bytes)", slice.bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_alert(alert: &Alert) -> anyhow::Result<()> {
    output::line(&format!(
        "alert {}: {} {} about {}, {}",
        alert.id, alert.severity, alert.kind, alert.subject, alert.state
    ))?;
    field("why", &alert.why)?;
    field("since", &output::moment(alert.started))?;
    field("detected", &output::moment(alert.detected))?;
    if let Some(ended) = alert.ended {
        field("ended", &output::moment(ended))?;
    }
    field("observed", &format!("{} {}", alert.observed, alert.unit))?;
    field(
        "expected",
        &format!("at most {} {}", alert.expected, alert.unit),
    )?;
    print_evidence(&alert.evidence)?;
    print_responses(&alert.response)?;
    print_signatures(&alert.evidence)
}

fn print_incident(incident: &Incident, alone: bool) -> anyhow::Result<()> {
    output::line(&format!(
        "incident {}: {} {}, {}",
        incident.id,
        incident.severity,
        kinds(incident),
        incident.state
    ))?;
    field("why", &incident.why)?;
    field("since", &output::moment(incident.started))?;
    if let Some(ended) = incident.ended {
        field("ended", &output::moment(ended))?;
    }
    field(
        "alerts",
        &format!(
            "{} about {}",
            incident.alert_count,
            output::counted(usize::try_from(incident.subject_count)?, "subject")
        ),
    )?;
    for known in &incident.subjects {
        field(
            "subject",
            &format!(
                "{} ({} times what is expected)",
                known.subject, known.times_expected
            ),
        )?;
    }
    print_evidence(&incident.evidence)?;
    if alone {
        print_responses(&incident.response)?;
    }
    Ok(())
}

fn print_evidence(evidence: &Map<String, Value>) -> anyhow::Result<()> {
    let plain = evidence.iter().filter(|(name, _)| *name != EVIDENCE);
    for (name, value) in plain {
        print_value(name, value)?;
    }
    Ok(())
}

/// Nested tables become lines of their own, named by the way to them.
fn print_value(name: &str, value: &Value) -> anyhow::Result<()> {
    match value {
        Value::Object(fields) => {
            for (inner, value) in fields {
                print_value(&format!("{name}.{inner}"), value)?;
            }
            Ok(())
        }
        Value::Array(rows) => {
            for row in rows {
                field(name, &plain(row))?;
            }
            Ok(())
        }
        _ => field(name, &plain(value)),
    }
}

/// A value on one line.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let parts: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name} {}", plain(value)))
                .collect();
            parts.join(", ")
        }
        other => other.to_string(),
    }
}

/// Signatures as rules that can be kept: they stand at the left, to be copied into a policy.
fn print_signatures(evidence: &Map<String, Value>) -> anyhow::Result<()> {
    let signatures = evidence.get(EVIDENCE).and_then(Value::as_array);
    for signature in signatures.into_iter().flatten() {
        let share = |name: &str| signature[name].as_f64().unwrap_or(0.0) * 100.0;
        output::line(&format!(
            "\n# covers {:.0} % of the flood and {:.2} % (at most {:.2} %) of ordinary traffic",
            share("coverage"),
            share("collateral"),
            share("collateral_at_most")
        ))?;
        output::line(signature["rule"].as_str().unwrap_or_default().trim_end())?;
    }
    Ok(())
}

fn print_responses(responses: &[String]) -> anyhow::Result<()> {
    if responses.is_empty() {
        return field("response", "none");
    }
    for response in responses {
        field("response", response)?;
    }
    Ok(())
}

fn field(name: &str, value: &str) -> anyhow::Result<()> {
    output::line(&format!("  {name:<10} {value}"))
}
