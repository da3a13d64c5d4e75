//! Whether SYN cookies were armed while a flood of SYNs lasted, and disarmed after it.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::visitors::Tally;
use crate::daemon::Daemon;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// An alert is over when it was quiet for 15 s, and cookies are held a little longer.
const PATIENCE: Duration = Duration::from_secs(45);
/// Visitors who open a connection to the flooded service for what they ask.
const CONNECT: [&str; 3] = ["browsers", "500 users of one NAT", "a crawler"];

/// What became of them in one attack.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cookies {
    /// Seconds from the begin of the attack.
    pub armed: Option<f64>,
    /// Whether they still were when it ended.
    pub lasted: bool,
    /// Seconds from its end.
    pub disarmed: Option<f64>,
    /// Answers that were sent, and connections that came of them.
    pub sent: u64,
    pub accepted: u64,
    /// The share of the visitors' requests over new connections that were served meanwhile.
    pub connected: Option<f64>,
    /// Why this kernel has none.
    pub unavailable: Option<String>,
}

/// Looks at them while an attack goes on.
#[derive(Debug, Default)]
pub struct CookieWatch {
    seen: Cookies,
    looked: Option<Instant>,
}

impl CookieWatch {
    /// Looks, unless that was done just now.
    pub fn look(&mut self, daemon: &Daemon, begun: Instant) -> Result<()> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        if self.seen.armed.is_none() && is_armed(&report(daemon)?) {
            self.seen.armed = Some(begun.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// The attack ends now; visitors got this while it lasted.
    pub fn end(&mut self, daemon: &Daemon, during: &[Tally]) -> Result<()> {
        let report = report(daemon)?;
        let seen = &mut self.seen;
        seen.lasted = is_armed(&report);
        seen.unavailable = report["unavailable"].as_str().map(str::to_owned);
        let count = |what: &str| report[what].as_u64().unwrap_or_default();
        (seen.sent, seen.accepted) = (count("sent"), count("accepted"));
        let came = during.iter().filter(|it| CONNECT.contains(&it.visitors));
        let (asked, served) = came.fold((0, 0), |(asked, served), it| {
            (asked + it.asked, served + it.served)
        });
        seen.connected = (asked > 0).then(|| served as f64 / asked as f64);
        Ok(())
    }

    /// Waits until they are disarmed; `ended` is when the attack did.
    pub fn await_peace(mut self, daemon: &Daemon, ended: Instant) -> Result<Cookies> {
        while self.seen.armed.is_some() && ended.elapsed() < PATIENCE {
            if !is_armed(&report(daemon)?) {
                self.seen.disarmed = Some(ended.elapsed().as_secs_f64());
                break;
            }
            std::thread::sleep(LOOK);
        }
        Ok(self.seen)
    }
}

impl Cookies {
    /// Whether they did what they are for: armed while the flood lasted and not after, and (nearly) everybody got in. A
    /// kernel without them cannot fail.
    pub fn served_their_purpose(&self, at_least: f64) -> bool {
        self.unavailable.is_some()
            || self.armed.is_some()
                && self.lasted
                && self.disarmed.is_some()
                && self.connected.is_some_and(|share| share >= at_least)
    }
}

fn report(daemon: &Daemon) -> Result<Value> {
    daemon.palisade(&["cookies"])
}

fn is_armed(report: &Value) -> bool {
    report["armed"]
        .as_array()
        .is_some_and(|armed| !armed.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_that_come_late_stay_or_leave_visitors_out_did_not_serve() {
        let well = Cookies {
            armed: Some(0.7),
            lasted: true,
            disarmed: Some(17.0),
            sent: 40_000,
            accepted: 90,
            connected: Some(0.99),
            unavailable: None,
        };
        assert!(well.served_their_purpose(0.95));
        for wrong in [
            Cookies {
                armed: None,
                ..well.clone()
            },
            Cookies {
                lasted: false,
                ..well.clone()
            },
            Cookies {
                disarmed: None,
                ..well.clone()
            },
            Cookies {
                connected: Some(0.9),
                ..well.clone()
            },
        ] {
            assert!(!wrong.served_their_purpose(0.95), "{wrong:?}");
        }
        let without = Cookies {
            unavailable: Some("this kernel has no helpers".to_owned()),
            ..Cookies::default()
        };
        assert!(without.served_their_purpose(0.95));
    }
}
