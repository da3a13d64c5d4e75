//! What a developer or CI does with Palisade, in one place and in the project's own language:
//! `cargo xtask setup`, `build`, `run`, `test`, `bench`, `evaluate`, `fuzz`, `agree`, `kernels`, `package`. One subcommand, one file.

mod agree;
mod bench;
mod book;
mod build;
mod evaluate;
mod fuzz;
mod kernels;
mod package;
mod run;
mod sandbox;
mod setup;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
#[command(about = "Set up, build, run and test Palisade")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing; says each step and may be repeated at any time
    Setup(setup::Arguments),
    /// Build everything; with --release it leaves target/release/palisade
    Build(build::Arguments),
    /// Show Palisade at work in network namespaces, or guard a real interface
    Run(run::Arguments),
    /// Check formatting and lints and run every test
    Test(test::Arguments),
    /// Make the docs a book to read in a browser
    Book(book::Arguments),
    /// Measure
    Bench(bench::Arguments),
    /// Measure what detection is worth: labelled captures, and live attacks among ordinary visitors
    Evaluate(evaluate::Arguments),
    /// Run the property tests of the shared code with very many cases
    Fuzz(fuzz::Arguments),
    /// Compare kernel programs, host engine and oracle on millions of pairs of policy and packet
    Agree(agree::Arguments),
    /// Run the whole-system tests on Debian's kernels, in virtual machines
    Kernels(kernels::Arguments),
    /// Make a Debian package and a tarball with an install script
    Package(package::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup(arguments) => setup::main(&arguments),
        Task::Build(arguments) => build::main(&arguments),
        Task::Run(arguments) => run::main(arguments),
        // Prints its own failure, because its last line is the count.
        Task::Test(arguments) => return test::main(&arguments),
        Task::Book(arguments) => book::main(&arguments),
        Task::Bench(arguments) => bench::main(arguments),
        Task::Evaluate(arguments) => evaluate::main(&arguments),
        Task::Fuzz(arguments) => fuzz::main(&arguments),
        Task::Agree(arguments) => agree::main(&arguments),
        Task::Kernels(arguments) => kernels::main(&arguments),
        Task::Package(arguments) => package::main(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
