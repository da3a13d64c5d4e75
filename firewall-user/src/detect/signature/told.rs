//! Signatures as an alert tells of them.

use serde_json::{Value, json};

use super::condition::rule_text;
use super::{Finding, Search, Signature};
use crate::detect::{Alert, AlertKind};

/// The key of an alert's evidence under which its signatures stand.
pub const EVIDENCE: &str = "signatures";

/// The reason that a rule made of a signature gives.
pub fn reason(kind: AlertKind, alert: u64) -> String {
    format!("signature of alert {alert}, {kind}")
}

/// The name of an alert's signature of this number.
pub fn name(alert: u64, number: u32) -> String {
    format!("signature-{alert}-{number}")
}

/// What an alert keeps of the signatures that were found for it; `None` without any.
pub fn evidence(alert: &Alert, finding: &Finding) -> Option<Value> {
    let Finding::Looked(searches) = finding else {
        return None;
    };
    let found = searches.iter().filter_map(|search| match search {
        Search::Found(signature) => Some(signature),
        Search::Alike(_) => None,
    });
    let documents: Vec<Value> = found
        .zip(1..)
        .map(|(signature, number)| document(alert, number, signature))
        .collect();
    (!documents.is_empty()).then(|| Value::Array(documents))
}

fn document(alert: &Alert, number: u32, signature: &Signature) -> Value {
    let name = name(alert.id, number);
    let reason = reason(alert.kind, alert.id);
    json!({
        "conditions": signature.in_words(),
        "coverage": signature.coverage,
        "collateral": signature.collateral.share,
        "collateral_at_most": signature.collateral.at_most,
        "ordinary_sample": signature.collateral.sample,
        "harmless": signature.harmless,
        "rule": rule_text(&name, &signature.conditions, &reason, None),
    })
}
