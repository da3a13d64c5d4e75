//! From the first packet of a flood to the first that the kernel drops: the daemon of service finds the
//! flood's signature and puts it in force, while visitors go on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::daemon::Mode;
use palisade_tests::namespace::join;
use palisade_tests::reaction::{Flood, SHOP_PORT, STREAM_PORT, Visitors, first_drop, tables};
use palisade_tests::topology::EDGE;
use palisade_tests::{Daemon, Topology, servers};
use serde::Serialize;

use crate::data;

/// One flood under one policy.
#[derive(Clone, Debug, Serialize)]
pub struct Reaction {
    pub policy: String,
    pub flood: &'static str,
    /// Packets a second, as they were sent.
    pub rate: f64,
    /// Seconds from the first packet sent to the first seen to be dropped, in each round.
    pub seconds: Vec<f64>,
    /// The share of the flood that was dropped, over all rounds.
    pub dropped: f64,
}

/// Packets a second.
const FLOODS: [(Flood, u64); 3] = [
    (Flood::Syns, 5_000),
    (Flood::Syns, 50_000),
    (Flood::Datagrams, 50_000),
];
const RULES: [usize; 2] = [2, 10_000];
/// Beside the larger number of rules.
const ADDRESSES: usize = 1_000_000;
const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 1;
const TIME: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(10);

/// Each flood under each policy. What cannot be measured is added to what is `missing`.
pub fn measure(folder: &Path, quick: bool, missing: &mut Vec<String>) -> Result<Vec<Reaction>> {
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
    let mut measured = Vec::new();
    for rules in RULES {
        let (name, policy) = policy(folder, rules)?;
        for (flood, rate) in FLOODS {
            match react(&name, &policy, flood, rate, rounds) {
                Ok(reaction) => measured.push(reaction),
                Err(error) => missing.push(format!(
                    "the reaction to {rate} {} a second under {name}: {error:#}",
                    flood.name()
                )),
            }
        }
    }
    Ok(measured)
}

fn react(name: &str, policy: &str, flood: Flood, rate: u64, rounds: usize) -> Result<Reaction> {
    let (mut seconds, mut all, mut dropped, mut sending) = (Vec::new(), 0, 0, 0.0);
    for _ in 0..rounds {
        let world = Topology::untagged()?;
        let _shop = servers::http(&world.inside, SHOP_PORT, "shop")?;
        let mut daemon = Daemon::prepare(&world.inside, policy, EDGE, Mode::Native)?;
        daemon.write_settings(&format!("interfaces = [\"{EDGE}\"]"), &tables("enforce"))?;
        daemon.launch()?;
        let visitors = Visitors::of_ordinary_days(&world)?;
        let watch = first_drop(daemon.socket(), PATIENCE);
        let sender = flood.start(&world, rate, TIME)?;
        let first = join(watch).with_context(|| daemon.log())?;
        let (began, sent) = join(sender)?;
        seconds.push((first - began).as_secs_f64());
        sending += began.elapsed().as_secs_f64().min(TIME.as_secs_f64());
        all += sent;
        dropped += daemon.inbound("drop", "signature")?;
        visitors.end()?;
    }
    Ok(Reaction {
        policy: name.to_owned(),
        flood: flood.name(),
        rate: all as f64 / sending,
        seconds,
        dropped: dropped as f64 / all as f64,
    })
}

/// A policy that lets the visitors and the floods in, by its last rules.
fn policy(folder: &Path, rules: usize) -> Result<(String, String)> {
    let mut text = "version = 1\n[defaults]\ninbound = \"drop\"\n".to_owned();
    let mut name = format!("{rules} rules");
    let others = rules.saturating_sub(2);
    if others > 0 {
        let list = data::list_file(folder, "reaction.netset", &data::addresses(ADDRESSES))?;
        text += &format!(
            "[sets]\nlisted = {{ file = \"{}\" }}\n[[rule]]\nname = \"listed\"\naction = \"drop\"\nfrom = [\"listed\"]\nto = \"203.0.113.200\"\n",
            list.display()
        );
        name += &format!(", {ADDRESSES} addresses");
    }
    for number in 1..others {
        text += &format!(
            "[[rule]]\nname = \"other-{number}\"\naction = \"drop\"\nprotocol = \"tcp\"\nport = {}\nfrom = \"10.{}.{}.0/24\"\n",
            6_000 + number % 1_000,
            number / 250,
            number % 250
        );
    }
    for (name, protocol, port) in [("shop", "tcp", SHOP_PORT), ("stream", "udp", STREAM_PORT)] {
        text += &format!(
            "[[rule]]\nname = \"{name}\"\naction = \"accept\"\nprotocol = \"{protocol}\"\nport = {port}\n"
        );
    }
    Ok((name, text))
}
