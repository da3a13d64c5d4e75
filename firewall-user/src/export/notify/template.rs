//! The body of a webhook from a template. Every value is written as JSON, quotes included, so that nothing an
//! attacker has a hand in can end a string; and what comes out must be JSON.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::notice::{Event, Notice, sample};
use crate::detect::{AlertKind, Severity};

/// Steps that a template may take.
const FUEL: u64 = 200_000;
/// Longest body.
const LONGEST: usize = 1 << 20;
const NAME: &str = "webhook";

/// A template that has been tried on every kind of alert.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
}

impl Template {
    pub fn new(source: &str) -> Result<Self, String> {
        if source.contains("autoescape") {
            return Err(
                "a template may not switch `autoescape`: values are always JSON".to_owned(),
            );
        }
        let mut environment = Environment::empty();
        // Of what there is in the language, nothing reads files or other templates.
        for (name, filter) in filters() {
            filter(&mut environment, name);
        }
        environment.set_auto_escape_callback(|_| AutoEscape::Json);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| told(&error))?;
        let template = Self { environment };
        for kind in AlertKind::ALL {
            for event in [Event::Fired, Event::Resolved] {
                let alert = sample(kind, Severity::Critical);
                template
                    .render(&Notice::new(event, "sample", 0, alert))
                    .map_err(|why| format!("tried on a sample of {kind}, {event}: {why}"))?;
            }
        }
        Ok(template)
    }

    /// The body that tells a notice.
    pub fn render(&self, notice: &Notice) -> Result<Vec<u8>, String> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| told(&error))?;
        let text = template
            .render(Serde(notice))
            .map_err(|error| told(&error))?;
        if text.len() > LONGEST {
            return Err(format!("the body is longer than {LONGEST} bytes"));
        }
        match serde_json::from_str::<&serde_json::value::RawValue>(&text) {
            Ok(_) => Ok(text.into_bytes()),
            Err(error) => Err(format!(
                "what comes out is no JSON: {error}; values bring their own quotes, so write {{{{ alert.why }}}} and not \"{{{{ alert.why }}}}\""
            )),
        }
    }
}

type Add = fn(&mut Environment<'static>, &'static str);

/// The filters that templates may use. `safe` is not among them: it would let a value through as it is.
fn filters() -> [(&'static str, Add); 9] {
    use minijinja::filters;
    [
        ("default", |to, name| to.add_filter(name, filters::default)),
        ("upper", |to, name| to.add_filter(name, filters::upper)),
        ("lower", |to, name| to.add_filter(name, filters::lower)),
        ("replace", |to, name| to.add_filter(name, filters::replace)),
        ("join", |to, name| to.add_filter(name, filters::join)),
        ("length", |to, name| to.add_filter(name, filters::length)),
        ("round", |to, name| to.add_filter(name, filters::round)),
        ("int", |to, name| to.add_filter(name, filters::int)),
        ("first", |to, name| to.add_filter(name, filters::first)),
    ]
}

/// The error in one line, with its place.
fn told(error: &minijinja::Error) -> String {
    let place = error
        .line()
        .map(|line| format!("line {line} of the template: "))
        .unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}"));
    format!("{place}{}{}", error.kind(), detail.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, why: &str) -> serde_json::Value {
        let mut alert = sample(AlertKind::SynFlood, Severity::Critical);
        alert.why = why.to_owned();
        let notice = Notice::new(Event::Fired, "edge1", 0, alert);
        let body = Template::new(source).expect("taken").render(&notice);
        serde_json::from_slice(&body.expect("rendered")).expect("JSON")
    }

    #[test]
    fn a_value_cannot_end_its_string_whatever_is_in_it() {
        let source = r#"{"text": {{ alert.why }}, "title": {{ instance ~ ": " ~ alert.why | upper }}, "n": {{ alert.observed }}, "all": {{ alert }}}"#;
        for why in [
            "\", \"admin\": true, \"x\": \"",
            "back\\slash and </script>",
            "{{ key }} {% raw %}",
            "a\nline\u{0}\u{2028}\u{1f600}",
        ] {
            let body = rendered(source, why);
            assert_eq!(body["text"], why);
            assert_eq!(body["all"]["why"], why);
            assert_eq!(body["n"], 40.0);
            assert_eq!(body.as_object().map(serde_json::Map::len), Some(4));
        }
    }

    #[test]
    fn conditions_loops_and_defaults_work() {
        let source = r#"{"colour": {% if event == "resolved" %}"green"{% else %}"red"{% endif %},
            "done": [{% for what in alert.response %}{{ what }}{% if not loop.last %},{% endif %}{% endfor %}],
            "ports": {{ alert.evidence.ports | default(none) }}}"#;
        let body = rendered(source, "because");
        assert_eq!(
            body,
            serde_json::json!({"colour": "red", "done": [], "ports": null})
        );
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_before_any_alert() {
        for (source, says) in [
            ("{\"a\": {{ alert.why }", "line 1"),
            ("{\"a\": {{ alert.wy }}}", "undefined"),
            ("{\"a\": \"{{ alert.why }}\"}", "no JSON"),
            ("{\"a\": {{ alert.why | safe }}}", "safe"),
            ("{% autoescape false %}{}{% endautoescape %}", "autoescape"),
            ("{% include \"/etc/passwd\" %}", "include"),
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}{}",
                "range",
            ),
            ("{{ key.__class__ }}", "undefined"),
            ("", "no JSON"),
        ] {
            let why = Template::new(source).expect_err(source);
            assert!(why.contains(says), "{source}: {why}");
        }
    }
}
