//! One case of the evaluation: what was expected of it, what was said, and what that is worth.

use serde::Serialize;
use serde_json::Value;

/// What a case should raise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Expectation {
    /// Any one of these kinds is right. None: nothing is asked for.
    pub kinds: Vec<String>,
    /// Kinds that are true of it as well, and count neither way.
    pub also: Vec<String>,
}

impl Expectation {
    pub fn new(kinds: &[&str], also: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            kinds: owned(kinds),
            also: owned(also),
        }
    }

    /// The kind that a case is counted under: the first that would be right.
    pub fn kind(&self) -> Option<&str> {
        self.kinds.first().map(String::as_str)
    }

    fn accepts(&self, kind: &str) -> bool {
        self.kinds.iter().any(|right| right == kind)
    }

    fn tolerates(&self, kind: &str) -> bool {
        self.accepts(kind) || self.also.iter().any(|right| right == kind)
    }
}

/// An alert, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Raised {
    pub kind: String,
    pub subject: String,
    /// Unix seconds.
    pub detected: f64,
    pub why: String,
    /// What was done about it, in the daemon's words.
    pub response: Vec<String>,
}

impl Raised {
    /// From an alert of `palisade alerts --json` or `palisade replay --json`; none if it has no kind
    /// or no time.
    pub fn read(alert: &Value) -> Option<Self> {
        let word = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
        let response = alert["response"].as_array().into_iter().flatten();
        Some(Self {
            kind: alert["kind"].as_str()?.to_owned(),
            subject: word("subject"),
            detected: alert["detected"].as_f64()?,
            why: word("why"),
            response: response
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        })
    }
}

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub name: String,
    /// Under what: a policy, or the live host.
    pub setting: String,
    /// What happened there.
    pub what: String,
    pub expected: Expectation,
    pub outcome: Outcome,
    /// From the first packet of the attack to the first alert of a right kind.
    pub seconds: Option<f64>,
    /// Alerts about what happened, of a kind that it was not.
    pub wrong: Vec<Raised>,
    pub raised: Vec<Raised>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Detected,
    Missed,
    /// Nothing is asked for: an attack without anything to see, or ordinary traffic.
    NotAsked,
}

impl Case {
    /// Weighs what was raised. `began` is when the first packet of the attack was sent.
    pub fn judge(
        (name, setting, what): (&str, &str, &str),
        expected: Expectation,
        began: Option<f64>,
        raised: Vec<Raised>,
    ) -> Self {
        let first = raised
            .iter()
            .filter(|alert| expected.accepts(&alert.kind))
            .map(|alert| alert.detected)
            .min_by(f64::total_cmp);
        let outcome = match (expected.kinds.is_empty(), first) {
            (true, _) => Outcome::NotAsked,
            (false, Some(_)) => Outcome::Detected,
            (false, None) => Outcome::Missed,
        };
        let wrong = raised
            .iter()
            .filter(|alert| !expected.tolerates(&alert.kind))
            .cloned()
            .collect();
        Self {
            name: name.to_owned(),
            setting: setting.to_owned(),
            what: what.to_owned(),
            expected,
            outcome,
            seconds: first.zip(began).map(|(first, began)| first - began),
            wrong,
            raised,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(kind: &str, detected: f64) -> Raised {
        Raised {
            kind: kind.to_owned(),
            subject: "host".to_owned(),
            detected,
            why: String::new(),
            response: Vec::new(),
        }
    }

    fn case(kinds: &[&str], also: &[&str], raised: Vec<Raised>) -> Case {
        let expected = Expectation::new(kinds, also);
        Case::judge(("x", "accept", ""), expected, Some(10.0), raised)
    }

    #[test]
    fn the_first_alert_of_a_right_kind_is_the_detection() {
        let raised = vec![
            alert("reflection", 12.5),
            alert("syn_flood", 12.0),
            alert("udp_flood", 11.0),
        ];
        let case = case(&["syn_flood", "reflection"], &[], raised);
        assert_eq!(case.outcome, Outcome::Detected);
        assert_eq!(case.seconds, Some(2.0));
        assert_eq!(case.wrong, [alert("udp_flood", 11.0)]);
    }

    #[test]
    fn what_is_true_as_well_is_neither_a_detection_nor_wrong() {
        let case = case(
            &["syn_flood"],
            &["new_source_surge"],
            vec![alert("new_source_surge", 11.0)],
        );
        assert_eq!(case.outcome, Outcome::Missed);
        assert!(case.wrong.is_empty());
    }

    #[test]
    fn any_alert_is_wrong_where_none_is_right() {
        let case = case(&[], &[], vec![alert("port_scan", 11.0)]);
        assert_eq!(case.outcome, Outcome::NotAsked);
        assert_eq!(case.wrong.len(), 1);
    }

    #[test]
    fn an_alert_is_read_from_the_daemons_document() {
        let document = serde_json::json!({
            "kind": "port_scan", "subject": "203.0.113.7", "detected": 5.25, "why": "it tried",
            "response": ["banned for 10m"],
        });
        let read = Raised::read(&document).expect("an alert");
        assert_eq!((read.kind.as_str(), read.detected), ("port_scan", 5.25));
        assert_eq!(read.response, ["banned for 10m"]);
        assert_eq!(
            Raised::read(&serde_json::json!({"kind": "port_scan"})),
            None
        );
    }
}
