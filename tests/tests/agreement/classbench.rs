//! ClassBench's filter sets with every header of their traces, beside random traffic.

use std::fs;
use std::path::{Path, PathBuf};

use firewall_user::import::classbench::{Actions, import, read_filters, read_headers};
use firewall_user::policy::{MAX_RULES, Policy};

use crate::contest::{Contest, Disagreement, Judges, start};
use crate::generate::random::Random;
use crate::tally::Tally;

/// Random packets for each set besides its trace.
const RANDOM_PACKETS: u64 = 5_000;
/// Between two headers of a trace, in nanoseconds.
const STEP: u64 = 1_000;

/// A filter set and, where it has one, its trace.
#[derive(Clone, Debug)]
pub struct FilterSet {
    pub name: String,
    rules: PathBuf,
    trace: Option<PathBuf>,
}

/// The sets in the folder of real inputs; none where it is not there.
pub fn sets() -> Vec<FilterSet> {
    let data = std::env::var_os("PALISADE_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let folder = data.join("rules/classbench");
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut sets: Vec<FilterSet> = entries
        .filter_map(|entry| {
            let rules = entry.ok()?.path();
            let name = rules.file_name()?.to_str()?.to_owned();
            let trace = rules.with_file_name(format!("{name}_trace"));
            let trace = trace.is_file().then_some(trace);
            (!name.ends_with("_trace")).then_some(FilterSet { name, rules, trace })
        })
        .collect();
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    sets
}

impl FilterSet {
    /// Judges every `step`th header of the trace under the set, then random traffic.
    pub fn judge(&self, judges: Judges, step: usize) -> Result<Tally, Disagreement> {
        let read = |path: &Path| {
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let filters = read_filters(&read(&self.rules), &self.name)
            .unwrap_or_else(|refused| panic!("{refused}"));
        let imported = import(&filters, "filter", Actions::Alternate);
        if imported.rules > MAX_RULES {
            println!(
                "{}: left out, {} rules do not fit",
                self.name, imported.rules
            );
            return Ok(Tally::default());
        }
        let (policy, _) = Policy::parse(&imported.text, &self.name, Path::new(""))
            .unwrap_or_else(|refused| panic!("{}: {refused}", self.name));
        let name = format!("set {}", self.name);
        let mut contest = Contest::new(name.clone(), policy, judges, start(judges))?;
        if let Some(trace) = &self.trace {
            let headers = read_headers(&read(trace), &self.name)
                .unwrap_or_else(|refused| panic!("{refused}"));
            for (index, header) in headers.iter().enumerate().step_by(step) {
                contest.frame(&header.frame(), index as u64 * STEP)?;
            }
        }
        contest.traffic(Random::new(filters.len() as u64), RANDOM_PACKETS)?;
        contest.end(&name)
    }
}
