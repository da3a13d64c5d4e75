//! `palisade man`: the manual, made from the definition of the command line.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, EXIT_USAGE, Global};

/// Arguments of `palisade man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The verbs to describe, such as `rule add`; without one, the whole tool
    #[arg(value_name = "VERB")]
    pub verb: Vec<String>,
}

/// Runs the verb.
pub fn run(_global: &Global, arguments: Args) -> anyhow::Result<ExitCode> {
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
    fn an_unknown_verb_has_no_page() {
        assert_eq!(page(&["ruel".to_owned()]).unwrap(), None);
    }
}
