//! `cargo xtask book`: the docs as a book to read in a browser.
//!
//! The builder is an example of the tests' crate: mdBook is a dependency of the tests only.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub struct Arguments {
    /// The folder that it goes to; target/book without it
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub fn main(arguments: &Arguments) -> Result<()> {
    let into = match &arguments.output {
        Some(folder) => std::path::absolute(folder)?,
        None => shell::target().join("book"),
    };
    let mut cargo = shell::cargo();
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "palisade-tests",
        "--example",
        "book",
        "--",
    ]);
    shell::run(cargo.arg(into))
}
