//! The book: docs/ as mdBook renders it, with chapters that are made from the command line's own definition
//! and from the reader's of policies, so that they cannot disagree with them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::CommandFactory;
use firewall_user::cli::Cli;
use firewall_user::policy::reference;
use mdbook_driver::MDBook;
use mdbook_driver::book::{BookItem, Chapter};

/// The folder that holds the pages.
pub fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Builds the book into a folder.
pub fn build(into: &Path) -> Result<()> {
    let mut book = MDBook::load(docs())
        .map_err(|error| error.context("docs/book.toml or docs/SUMMARY.md cannot be read"))?;
    book.config.build.build_dir = into.to_owned();
    add(
        &mut book,
        "Running Palisade",
        "Policy reference",
        "policy-reference.md",
        reference(),
    )?;
    add(
        &mut book,
        "Metrics",
        "Command line",
        "command-line.md",
        command_line(),
    )?;
    book.build()
        .map_err(|error| error.context("the book cannot be built"))
}

/// Adds a chapter before another one.
fn add(book: &mut MDBook, before: &str, name: &str, path: &str, content: String) -> Result<()> {
    let at = book
        .book
        .items
        .iter()
        .position(|item| matches!(item, BookItem::Chapter(chapter) if chapter.name == before))
        .with_context(|| {
            format!("docs/SUMMARY.md has no chapter \"{before}\", before which \"{name}\" goes")
        })?;
    let chapter = Chapter::new(name, content, path, Vec::new());
    book.book.items.insert(at, BookItem::Chapter(chapter));
    Ok(())
}

/// A page with each verb's `--help`.
pub fn command_line() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut page = "# Command line\n\nWhat `palisade VERB --help` says. `palisade man VERB` prints the manual page, \
                    `palisade completions SHELL` what a shell completes.\n"
        .to_owned();
    add_verbs(&command, "palisade", 2, &mut page);
    page
}

fn add_verbs(command: &clap::Command, name: &str, level: usize, page: &mut String) {
    for verb in command.get_subcommands() {
        if verb.get_name() == "help" || verb.is_hide_set() {
            continue;
        }
        let name = format!("{name} {}", verb.get_name());
        let help = verb.clone().render_long_help().to_string();
        let heading = "#".repeat(level);
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n{heading} {name}\n\n```text\n{}\n```\n",
            help.trim_end()
        );
        add_verbs(verb, &name, level + 1, page);
    }
}
