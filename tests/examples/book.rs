//! Builds the book into the folder that is named: what `cargo xtask book` starts.

use std::path::Path;

use anyhow::{Context, Result};

#[path = "../book/mod.rs"]
mod book;

fn main() -> Result<()> {
    let into = std::env::args_os()
        .nth(1)
        .context("name the folder that the book goes to")?;
    let into = std::path::absolute(Path::new(&into))?;
    book::build(&into)?;
    println!("the book is in {}", into.join("index.html").display());
    Ok(())
}
