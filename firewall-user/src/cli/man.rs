//! `palisade man`: the manual, made from the definition of the command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Cli, EXIT_USAGE, Global};

/// Arguments of `palisade man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The verbs to describe, such as `rule add`; without one, the whole tool
    #[arg(value_name = "VERB")]
    pub verb: Vec<String>,
    /// Write the pages of the whole tool and of every verb into this folder instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "verb")]
    pub directory: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(_global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &arguments.directory {
        write_all(folder)
            .with_context(|| format!("the pages cannot be written to {}", folder.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(page) = page(&arguments.verb)? else {
        eprintln!(
            "palisade: there is no verb \"{}\"; `palisade --help` lists them",
            arguments.verb.join(" ")
        );
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    std::io::stdout().write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `palisade.1`, `palisade-rule.1`, `palisade-rule-add.1` and so on.
fn write_all(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = Cli::command();
    command.build();
    write_with_verbs(command, folder)
}

fn write_with_verbs(command: Command, folder: &Path) -> std::io::Result<()> {
    let verbs: Vec<Command> = command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help" && !verb.is_hide_set())
        .cloned()
        .collect();
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    std::fs::write(folder.join(format!("{name}.1")), page)?;
    for verb in verbs {
        write_with_verbs(verb, folder)?;
    }
    Ok(())
}

/// The page in roff; `None` if there is no such verb.
fn page(verb: &[String]) -> std::io::Result<Option<Vec<u8>>> {
    let mut command = Cli::command();
    command.build();
    for name in verb {
        let Some(found) = command.find_subcommand(name) else {
            return Ok(None);
        };
        let found = found.clone();
        command = found;
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(Some(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_verb_and_each_verb_has_its_page() {
        let whole = String::from_utf8(page(&[]).unwrap().unwrap()).unwrap();
        for verb in Cli::command().get_subcommands() {
            let name = verb.get_name();
            assert!(whole.contains(&format!("palisade\\-{name}")), "{name}");
            let own = page(&[name.to_owned()]).unwrap().unwrap();
            assert!(
                String::from_utf8(own).unwrap().contains(".SH SYNOPSIS"),
                "{name}"
            );
        }
    }

    #[test]
    fn a_folder_gets_a_page_for_every_verb_and_every_verb_below_it() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path()).unwrap();
        for page in [
            "palisade",
            "palisade-check",
            "palisade-rule",
            "palisade-rule-add",
        ] {
            let text = std::fs::read_to_string(folder.path().join(format!("{page}.1"))).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
    }

    #[test]
    fn an_unknown_verb_has_no_page() {
        assert_eq!(page(&["ruel".to_owned()]).unwrap(), None);
    }
}
