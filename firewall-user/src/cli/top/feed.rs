//! Fetches the documents and carries out orders, on a thread of its own, so that keys never wait for the
//! daemon.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::snapshot::Documents;
use super::view::Command;
use crate::cli::client::{Client, read};
use crate::cli::output::seconds;
use crate::daemon::documents::{
    BanDocument, BanRequest, Bans, IncidentList, Rules, SourceOrder, Sources,
};

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);
/// Sources that are asked for: what a filter finds is among these.
const SOURCES: usize = 1_000;

/// What the feed tells.
#[derive(Debug)]
pub enum News {
    /// Documents, and when they were read.
    Read(Instant, Box<Documents>),
    /// The daemon gave no answer.
    Silence(String),
    /// What came of an order.
    Told(Result<String, String>),
    /// The program is to end.
    End,
}

/// All documents that the view shows.
pub fn documents(client: &Client, by: SourceOrder) -> anyhow::Result<Documents> {
    let sources = format!("/v1/sources?by={}&limit={SOURCES}", by.name());
    Ok(Documents {
        status: read(client.get("/v1/status")?)?,
        sources: read::<Sources>(client.get(&sources)?)?.sources,
        services: read(client.get("/v1/services")?)?,
        rules: read::<Rules>(client.get("/v1/rules")?)?.rules,
        incidents: read::<IncidentList>(client.get("/v1/incidents")?)?.incidents,
        bans: read::<Bans>(client.get("/v1/bans")?)?.bans,
    })
}

/// Runs until nobody gives orders or listens any more.
pub fn run(socket: PathBuf, mut by: SourceOrder, orders: &Receiver<Command>, news: &Sender<News>) {
    let client = match Client::new(&socket) {
        Ok(client) => client,
        Err(error) => {
            let _ = news.send(News::Silence(format!("{error:#}")));
            return;
        }
    };
    let mut due = Instant::now() + EVERY;
    loop {
        let wait = due.saturating_duration_since(Instant::now());
        match orders.recv_timeout(wait) {
            Ok(Command::OrderBy(order)) => by = order,
            Ok(order) => {
                let told = carry_out(&client, order).map_err(|error| format!("{error:#}"));
                if news.send(News::Told(told)).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // After an order at once: it shows.
        let now = Instant::now();
        let read = match documents(&client, by) {
            Ok(documents) => News::Read(now, Box::new(documents)),
            Err(error) => News::Silence(format!("{error:#}")),
        };
        if news.send(read).is_err() {
            return;
        }
        due = now + EVERY;
    }
}

fn carry_out(client: &Client, order: Command) -> anyhow::Result<String> {
    match order {
        Command::Ban {
            prefix,
            duration,
            reason,
        } => {
            let request = BanRequest {
                prefix: prefix.to_string(),
                duration,
                reason: Some(reason),
            };
            let ban: BanDocument = read(client.post("/v1/bans", &request)?)?;
            let end = match ban.remaining_seconds {
                None => "until it is lifted".to_owned(),
                Some(left) => format!("for {}", seconds(left)),
            };
            Ok(format!("{} is banned {end}", ban.prefix))
        }
        Command::Unban(prefix) => {
            let text = prefix.to_string();
            let encoded = utf8_percent_encode(&text, NON_ALPHANUMERIC);
            client.delete(&format!("/v1/bans?prefix={encoded}"))?;
            Ok(format!("the ban of {prefix} is lifted"))
        }
        // Taken by the loop itself.
        Command::OrderBy(_) => Ok(String::new()),
    }
}
