//! `palisade import`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::progress::Audience;
use super::{EXIT_FAILED, Global, new_file, output};
use crate::import::classbench::{self, Actions, Imported};
use crate::policy::{MAX_SET_FILE_BYTES, render};

/// Arguments of `palisade import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    format: Format,
}

/// What can be imported.
#[derive(Debug, Subcommand)]
enum Format {
    /// A filter set of the ClassBench benchmark
    Classbench(Classbench),
}

#[derive(Debug, clap::Args)]
struct Classbench {
    /// The filter set
    file: PathBuf,
    /// Where to write the policy; without it, to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// What the rules do; filters say only what they match
    #[arg(long, value_enum, default_value_t)]
    action: Actions,
    /// What the rules' names begin with; without it, the file's name up to the first "_"
    #[arg(long, value_parser = rule_prefix)]
    name: Option<String>,
}

/// Runs the verb.
pub fn run(global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    match arguments.format {
        Format::Classbench(arguments) => classbench(global, &arguments),
    }
}

fn classbench(global: &Global, arguments: &Classbench) -> anyhow::Result<ExitCode> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => name_of(&arguments.file),
    };
    let importing = Audience::new(global).waiting("importing");
    let text = read(&arguments.file)?;
    let filters = match classbench::read_filters(&text, &arguments.file.display().to_string()) {
        Ok(filters) => filters,
        Err(refused) => {
            drop(importing);
            render::show(&refused.errors, refused.more);
            return Ok(ExitCode::from(EXIT_FAILED));
        }
    };
    let imported = classbench::import(&filters, &name, arguments.action);
    drop(importing);
    if let Some(path) = &arguments.output {
        new_file::write(path, &imported.text, arguments.force)?;
    } else if !global.json {
        io::stdout().lock().write_all(imported.text.as_bytes())?;
    }
    if global.json {
        output::json(&report(arguments, filters.len(), &imported))?;
    } else {
        tell(filters.len(), &imported);
    }
    Ok(ExitCode::SUCCESS)
}

/// What people should know beside the policy; standard output may hold the policy itself.
fn tell(filters: usize, imported: &Imported) {
    let some = |what: &[(usize, String)]| {
        let (number, why) = what.first()?;
        let filters = output::counted(what.len(), "filter");
        Some((filters, format!("number {number}: {why}")))
    };
    if let Some((filters, first)) = some(&imported.left_out) {
        eprintln!("palisade: {filters} left out that no packet can match, first {first}");
    }
    if let Some((filters, first)) = some(&imported.widened) {
        eprintln!("palisade: {filters} matched more widely than written, first {first}");
    }
    eprintln!(
        "palisade: {} of {}",
        output::counted(imported.rules, "rule"),
        output::counted(filters, "filter")
    );
}

fn report(arguments: &Classbench, filters: usize, imported: &Imported) -> Value {
    let list = |what: &[(usize, String)]| -> Vec<Value> {
        let entry = |(number, why): &(usize, String)| json!({ "filter": number, "why": why });
        what.iter().map(entry).collect()
    };
    json!({
        "file": arguments.file,
        "output": arguments.output,
        "policy": arguments.output.is_none().then_some(&imported.text),
        "filters": filters,
        "rules": imported.rules,
        "left_out": list(&imported.left_out),
        "widened": list(&imported.widened),
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    let size = fs::metadata(path)
        .with_context(|| format!("{} cannot be read", path.display()))?
        .len();
    if size > MAX_SET_FILE_BYTES {
        bail!(
            "{} has {size} bytes; a filter set of more than {MAX_SET_FILE_BYTES} is not read",
            path.display()
        );
    }
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The beginning of the rules' names: the file's name up to the first "_", as far as a name may hold it.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let word = stem.split('_').next().unwrap_or_default();
    rule_prefix(word).unwrap_or_else(|_| "filter".to_owned())
}

/// A beginning of rule names. With the number it has to stay a name.
fn rule_prefix(text: &str) -> Result<String, String> {
    const LONGEST: usize = 50;
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    if text.is_empty() || text.len() > LONGEST || !text.chars().all(allowed) {
        return Err(format!(
            "it takes 1 to {LONGEST} letters, digits, \"_\", \".\" and \"-\""
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_after_the_file_as_far_as_its_name_allows() {
        for (file, name) in [
            ("sets/acl1_10k", "acl1"),
            ("fw.rules", "fw"),
            ("_x", "filter"),
            ("my set", "filter"),
            ("..", "filter"),
        ] {
            assert_eq!(name_of(Path::new(file)), name, "{file}");
        }
    }
}
