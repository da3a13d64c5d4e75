//! `palisade rule list` and `palisade rule show`.

use std::collections::HashMap;
use std::fs;
use std::process::ExitCode;

use firewall_common::decide::LinkRule;
use serde_json::{Map, Value, json};

use super::mode::would_have;
use super::temporary;
use crate::cli::client::{Client, NoDaemon, read};
use crate::cli::policy_file::PolicyFile;
use crate::cli::{EXIT_FAILED, Global, output};
use crate::daemon::documents::{Count, Observed, RuleDocument, Rules};
use crate::policy::Mode;
use crate::policy::describe::{summary, to_json};
use crate::policy::edit::{EditError, rule_text};

/// Hits by rule, if a daemon says.
pub(super) struct Hits {
    generation: Option<u64>,
    rules: HashMap<String, RuleDocument>,
}

impl Hits {
    pub(super) fn ask(global: &Global) -> Self {
        let rules = Client::new(&global.socket)
            .and_then(|client| client.get("/v1/rules"))
            .and_then(read::<Rules>);
        match rules {
            Ok(answer) => Self {
                generation: Some(answer.generation),
                rules: answer
                    .rules
                    .into_iter()
                    .map(|rule| (rule.rule.clone(), rule))
                    .collect(),
            },
            Err(error) => {
                if !error.is::<NoDaemon>() {
                    eprintln!("palisade: hits are not known: {error:#}");
                }
                Self {
                    generation: None,
                    rules: HashMap::new(),
                }
            }
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.generation.is_some()
    }

    /// What a rule matched while it was observed.
    pub(super) fn observed(&self, rule: &str) -> Option<Observed> {
        self.rules.get(rule)?.observed
    }

    fn observed_cell(&self, rule: &str) -> String {
        match self.rules.get(rule) {
            Some(hits) => hits
                .observed
                .map_or(0, |observed| observed.count.packets)
                .to_string(),
            None => "-".to_owned(),
        }
    }

    /// Packets and bytes over a rule's limit, for people.
    fn limited(&self, rule: &str) -> Option<String> {
        let Count { packets, bytes } = self.rules.get(rule)?.limited?;
        Some(format!("over the limit: packets {packets}, bytes {bytes}"))
    }

    /// Packets over a rule's limit, for the table.
    fn limited_cell(&self, rule: &str) -> String {
        let limited = self.rules.get(rule).and_then(|rule| rule.limited);
        limited.map_or_else(|| "-".to_owned(), |limited| limited.packets.to_string())
    }

    fn cells(&self, rule: &str) -> [String; 2] {
        match self.rules.get(rule) {
            Some(hits) => [hits.packets.to_string(), hits.bytes.to_string()],
            None => ["-".to_owned(), "-".to_owned()],
        }
    }

    fn add_to(&self, rule: &str, built_in: bool, document: &mut Map<String, Value>) {
        let hits = self.rules.get(rule);
        document.insert("built_in".to_owned(), json!(built_in));
        document.insert("packets".to_owned(), json!(hits.map(|hits| hits.packets)));
        document.insert("bytes".to_owned(), json!(hits.map(|hits| hits.bytes)));
        let observed = hits.and_then(|hits| hits.observed);
        document.insert("observed".to_owned(), json!(observed));
        if let Some(limited) = hits.and_then(|hits| hits.limited) {
            document.insert("limited".to_owned(), json!(limited));
        }
    }
}

/// Lists the built-in rules and the policy's.
pub fn list(global: &Global, file: &PolicyFile) -> anyhow::Result<ExitCode> {
    let (path, policy) = match file.load_rules(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let hits = Hits::ask(global);
    let signatures = temporary::ask(global);
    if global.json {
        let built_in = LinkRule::ALL.iter().map(|rule| built_in(*rule, &hits));
        let own = policy.rules.iter().map(|rule| {
            let mut document = to_json(&policy, rule);
            hits.add_to(&rule.name, false, &mut document);
            Value::Object(document)
        });
        let temporary = signatures.iter().map(temporary::document);
        output::json(&json!({
            "policy": path,
            "generation": hits.generation,
            "rules": built_in.chain(temporary).chain(own).collect::<Vec<Value>>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "RULE",
        "ACTION",
        "DIRECTION",
        "MODE",
        "MATCHES",
        "PACKETS",
        "BYTES",
        "OBSERVED",
        "LIMITED",
        "OWNER",
        "EXPIRES",
    ];
    let mut table = output::Table::new(&header);
    for rule in LinkRule::ALL {
        let [packets, bytes] = hits.cells(rule.name());
        let cells = [rule.name(), "accept", "both", "enforce", rule.describe()];
        let mut row: Vec<String> = cells.map(str::to_owned).to_vec();
        row.extend([packets, bytes]);
        row.extend(["-"; 4].map(str::to_owned));
        table.row(row);
    }
    for signature in &signatures {
        table.row(temporary::row(signature));
    }
    for rule in &policy.rules {
        let [packets, bytes] = hits.cells(&rule.name);
        table.row(vec![
            rule.name.clone(),
            rule.action.name().to_owned(),
            rule.direction.name().to_owned(),
            rule.mode.name().to_owned(),
            summary(&policy, rule),
            packets,
            bytes,
            hits.observed_cell(&rule.name),
            hits.limited_cell(&rule.name),
            output::optional(rule.owner.as_deref()),
            output::optional(rule.expires.map(|expires| expires.to_string()).as_deref()),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

/// Shows one rule.
pub fn show(global: &Global, file: &PolicyFile, name: &str) -> anyhow::Result<ExitCode> {
    if let Some(rule) = LinkRule::ALL.iter().find(|rule| rule.name() == name) {
        let hits = Hits::ask(global);
        if global.json {
            output::json(&built_in(*rule, &hits))?;
        } else {
            let [packets, bytes] = hits.cells(name);
            output::line(&format!("# built in: accepts {}", rule.describe()))?;
            output::line(&format!("# packets {packets}, bytes {bytes}"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let signatures = temporary::ask(global);
    if let Some(signature) = signatures.iter().find(|signature| signature.name == name) {
        temporary::show(global, signature)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (path, policy) = match file.load_rules(global)? {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let Some(rule) = policy.rules.iter().find(|rule| rule.name == name) else {
        let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
        eprintln!(
            "palisade: {}: {}",
            path.display(),
            EditError::unknown_rule(name, &names)
        );
        return Ok(ExitCode::from(EXIT_FAILED));
    };
    let hits = Hits::ask(global);
    let text = fs::read_to_string(&path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = rule_text(text, name).unwrap_or_default();
    if global.json {
        let mut document = to_json(&policy, rule);
        hits.add_to(name, false, &mut document);
        document.insert("text".to_owned(), json!(text));
        output::json(&Value::Object(document))?;
    } else {
        let [packets, bytes] = hits.cells(name);
        output::line(&format!("# {}:{}", path.display(), rule.line))?;
        output::line(&format!("# packets {packets}, bytes {bytes}"))?;
        let observed = hits.observed(name);
        if observed.is_some() || rule.mode == Mode::Observe {
            let told = would_have(rule, hits.is_known(), observed.as_ref());
            output::line(&format!("# {told}"))?;
        }
        if let Some(limited) = hits.limited(name) {
            output::line(&format!("# {limited}"))?;
        }
        output::line(text.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn built_in(rule: LinkRule, hits: &Hits) -> Value {
    let mut document = Map::new();
    document.insert("name".to_owned(), json!(rule.name()));
    document.insert("action".to_owned(), json!("accept"));
    document.insert("mode".to_owned(), json!("enforce"));
    document.insert("description".to_owned(), json!(rule.describe()));
    hits.add_to(rule.name(), true, &mut document);
    Value::Object(document)
}
