//! What `rule` and `set` share: finding the policy file, changing it safely, and putting the change
//! in force.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::client::{Client, NoDaemon, Refused, read};
use super::session::own_session;
use super::{EXIT_FAILED, Global, output};
use crate::daemon::documents::{ApplyReport, ApplyRequest, PolicyDocument, Status};
use crate::policy::edit::{Saved, Transaction};
use crate::policy::{Finding, Policy, PolicyErrors, render};

/// The policy where no daemon says otherwise.
const DEFAULT_POLICY: &str = "/etc/palisade/policy.toml";

/// Which policy.
#[derive(Clone, Debug, clap::Args)]
pub struct PolicyFile {
    /// The policy file; without it, the daemon's own, or else /etc/palisade/policy.toml
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Which policy to change, and how far.
#[derive(Debug, clap::Args)]
pub struct Changing {
    #[command(flatten)]
    pub file: PolicyFile,
    /// Change the file only; put nothing in force
    #[arg(long)]
    pub no_apply: bool,
    /// Put the change in force even if it cuts an ssh session, the gateway or the name servers
    #[arg(long)]
    pub force: bool,
    /// Why, for the audit log and the history.
    #[arg(skip)]
    pub reason: Option<String>,
}

/// The same for a verb that is told why; `rule add` has the rule's own reason instead.
#[derive(Debug, clap::Args)]
pub struct Explained {
    #[command(flatten)]
    changing: Changing,
    /// Why, for the audit log and the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Explained {
    pub fn changing(self) -> Changing {
        Changing {
            reason: self.reason,
            ..self.changing
        }
    }
}

/// What became of a change.
enum InForce {
    Generation(u64),
    /// Not put in force, and why.
    Not(String),
}

impl PolicyFile {
    /// The path of the policy.
    pub fn path(&self, global: &Global) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.policy {
            return Ok(path.clone());
        }
        match daemon_policy(global) {
            Err(error) if error.is::<NoDaemon>() => Ok(DEFAULT_POLICY.into()),
            found => found.context("which policy is meant is not known; name it with --policy"),
        }
    }

    /// Reads the policy for a verb that shows its rules and not what is in its sets. Where the daemon's own policy
    /// is in force as it is written, its long lists are right and need not be read.
    pub fn load_rules(
        &self,
        global: &Global,
    ) -> anyhow::Result<Result<(PathBuf, Policy), ExitCode>> {
        match self.policy.is_none().then(|| in_force(global)).flatten() {
            Some(known) => Ok(Ok(known)),
            None => self.load(global),
        }
    }

    /// Reads the policy for a verb that shows something of it; the error is shown already.
    pub fn load(&self, global: &Global) -> anyhow::Result<Result<(PathBuf, Policy), ExitCode>> {
        let path = self.path(global)?;
        Ok(match Policy::load(&path) {
            Ok((policy, _)) => Ok((path, policy)),
            Err(refused) => Err(show(&refused)),
        })
    }
}

fn show(refused: &PolicyErrors) -> ExitCode {
    render::show(&refused.errors, refused.more);
    ExitCode::from(EXIT_FAILED)
}

impl Changing {
    /// Changes the policy's text, checks the outcome, writes it and puts it in force. If it is refused
    /// there, the file is put back.
    pub fn change_policy(
        &self,
        global: &Global,
        done: &str,
        change: impl FnOnce(&str, &Policy) -> anyhow::Result<String>,
    ) -> anyhow::Result<ExitCode> {
        self.change_policy_telling(global, done, Map::new(), change)
    }

    /// As [`Changing::change_policy`]; the JSON document holds `telling` besides.
    pub fn change_policy_telling(
        &self,
        global: &Global,
        done: &str,
        telling: Map<String, Value>,
        change: impl FnOnce(&str, &Policy) -> anyhow::Result<String>,
    ) -> anyhow::Result<ExitCode> {
        let path = self.file.path(global)?;
        let transaction = Transaction::begin(&path)?;
        let (text, policy, before) = match self.read(&path)? {
            Ok(read) => read,
            Err(code) => return Ok(code),
        };
        let (mark, body) = match text.strip_prefix('\u{feff}') {
            Some(body) => ("\u{feff}", body),
            None => ("", text.as_str()),
        };
        let edited = change(body, &policy)?;
        let name = path.display().to_string();
        let base = path.parent().unwrap_or(Path::new(""));
        let findings = match Policy::parse(&edited, &name, base) {
            Ok((_, findings)) => findings,
            Err(refused) => {
                eprintln!(
                    "palisade: nothing is changed; with the change the policy would be wrong:"
                );
                return Ok(show(&refused));
            }
        };
        let saved = transaction.replace(&path, format!("{mark}{edited}").as_bytes())?;
        self.finish(
            global,
            &transaction,
            &saved,
            &path,
            done,
            &newly(findings, &before),
            telling,
        )
    }

