//! The attacks: real tools where there is one, forged frames where the tool would need addresses
//! that are somebody's. Each is bounded in count and in time.

mod floods;
mod logins;
mod outgoing;
mod requests;
mod scans;

use std::process::{Command, Stdio};

use anyhow::Result;

use super::errand::Errand;
use super::forge::{self, Dice};
use super::stage::Stage;
use crate::namespace::Namespace;
use crate::process::Background;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// What happens, as one would type it where there is something to type.
    pub what: &'static str,
    /// Any of these kinds is right.
    pub kinds: &'static [&'static str],
    /// These are true as well.
    pub also: &'static [&'static str],
    /// Tools that it needs.
    pub needs: &'static [&'static str],
    /// Its packets, for tcpdump.
    pub packets: &'static str,
    /// It is ended after so many seconds.
    pub seconds: u64,
    /// Part of a quick run.
    pub quick: bool,
    /// How the daemon answers alerts: lines of its settings.
    pub answer: &'static str,
    pub start: fn(&Stage) -> Result<Running>,
}

/// Attacks in the order of the report.
pub fn all() -> Vec<&'static Attack> {
    [
        scans::ALL,
        floods::ALL,
        requests::ALL,
        logins::ALL,
        outgoing::ALL,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An attack under way, which ends when this goes.
#[derive(Default)]
pub struct Running {
    tools: Vec<Background>,
    errands: Vec<Errand>,
    /// Files of the tools.
    _folder: Option<tempfile::TempDir>,
}

impl Running {
    /// A tool's command line, split at spaces.
    fn tool(namespace: &Namespace, line: &str) -> Result<Self> {
        Self::default().and(namespace, line)
    }

    /// One more.
    fn and(mut self, namespace: &Namespace, line: &str) -> Result<Self> {
        self.tools.push(namespace.spawn(line)?);
        Ok(self)
    }

    fn command(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self {
            tools: vec![Background::spawn(&mut command)?],
            ..Self::default()
        })
    }

    /// Forged packets from outside.
    fn forged(
        stage: &Stage,
        rate: u64,
        most: u64,
        packet: impl FnMut(&mut Dice) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let outside = &stage.world.outside;
        let wire = crate::topology::WIRE;
        let errand = forge::send(outside, wire, stage.edge, (rate, most), packet)?;
        Ok(Self::errand(errand))
    }

    fn errand(errand: Errand) -> Self {
        Self {
            errands: vec![errand],
            ..Self::default()
        }
    }

    /// Whether everything ended by itself.
    pub fn is_over(&mut self) -> Result<bool> {
        for tool in &mut self.tools {
            if tool.runs()? {
                return Ok(false);
            }
        }
        Ok(self.errands.iter().all(Errand::is_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_have_names_of_their_own_and_a_kind_to_be_detected_as() {
        let attacks = all();
        for attack in &attacks {
            let same = attacks.iter().filter(|other| other.name == attack.name);
            assert_eq!(same.count(), 1, "{}", attack.name);
            assert!(
                !attack.kinds.is_empty() && attack.seconds > 0,
                "{}",
                attack.name
            );
        }
    }
}
