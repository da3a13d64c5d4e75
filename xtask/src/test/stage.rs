//! The stages of the test run, in their order.

use std::fmt::{self, Display, Formatter};

use anyhow::Result;
use clap::ValueEnum;

use super::{counts::Counts, executables::Executables, prometheus};
use crate::shell;

/// The packages that run on this machine: all but the kernel programs.
pub const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "firewall-ebpf"];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    Format,
    Lint,
    Build,
    Unit,
    Doc,
    Prometheus,
    System,
}

const ORDER: [Stage; 7] = [
    Stage::Format,
    Stage::Lint,
    Stage::Build,
    Stage::Unit,
    Stage::Doc,
    Stage::Prometheus,
    Stage::System,
];

/// All stages, or those asked for with what they stand on, in order.
pub fn selected(only: &[Stage]) -> Vec<Stage> {
    let wanted = |stage: Stage| {
        only.is_empty()
            || only.contains(&stage)
            || stage == Stage::Build && only.iter().any(|only| only.runs_executables())
    };
    ORDER.into_iter().filter(|&stage| wanted(stage)).collect()
}

impl Stage {
    pub fn needs_root(self) -> bool {
        self == Self::System
    }

    fn runs_executables(self) -> bool {
        matches!(self, Self::Unit | Self::System)
    }

    pub fn says(self) -> &'static str {
        match self {
            Self::Format => "cargo fmt --check",
            Self::Lint => "cargo clippy, warnings are errors",
            Self::Build => "the program and all tests",
            Self::Unit => "tests of each crate",
            Self::Doc => "examples in the documentation",
            Self::Prometheus => "alerting rules, with promtool",
            Self::System => "the program in network namespaces, with real tools",
        }
    }

    pub fn run(
        self,
        executables: &mut Executables,
        filter: &[String],
        counts: &mut Counts,
    ) -> Result<()> {
        match self {
            Self::Format => shell::run(shell::cargo().args(["fmt", "--all", "--check"])),
            Self::Lint => shell::run(shell::cargo().arg("clippy").args(HOST_PACKAGES).args([
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ])),
            Self::Build => executables.build(),
            Self::Unit => executables.run_unit(filter, counts),
            Self::Doc => {
                let mut cargo = shell::cargo();
                cargo.args(["test", "--doc"]).args(HOST_PACKAGES);
                cargo.arg("--").args(filter);
                super::executables::run_counted(&mut cargo, counts)
            }
            Self::Prometheus => prometheus::check(),
            Self::System => executables.run_system(filter, counts),
        }
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Build => "build",
            Self::Unit => "unit",
            Self::Doc => "doc",
            Self::Prometheus => "prometheus",
            Self::System => "system",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_run_tests_bring_the_build_with_them() {
        assert!(selected(&[Stage::System]) == [Stage::Build, Stage::System]);
        assert!(selected(&[Stage::Lint]) == [Stage::Lint]);
        assert!(selected(&[]) == ORDER);
    }
}
