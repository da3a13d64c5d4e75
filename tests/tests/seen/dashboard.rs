//! The dashboard as Grafana reads it: its panels, annotations and variables, with what it would ask.

use anyhow::{Context, Result, ensure};
use palisade_tests::monitoring::{Prometheus, packaging};
use serde_json::Value;

/// The dashboard's queries, variables replaced as in a browser that shows everything.
#[derive(Debug)]
pub struct Dashboard {
    queries: Vec<String>,
    /// `label_values(selector, label)` of the variables.
    variables: Vec<(String, String)>,
}

impl Dashboard {
    pub fn load() -> Result<Self> {
        let path = packaging("grafana/palisade.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        let board: Value = serde_json::from_str(&text)?;
        let schema = board["schemaVersion"].as_u64().unwrap_or(0);
        ensure!(
            schema >= 38,
            "Grafana 10 writes schema 38 or later: {schema}"
        );
        let mut queries = Vec::new();
        for panel in list(&board["panels"])? {
            if panel["type"] == "row" {
                continue;
            }
            let targets = list(&panel["targets"])?;
            ensure!(!targets.is_empty(), "{} asks nothing", panel["title"]);
            for target in targets {
                queries.push(replaced(&target["expr"])?);
            }
        }
        for annotation in list(&board["annotations"]["list"])? {
            queries.push(replaced(&annotation["expr"])?);
        }
        let mut variables = Vec::new();
        for variable in list(&board["templating"]["list"])? {
            if variable["type"] == "query" {
                let query = replaced(&variable["query"]["query"])?;
                let inner = query
                    .strip_prefix("label_values(")
                    .and_then(|rest| rest.strip_suffix(')'));
                let (selector, label) = inner
                    .and_then(|inner| inner.rsplit_once(", "))
                    .with_context(|| format!("no label_values: {query}"))?;
                variables.push((selector.to_owned(), label.to_owned()));
            }
        }
        Ok(Self { queries, variables })
    }

    /// Every query, those of variables included.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        let queries = self.queries.iter().map(String::as_str);
        queries.chain(self.variables.iter().map(|(selector, _)| selector.as_str()))
    }

    /// Queries that have no answer now.
    pub fn silent(&self, prometheus: &Prometheus) -> Result<Vec<String>> {
        let mut silent = Vec::new();
        for query in &self.queries {
            if prometheus.query(query)?.is_empty() {
                silent.push(query.clone());
            }
        }
        for (selector, label) in &self.variables {
            if prometheus.label_values(label, selector)?.is_empty() {
                silent.push(selector.clone());
            }
        }
        Ok(silent)
    }
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value
        .as_array()
        .with_context(|| format!("no list: {value}"))
}

fn replaced(query: &Value) -> Result<String> {
    let query = query.as_str().context("a query is no text")?;
    let query = [
        ("$__rate_interval", "30s"),
        ("$__range", "3h"),
        ("$job", ".+"),
        ("$instance", ".+"),
        ("$service", "*"),
        ("$measure", "packets"),
    ]
    .into_iter()
    .fold(query.to_owned(), |query, (name, value)| {
        query.replace(name, value)
    });
    ensure!(!query.contains('$'), "an unknown variable: {query}");
    Ok(query)
}
