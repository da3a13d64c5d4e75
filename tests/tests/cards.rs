//! The fence on network cards with a driver of their own (virtio_net), where `PALISADE_TEST_WIRE`
//! names two that are joined to nothing but each other, as in `cargo xtask kernels`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::clients::{Connect, connect, curl, udp_exchange};
use palisade_tests::daemon::Mode;
use palisade_tests::policies::SHOP;
use palisade_tests::topology::{CLIENT, INSIDE};
use palisade_tests::{Daemon, Topology, need_tools, servers, skip_unless_root, skipped};

const WIRE: &str = "PALISADE_TEST_WIRE";
const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn a_card_s_own_driver_runs_the_fence_and_hands_it_over_from_policy_to_policy() -> Result<()> {
    let Ok(cards) = std::env::var(WIRE) else {
        skipped(&format!(
            "{WIRE} names no two network cards that are joined to each other alone"
        ));
        return Ok(());
    };
    if skip_unless_root() {
        return Ok(());
    }
    need_tools(&["curl"])?;
    let (inside, outside) = cards
        .split_once(',')
        .with_context(|| format!("{WIRE} shall name two cards: one,other"))?;
    let world = Topology::between_cards(inside, outside)?;
    let _shop = servers::http(&world.inside, 80, "shop")?;
    let _echo = servers::udp_echo(&world.inside, 7)?;
    let daemon = Daemon::start_in(&world.inside, SHOP, Mode::Native)?;
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["interfaces"][0]["mode"], "native", "{status:#}");
    for round in 1..=3 {
        for (from, to) in CLIENT.into_iter().zip(INSIDE) {
            let answer = curl(&world.outside, from, to, 80, PATIENCE)?;
            assert_eq!(answer.stdout, "shop", "{from} to {to}: {answer}");
            let hidden = SocketAddr::new(to, 8080);
            assert_eq!(connect(&world.outside, hidden, SILENCE)?, Connect::Silent);
            let echo = SocketAddr::new(to, 7);
            assert!(!udp_exchange(&world.outside, echo, 100, SILENCE)?, "{to}");
        }
        // Another policy each round, swapped while the card is in use.
        daemon.write_policy(&format!("{SHOP}\n# {round}\n"))?;
        daemon.palisade(&["apply"])?;
    }
    assert!(daemon.rule_packets("shop")? >= 3 * 2 * 4, "six visits");
    Ok(())
}
