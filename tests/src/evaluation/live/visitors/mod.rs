//! Ordinary people and machines that use the host while it is attacked, and before. How many of
//! their requests are served says what the attack, and the answer to it, do to them.

mod dns;
pub mod http;
mod kinds;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::stage::Stage;
use crate::namespace::Namespace;

/// How many share the one address of a carrier-grade NAT.
const BEHIND_NAT: u64 = 500;

/// All visitors, until this goes.
pub struct Visitors {
    kinds: Vec<(&'static str, Arc<Counts>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What visitors of one kind asked for, and got.
#[derive(Debug, Default)]
pub struct Counts {
    asked: AtomicU64,
    served: AtomicU64,
}

/// The same at one moment, or the difference of two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tally {
    pub visitors: &'static str,
    pub asked: u64,
    pub served: u64,
}

/// What a visitor needs on its thread.
#[derive(Clone)]
pub struct Visit {
    pub from: IpAddr,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    /// Differs from visitor to visitor.
    pub number: u64,
}

impl Visit {
    /// Counts a request by whether it was served.
    pub fn note(&self, served: bool) {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        self.counts
            .served
            .fetch_add(u64::from(served), Ordering::Relaxed);
    }

    /// Whether it is time to go.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Thinks, unless it is time to go.
    pub fn think(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

type Habit = fn(&Visit) -> Result<()>;

impl Visitors {
    /// Everybody comes within the first seconds.
    pub fn start(stage: &Stage) -> Result<Self> {
        let mut visitors = Self {
            kinds: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let (inside, outside) = (&stage.world.inside, &stage.world.outside);
        let at = |last: u8| IpAddr::from(Ipv4Addr::new(198, 51, 100, last));
        let mut browsers: Vec<IpAddr> = (10..18).map(at).collect();
        for network in 0..4 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0xb, network, 0, 0, 0, 1);
            stage.world.add_client(address.into())?;
            browsers.push(address.into());
        }
        visitors.come(outside, "browsers", &browsers, kinds::browse)?;
        let behind: Vec<IpAddr> = (0..BEHIND_NAT).map(|_| at(40)).collect();
        visitors.come(outside, "500 users of one NAT", &behind, kinds::glance)?;
        visitors.come(outside, "a crawler", &[at(41)], kinds::crawl)?;
        visitors.come(outside, "a bulk download", &[at(44)], kinds::download)?;
        visitors.come(outside, "videos", &[at(42), at(43)], kinds::watch)?;
        visitors.come(outside, "name lookups", &[at(30), at(31)], kinds::resolve)?;
        visitors.come(outside, "monitoring", &[at(45)], kinds::probe)?;
        let host = super::stage::HOST_V4;
        visitors.come(inside, "the host's updates", &[host], kinds::update)?;
        visitors.come(
            inside,
            "the host's own lookups",
            &[host],
            kinds::resolve_abroad,
        )?;
        let key = stage.servers.key();
        let namespace = outside.path();
        let from = at(20);
        visitors.come_with(outside, "an ssh session", &[from], move |visit| {
            kinds::shell(visit, &namespace, &key)
        })?;
        Ok(visitors)
    }

    fn come(
        &mut self,
        namespace: &Namespace,
        name: &'static str,
        addresses: &[IpAddr],
        habit: Habit,
    ) -> Result<()> {
        self.come_with(namespace, name, addresses, habit)
    }

    fn come_with(
        &mut self,
        namespace: &Namespace,
        name: &'static str,
        addresses: &[IpAddr],
        habit: impl Fn(&Visit) -> Result<()> + Clone + Send + 'static,
    ) -> Result<()> {
        let counts: Arc<Counts> = Arc::default();
        self.kinds.push((name, Arc::clone(&counts)));
        for (number, &from) in addresses.iter().enumerate() {
            let visit = Visit {
                from,
                counts: Arc::clone(&counts),
                stop: Arc::clone(&self.stop),
                number: number as u64,
            };
            let habit = habit.clone();
            self.threads.push(namespace.thread(move || habit(&visit))?);
        }
        Ok(())
    }

    /// What was asked and served so far.
    pub fn tally(&self) -> Vec<Tally> {
        let tally = |(visitors, counts): &(&'static str, Arc<Counts>)| {
            // The served are read first: more may be asked meanwhile, and then less is said to be served.
            let served = counts.served.load(Ordering::Relaxed);
            let asked = counts.asked.load(Ordering::Relaxed);
            Tally {
                visitors,
                asked,
                served,
            }
        };
        self.kinds.iter().map(tally).collect()
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Ok(Err(error)) = thread.join() {
                eprintln!("a visitor: {error:#}");
            }
        }
    }
}

/// What came between two moments.
pub fn between(before: &[Tally], after: &[Tally]) -> Vec<Tally> {
    let pairs = before.iter().zip(after);
    pairs
        .map(|(before, after)| Tally {
            visitors: after.visitors,
            asked: after.asked - before.asked,
            served: after.served - before.served,
        })
        .collect()
}

/// The share of requests that were served, each kind of visitor counting alike: otherwise the many
/// users of the NAT would speak for all.
pub fn served(tallies: &[Tally]) -> Option<f64> {
    let shares: Vec<f64> = tallies
        .iter()
        .filter(|tally| tally.asked > 0)
        .map(|tally| tally.served as f64 / tally.asked as f64)
        .collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(visitors: &'static str, asked: u64, served: u64) -> Tally {
        Tally {
            visitors,
            asked,
            served,
        }
    }

    #[test]
    fn each_kind_of_visitor_counts_alike() {
        let before = [tally("many", 100, 100), tally("one", 1, 1)];
        let after = [tally("many", 1_100, 1_100), tally("one", 3, 1)];
        let during = between(&before, &after);
        assert_eq!(during[1], tally("one", 2, 0));
        assert_eq!(served(&during), Some(0.5));
        assert_eq!(served(&[]), None);
    }
}
