//! A real Prometheus and a real Alertmanager in a namespace, where they find the daemon as an
//! operations team's would, and ways of asking them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::need_tools;
use crate::process::{Background, succeed, wait_until};

/// How long they may take to come up on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Prometheus on 127.0.0.1:9090 of a namespace. It scrapes the daemon each second, evaluates the rules
/// that are shipped, and delivers to the Alertmanager on 127.0.0.1:9093, if there is one.
#[derive(Debug)]
pub struct Prometheus {
    namespace: PathBuf,
    running: Background,
    folder: TempDir,
}

impl Prometheus {
    pub fn start(namespace: &Namespace) -> Result<Self> {
        need_tools(&["prometheus", "curl"])?;
        let folder = tempfile::Builder::new()
            .prefix("palisade-prometheus-")
            .tempdir()?;
        let config = folder.path().join("prometheus.yml");
        fs::write(
            &config,
            format!(
                r#"
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: ["{}"]
alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ["127.0.0.1:9093"] }}] }}] }}
scrape_configs:
  - job_name: palisade
    static_configs: [{{ targets: ["127.0.0.1:9477"] }}]
"#,
                packaging("prometheus/palisade.rules.yml").display()
            ),
        )?;
        let mut command = namespace.command("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:9090");
        let running = start(&mut command, folder.path(), "prometheus.log")?;
        let mut prometheus = Self {
            namespace: namespace.path(),
            running,
            folder,
        };
        let log = prometheus.folder.path().join("prometheus.log");
        wait_ready(&mut prometheus.running, &log, || {
            get(&namespace.path(), "http://127.0.0.1:9090/-/ready", &[], &[])
        })?;
        Ok(prometheus)
    }

    /// What an instant query gives now. A query that Prometheus refuses is an error.
    pub fn query(&self, query: &str) -> Result<Vec<Value>> {
        let answer = self.ask("query", &[&format!("query={query}")])?;
        let result = answer["data"]["result"].as_array();
        Ok(result
            .with_context(|| format!("{query}: {answer}"))?
            .clone())
    }

    /// The values of a label over the series that a selector names.
    pub fn label_values(&self, label: &str, selector: &str) -> Result<Vec<Value>> {
        let answer = self.ask(
            &format!("label/{label}/values"),
            &[&format!("match[]={selector}")],
        )?;
        let values = answer["data"].as_array();
        Ok(values
            .with_context(|| format!("{selector}: {answer}"))?
            .clone())
    }

    fn ask(&self, path: &str, parameters: &[&str]) -> Result<Value> {
        let url = format!("http://127.0.0.1:9090/api/v1/{path}");
        let answer = get(&self.namespace, &url, parameters, &["--get"])?;
        let answer: Value =
            serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))?;
        if answer["status"] != "success" {
            bail!("{path} {parameters:?}: {answer}");
        }
        Ok(answer)
    }
}

/// Alertmanager in a namespace, alone and telling nobody.
#[derive(Debug)]
pub struct Alertmanager {
    namespace: PathBuf,
    url: String,
    options: Vec<String>,
    running: Background,
    _folder: TempDir,
}

impl Alertmanager {
    /// On 127.0.0.1:9093, where Prometheus looks for it.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_with(namespace, "http://127.0.0.1:9093", "", &[])
    }

    /// At another address, with a web configuration (TLS, users) and what curl needs to be let in.
    pub fn start_with(
        namespace: &Namespace,
        url: &str,
        web_config: &str,
        curl_options: &[&str],
    ) -> Result<Self> {
        need_tools(&["prometheus-alertmanager", "curl"])?;
        let folder = tempfile::Builder::new()
            .prefix("palisade-alertmanager-")
            .tempdir()?;
        let config = folder.path().join("alertmanager.yml");
        fs::write(
            &config,
            "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n",
        )?;
        let web = folder.path().join("web.yml");
        fs::write(&web, web_config)?;
        let address = url.rsplit('/').next().unwrap_or(url);
        let mut command = namespace.command("prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--web.config.file={}", web.display()))
            .arg("--cluster.listen-address=");
        let log = folder.path().join("alertmanager.log");
        let running = start(&mut command, folder.path(), "alertmanager.log")?;
        let mut manager = Self {
            namespace: namespace.path(),
            url: url.to_owned(),
            options: curl_options.iter().map(|&option| option.into()).collect(),
            running,
            _folder: folder,
        };
        let (namespace, ready) = (manager.namespace.clone(), format!("{url}/-/ready"));
        let options = manager.options.clone();
        wait_ready(&mut manager.running, &log, || {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            get(&namespace, &ready, &[], &options)
        })?;
        Ok(manager)
    }

    /// The alerts that it holds now, by its API.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let answer = get(
            &self.namespace,
            &format!("{}/api/v2/alerts", self.url),
            &[],
            &options,
        )?;
        serde_json::from_str(&answer).with_context(|| answer)
    }
}

/// A file of the packaging folder.
pub fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging")
        .join(file)
}

fn start(command: &mut Command, folder: &Path, log: &str) -> Result<Background> {
    let log = fs::File::create(folder.join(log))?;
    Background::spawn(
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log),
    )
}

fn wait_ready(
    running: &mut Background,
    log: &Path,
    mut ready: impl FnMut() -> Result<String>,
) -> Result<()> {
    let up = wait_until("it is ready", START, || {
        if !running.runs()? {
            bail!("it ended");
        }
        Ok(ready().is_ok())
    });
    up.with_context(|| fs::read_to_string(log).unwrap_or_default())?;
    Ok(())
}

fn get(namespace: &Path, url: &str, parameters: &[&str], options: &[&str]) -> Result<String> {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", namespace.display()))
        .args(["--", "curl", "--silent", "--show-error", "--fail-with-body"])
        .args(["--noproxy", "*", "--max-time", "20"])
        .args(options);
    for parameter in parameters {
        command.args(["--data-urlencode", parameter]);
    }
    succeed(command.arg(url))
}
