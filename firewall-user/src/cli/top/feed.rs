//! Fetches the documents and carries out orders, on a thread of its own, so that keys never wait for the
//! daemon.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::snapshot::Documents;
use super::view::Command;
use crate::cli::ban::sentence;
use crate::cli::client::{Client, read};
use crate::daemon::documents::{
    BanDocument, BanRequest, Bans, IncidentList, RuleDocument, Rules, Services, SourceDocument,
    SourceOrder, Sources, Status,
};
use crate::detect::Incident;

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);
/// Of the time, so much at most is spent on one document: one part in so many.
const PACE: u32 = 20;
/// Bans that are listed.
const BANS: usize = 1_000;
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

/// Asks the daemon, and remembers what it said for as long as that has to do.
#[derive(Debug)]
pub struct Feed {
    client: Client,
    by: SourceOrder,
    status: Paced<Status>,
    sources: Paced<Vec<SourceDocument>>,
    services: Paced<Services>,
    rules: Paced<Vec<RuleDocument>>,
    incidents: Paced<Vec<Incident>>,
    bans: Paced<Vec<BanDocument>>,
}

impl Feed {
    pub fn new(client: Client, by: SourceOrder) -> Self {
        Self {
            client,
            by,
            status: Paced::default(),
            sources: Paced::default(),
            services: Paced::default(),
            rules: Paced::default(),
            incidents: Paced::default(),
            bans: Paced::default(),
        }
    }

    /// All documents that the view shows.
    pub fn documents(&mut self) -> anyhow::Result<Documents> {
        let client = &self.client;
        let sources = format!("/v1/sources?by={}&limit={SOURCES}", self.by.name());
        let bans = format!("/v1/bans?limit={BANS}");
        Ok(Documents {
            status: self.status.read(|| read(client.get("/v1/status")?))?,
            sources: self
                .sources
                .read(|| Ok(read::<Sources>(client.get(&sources)?)?.sources))?,
            services: self.services.read(|| read(client.get("/v1/services")?))?,
            rules: self
                .rules
                .read(|| Ok(read::<Rules>(client.get("/v1/rules")?)?.rules))?,
            incidents: self
                .incidents
                .read(|| Ok(read::<IncidentList>(client.get("/v1/incidents")?)?.incidents))?,
            bans: self
                .bans
                .read(|| Ok(read::<Bans>(client.get(&bans)?)?.bans))?,
        })
    }

    /// Runs until nobody gives orders or listens any more.
    pub fn run(mut self, orders: &Receiver<Command>, news: &Sender<News>) {
        let mut due = Instant::now() + EVERY;
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            match orders.recv_timeout(wait) {
                Ok(Command::OrderBy(order)) => {
                    self.by = order;
                    self.sources.due = None;
                }
                Ok(order) => {
                    let told = carry_out(&self.client, order).map_err(|error| format!("{error:#}"));
                    if news.send(News::Told(told)).is_err() {
                        return;
                    }
                    // What was done shows at once.
                    self.sources.due = None;
                    self.bans.due = None;
                    self.status.due = None;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            let read = match self.documents() {
                Ok(documents) => News::Read(now, Box::new(documents)),
                Err(error) => News::Silence(format!("{error:#}")),
            };
            if news.send(read).is_err() {
                return;
            }
            due = now + EVERY;
        }
    }
}

/// A document that is asked for every time, or, where the answer takes long, less often: a view must not
/// keep a daemon busy that has thousands of rules.
#[derive(Clone, Debug)]
struct Paced<T> {
    known: Option<T>,
    due: Option<Instant>,
}

impl<T> Default for Paced<T> {
    fn default() -> Self {
        Self {
            known: None,
            due: None,
        }
    }
}

impl<T: Clone> Paced<T> {
    fn read(&mut self, ask: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let began = Instant::now();
        if let Some(known) = &self.known
            && self.due.is_some_and(|due| began < due)
        {
            return Ok(known.clone());
        }
        let read = ask()?;
        self.due = Some(began + began.elapsed() * PACE);
        Ok(self.known.insert(read).clone())
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
            Ok(sentence(&ban))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_took_long_is_not_asked_for_again_at_once() {
        let mut paced = Paced::default();
        let slow = || {
            std::thread::sleep(Duration::from_millis(20));
            Ok(1)
        };
        assert_eq!(paced.read(slow).expect("an answer"), 1);
        assert_eq!(paced.read(|| Ok(2)).expect("what is known"), 1);
        paced.due = None;
        assert_eq!(paced.read(|| Ok(3)).expect("an answer"), 3);
        paced.due = None;
        assert!(paced.read(|| anyhow::bail!("gone")).is_err());
    }
}
