//! The command line: one file per verb.

mod alerts;
mod apply;
mod audit;
mod ban;
mod bans;
mod check;
pub mod client;
mod completions;
mod confirm;
mod cookies;
mod daemon;
mod detach;
mod diff;
mod doctor;
mod endpoint;
mod explain;
mod history;
mod import;
mod incidents;
mod init;
mod lifelines;
mod man;
mod new_file;
mod notify;
pub mod output;
mod policy_file;
mod progress;
mod replay;
mod report;
mod rollback;
mod rule;
mod score;
mod session;
mod set;
mod status;
mod style;
mod surface;
mod top;
mod unban;
mod watch;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::terminal;

/// An eBPF perimeter firewall and traffic anomaly detector.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every verb takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The daemon's control socket
    #[arg(
        long,
        global = true,
        env = "PALISADE_SOCKET",
        value_name = "PATH",
        default_value = "/run/palisade/control.sock"
    )]
    pub socket: PathBuf,
    /// Print one JSON document (one per line where it streams)
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Propose a first policy for this host, from what it serves and whom it talks to
    Init(init::Args),
    /// Whether this host can carry the fence, and what to do about what is in its way
    Doctor(doctor::Args),
    /// Read, validate and lint a policy
    Check(check::Args),
    /// Run in the foreground (systemd starts this)
    Daemon(daemon::Args),
    /// What is attached where, which generation, totals
    Status(status::Args),
    /// Put a policy in force, at once or on trial
    Apply(apply::Args),
    /// Keep the policy that is on trial
    Confirm(confirm::Args),
    /// Go back to the policy before, or to an entry of the history
    Rollback(rollback::Args),
    /// The policies that were in force: when, who, why, what changed
    History(history::Args),
    /// Take the fence down (stopping the daemon leaves it up)
    Detach(detach::Args),
    /// List, show, add or remove rules
    Rule(rule::Args),
    /// List, show, add to or remove from sets
    Set(set::Args),
    /// Block a source for a time
    Ban(ban::Args),
    /// Lift a ban
    Unban(unban::Args),
    /// List the bans in force
    Bans(bans::Args),
    /// How SYN cookies stand; send them for a service, never, or when alerts ask for them
    Cookies(cookies::Args),
    /// What can be reached: every listening socket against the policy and the traffic seen
    Surface(surface::Args),
    /// Live: who sends most, services, rules, incidents; bans from there
    Top(top::Args),
    /// Dropped packets as they come, with reason and rule
    Watch(watch::Args),
    /// List alerts
    Alerts(alerts::Args),
    /// List incidents: alerts that belong together
    Incidents(incidents::Args),
    /// All that is known and was done about a source
    Why(why::Args),
    /// Who is told of alerts, and whether that works
    Notify(notify::Args),
    /// Who changed what and why, and whether that record is whole
    Audit(audit::Args),
    /// A review for auditors: rules, changes, refusals, incidents, and whether the record holds
    Report(report::Args),
    /// The verdict on a packet, the rule and each step
    Explain(explain::Args),
    /// Run a capture through a policy
    Replay(replay::Args),
    /// What a new policy would decide otherwise than the old one
    Diff(diff::Args),
    /// Run the learned baseline over a recorded series
    Score(score::Args),
    /// Turn a rule set of another program into a policy
    Import(import::Args),
    /// Print shell completions
    Completions(completions::Args),
    /// Print the man page
    Man(man::Args),
}

/// Exit code: refused or failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: wrong usage.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: no daemon answers.
pub const EXIT_NO_DAEMON: u8 = 3;

/// Reads the command line; help and complaints about it go out in colour as all else does.
fn parse() -> Cli {
    // Left alone, it would colour a dumb terminal wherever continuous integration says that it runs.
    let colour = if terminal::may_have_colour() {
        ColorChoice::Auto
    } else {
        ColorChoice::Never
    };
    let matches = Cli::command().color(colour).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    let Cli { global, command } = parse();
    if !matches!(command, Command::Daemon(_)) {
        die_of_closed_pipes();
    }
    let result = match command {
        Command::Init(arguments) => init::run(&global, arguments),
        Command::Doctor(arguments) => doctor::run(&global, arguments),
        Command::Check(arguments) => check::run(&global, arguments),
        Command::Daemon(arguments) => daemon::run(&global, arguments),
        Command::Status(arguments) => status::run(&global, arguments),
        Command::Apply(arguments) => apply::run(&global, arguments),
        Command::Confirm(arguments) => confirm::run(&global, arguments),
        Command::Rollback(arguments) => rollback::run(&global, arguments),
        Command::History(arguments) => history::run(&global, arguments),
        Command::Detach(arguments) => detach::run(&global, arguments),
        Command::Rule(arguments) => rule::run(&global, arguments),
        Command::Set(arguments) => set::run(&global, arguments),
        Command::Ban(arguments) => ban::run(&global, arguments),
        Command::Unban(arguments) => unban::run(&global, arguments),
        Command::Bans(arguments) => bans::run(&global, arguments),
        Command::Cookies(arguments) => cookies::run(&global, arguments),
        Command::Surface(arguments) => surface::run(&global, arguments),
        Command::Top(arguments) => top::run(&global, arguments),
        Command::Watch(arguments) => watch::run(&global, arguments),
        Command::Alerts(arguments) => alerts::run(&global, arguments),
        Command::Incidents(arguments) => incidents::run(&global, arguments),
        Command::Why(arguments) => why::run(&global, arguments),
        Command::Notify(arguments) => notify::run(&global, arguments),
        Command::Audit(arguments) => audit::run(&global, arguments),
        Command::Report(arguments) => report::run(&global, arguments),
        Command::Explain(arguments) => explain::run(&global, arguments),
        Command::Replay(arguments) => replay::run(&global, arguments),
        Command::Diff(arguments) => diff::run(&global, arguments),
        Command::Score(arguments) => score::run(&global, arguments),
        Command::Import(arguments) => import::run(&global, arguments),
        Command::Completions(arguments) => completions::run(&global, arguments),
        Command::Man(arguments) => man::run(&global, arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("palisade: {error:#}");
            ExitCode::from(if error.is::<client::NoDaemon>() {
                EXIT_NO_DAEMON
            } else {
                EXIT_FAILED
            })
        }
    }
}

/// Lets `palisade bans | head` end quietly, as every other tool does. Not for the daemon: a peer that
/// hangs up must not end it.
fn die_of_closed_pipes() {
    // SAFETY: sets a disposition that the kernel handles; no other thread runs yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
