//! The result: for people as tables in a document and as plots, for programs as JSON.

pub mod merge;
pub mod plots;
mod tables;

use palisade_tests::document::Section;
use serde::Serialize;

use crate::cases::lines::Lines;
use crate::contender::{Heat, Line};
use crate::daemon::Watching;
use crate::load::LoadTime;
use crate::machine::Machine;
use crate::operations::Operation;
use crate::reaction::Reaction;
use crate::subject::Program;
use crate::targets::Target;
use crate::wire::filters::Kind;
use crate::wire::{Goodput, Throughput};

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub quick: bool,
    pub rounds: u32,
    pub runs_per_round: u32,
    pub targets: Vec<Target>,
    pub packets: Vec<Line>,
    pub lines: Vec<Lines>,
    pub programs: Vec<Program>,
    pub loading: Vec<LoadTime>,
    pub throughput: Vec<Throughput>,
    pub goodput: Vec<Goodput>,
    pub daemon: Vec<Watching>,
    pub reaction: Vec<Reaction>,
    pub operations: Vec<Operation>,
    /// What could not be measured, and why.
    pub not_measured: Vec<String>,
}

impl Report {
    /// What a case costs over its floor, in nanoseconds; IPv4 and inbound.
    pub fn over(&self, subject: &str, case: &str, heat: Heat) -> Option<i64> {
        self.line(subject, case, heat, false)
            .map(|line| line.over_empty_ns)
    }

    pub fn line(&self, subject: &str, case: &str, heat: Heat, v6: bool) -> Option<&Line> {
        self.packets.iter().find(|line| {
            let label = &line.label;
            label.subject == subject
                && label.case == case
                && label.heat == heat
                && label.v6 == v6
                && !label.egress
        })
    }

    /// Frames a second of a filter.
    pub fn rate(
        &self,
        filter: Kind,
        (rules, entries, listed): (usize, usize, &str),
        random_sources: bool,
    ) -> Option<f64> {
        let fits = |line: &&Throughput| {
            line.filter == filter.name()
                && (line.rules, line.entries, line.listed) == (rules, entries, listed)
                && line.random_sources == random_sources
        };
        self.throughput
            .iter()
            .find(fits)
            .map(|line| line.per_second)
    }

    /// What is left of the requests that the same filter served the same clients without a flood.
    pub fn goodput_share(&self, line: &Goodput) -> Option<f64> {
        let calm = self.goodput.iter().find(|calm| {
            calm.strength == 0
                && (calm.filter, calm.clients, calm.queues)
                    == (line.filter, line.clients, line.queues)
        })?;
        Some(line.requests / calm.requests.max(1.0))
    }

    pub fn print(&self) {
        println!("{}", self.machine.line());
        for section in self.sections() {
            println!("\n{}\n\n{}", section.title, section.text);
        }
    }
}