    /// As [`Changing::change_policy`], for a file that a set comes from.
    pub fn change_set_file(
        &self,
        global: &Global,
        done: &str,
        file: &Path,
        change: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<ExitCode> {
        let path = self.file.path(global)?;
        let transaction = Transaction::begin(&path)?;
        let before = match self.read(&path)? {
            Ok((_, _, before)) => before,
            Err(code) => return Ok(code),
        };
        let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let saved = transaction.replace(file, &change(&bytes)?)?;
        // The set is read with the policy that it belongs to.
        let findings = match Policy::load(&path) {
            Ok((_, findings)) => findings,
            Err(refused) => {
                transaction.restore(&saved)?;
                eprintln!("palisade: nothing is changed; with the change the set would be wrong:");
                return Ok(show(&refused));
            }
        };
        self.finish(
            global,
            &transaction,
            &saved,
            &path,
            done,
            &newly(findings, &before),
            Map::new(),
        )
    }

    /// The text of the policy, what it means, and what there is to say about it already.
    #[expect(
        clippy::type_complexity,
        reason = "taken apart at once by its two callers"
    )]
    fn read(
        &self,
        path: &Path,
    ) -> anyhow::Result<Result<(String, Policy, Vec<Finding>), ExitCode>> {
        match Policy::load(path) {
            Ok((policy, findings)) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("{} cannot be read", path.display()))?;
                Ok(Ok((text, policy, findings)))
            }
            Err(refused) => {
                eprintln!("palisade: nothing is changed; the policy is wrong as it is:");
                Ok(Err(show(&refused)))
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "called twice, with names that say what each is"
    )]
    fn finish(
        &self,
        global: &Global,
        transaction: &Transaction,
        saved: &Saved,
        path: &Path,
        done: &str,
        warnings: &[Finding],
        telling: Map<String, Value>,
    ) -> anyhow::Result<ExitCode> {
        let in_force = match self.apply(global, path) {
            Ok(in_force) => in_force,
            Err(error) => {
                transaction.restore(saved)?;
                return Err(error.context("nothing is changed; the daemon refuses the policy"));
            }
        };
        render::show(warnings, 0);
        if global.json {
            let (applied, generation, reason) = match &in_force {
                InForce::Generation(generation) => (true, Some(*generation), None),
                InForce::Not(reason) => (false, None, Some(reason.as_str())),
            };
            let mut document = json!({
                "policy": path,
                "done": done,
                "applied": applied,
                "generation": generation,
                "not_applied": reason,
                "warnings": warnings.iter().map(Finding::to_json).collect::<Vec<Value>>(),
            });
            for (key, value) in telling {
                document[key] = value;
            }
            output::json(&document)?;
        } else {
            output::line(&match in_force {
                InForce::Generation(generation) => {
                    format!("{done}; generation {generation} is in force")
                }
                InForce::Not(reason) => format!("{done}; not put in force: {reason}"),
            })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn apply(&self, global: &Global, path: &Path) -> anyhow::Result<InForce> {
        if self.no_apply {
            return Ok(InForce::Not("--no-apply".to_owned()));
        }
        let theirs = match daemon_policy(global) {
            Ok(theirs) => theirs,
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => return Ok(InForce::Not(format!("{error:#}"))),
        };
        if !same_file(&theirs, path) {
            let theirs = theirs.display();
            return Ok(InForce::Not(format!(
                "the daemon's policy is {theirs}; `palisade apply FILE` puts this one in force"
            )));
        }
        let request = ApplyRequest {
            force: self.force,
            tentative: true,
            ssh_connection: own_session(),
            ..ApplyRequest::default()
        };
        let client = Client::new(&global.socket)?.because(self.reason.clone());
        match client.post("/v1/apply", &request) {
            Ok(answer) => Ok(InForce::Generation(read::<ApplyReport>(answer)?.generation)),
            Err(error) if error.is::<NoDaemon>() => Ok(InForce::Not(format!("{error:#}"))),
            Err(error) => Err(error),
        }
    }
}

/// The rules of the daemon's own policy and its file, if that is in force.
fn in_force(global: &Global) -> Option<(PathBuf, Policy)> {
    let answer = Client::new(&global.socket).ok()?.get("/v1/policy").ok()?;
    let known: PolicyDocument = read(answer).ok()?;
    let path = known.file.filter(|path| path.is_absolute())?;
    if path.parent() != Some(&known.base) || Policy::text_of(&path).ok()? != known.text {
        return None;
    }
    let name = path.display().to_string();
    let policy = Policy::parse_without_lists(&known.text, &name, &known.base).ok()?;
    Some((path, policy))
}

/// The policy file of the daemon that answers.
fn daemon_policy(global: &Global) -> anyhow::Result<PathBuf> {
    let status: Status = read(Client::new(&global.socket)?.get("/v1/status")?)?;
    if !status.policy.file.is_absolute() {
        bail!(
            "the daemon names its policy by a relative path, {}",
            status.policy.file.display()
        );
    }
    Ok(status.policy.file)
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// What is to be said about the policy that was not so before.
fn newly(findings: Vec<Finding>, before: &[Finding]) -> Vec<Finding> {
    let before: HashSet<&str> = before.iter().map(|old| old.message.as_str()).collect();
    findings
        .into_iter()
        .filter(|finding| !before.contains(finding.message.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::edit::{add_to_file, remove_rule};

    const POLICY: &str = "version = 1\n[sets]\na = { file = \"a.netset\" }\n\n# why\n[[rule]]\nname = \"r\"\naction = \"drop\"\nfrom = \"a\"\n";

    /// A folder with a policy, and nobody on the control socket.
    fn folder() -> (tempfile::TempDir, Global, Changing) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
        fs::write(folder.path().join("a.netset"), "198.51.100.7\n").unwrap();
        let global = Global {
            socket: folder.path().join("no.sock"),
            json: true,
        };
        let changing = Changing {
            file: PolicyFile {
                policy: Some(folder.path().join("policy.toml")),
            },
            no_apply: false,
            force: false,
            reason: None,
        };
        (folder, global, changing)
    }

    #[test]
    fn without_a_daemon_a_change_goes_to_the_file() {
        let (folder, global, changing) = folder();
        let code = changing
            .change_policy(&global, "done", |text, _| Ok(remove_rule(text, "r")?))
            .unwrap();
        assert_eq!(code, ExitCode::SUCCESS);
        let text = fs::read_to_string(folder.path().join("policy.toml")).unwrap();
        assert_eq!(text, "version = 1\n[sets]\na = { file = \"a.netset\" }\n");
    }

    #[test]
    fn a_change_that_makes_the_policy_wrong_leaves_the_file_as_it_was() {
        let (folder, global, changing) = folder();
        let code = changing
            .change_policy(&global, "done", |text, _| Ok(format!("{text}prot = 1\n")))
            .unwrap();
        assert_eq!(code, ExitCode::from(EXIT_FAILED));
        let text = fs::read_to_string(folder.path().join("policy.toml")).unwrap();
        assert_eq!(text, POLICY);
    }

    #[test]
    fn a_change_that_makes_a_set_s_file_wrong_is_taken_back() {
        let (folder, global, changing) = folder();
        let file = folder.path().join("a.netset");
        let code = changing
            .change_set_file(&global, "done", &file, |_| Ok(b"nonsense\n".to_vec()))
            .unwrap();
        assert_eq!(code, ExitCode::from(EXIT_FAILED));
        assert_eq!(fs::read(&file).unwrap(), b"198.51.100.7\n");
        let address = "2001:db8::/32".parse().unwrap();
        changing
            .change_set_file(&global, "done", &file, |bytes| {
                Ok(add_to_file(bytes, &[address]))
            })
            .unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"198.51.100.7\n2001:db8::/32\n");
    }
}
