//! The connection table when the host itself opens more than fit: what is silent longest gives way,
//! what is in use stays, and what is new gets in.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};
use firewall_common::layout::CONNECTIONS;
use firewall_common::packet::flag;
use firewall_common::{Direction, Reason, Verdict};
use firewall_user::datapath::{TestRun, clock};
use firewall_user::packet_build::PacketBuilder;
use firewall_user::policy::{Environment, Policy};
use palisade_tests::policies::CLOSED;
use palisade_tests::skip_unless_root;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

struct Host {
    run: TestRun,
    now: u64,
}

impl Host {
    fn new() -> Result<Self> {
        let (policy, _) = Policy::parse(CLOSED, "closed.toml", Path::new("/"))
            .map_err(|errors| anyhow::anyhow!("{errors}"))?;
        Ok(Self {
            run: TestRun::new(policy.compile(&Environment::default())?)?,
            now: clock::monotonic(),
        })
    }

    /// Why a frame passes; `None` if it does not.
    fn passes(&mut self, frame: &[u8], direction: Direction) -> Result<Option<Reason>> {
        self.now += 10_000;
        let judgement = self.run.judge(frame, direction, self.now)?;
        let judgement = judgement
            .ok()
            .context("the kernel does not take a plain frame")?;
        Ok((judgement.verdict == Verdict::Pass).then_some(judgement.reason))
    }
}

fn segment(from: IpAddr, to: IpAddr, ports: (u16, u16), flags: u8) -> Result<Vec<u8>> {
    let builder = PacketBuilder::new(from, to).context("one family")?;
    Ok(builder.tcp(ports.0, ports.1, flags).build())
}

fn datagram(from: IpAddr, to: IpAddr, ports: (u16, u16)) -> Result<Vec<u8>> {
    let builder = PacketBuilder::new(from, to).context("one family")?;
    Ok(builder.udp(ports.0, ports.1).build())
}

#[test]
fn a_connection_in_use_outlives_more_queries_than_the_table_holds() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let mut host = Host::new()?;
    let opening = segment(HOST, SERVER, (40_000, 443), flag::SYN)?;
    assert!(host.passes(&opening, Direction::Outbound)?.is_some());
    let data = segment(SERVER, HOST, (443, 40_000), flag::ACK)?;
    // A scanner, or a resolver for thousands: nobody answers.
    for query in 0..CONNECTIONS + CONNECTIONS / 4 {
        let to = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + query));
        let out = datagram(HOST, to, (50_000, 53))?;
        assert!(host.passes(&out, Direction::Outbound)?.is_some());
        if query % 4_096 == 0 {
            let reason = host.passes(&data, Direction::Inbound)?;
            assert_eq!(reason, Some(Reason::Established), "after {query} queries");
            let answer = datagram(to, HOST, (53, 50_000))?;
            let reason = host.passes(&answer, Direction::Inbound)?;
            assert_eq!(reason, Some(Reason::Established), "the answer to {query}");
        }
    }
    // The first queries gave way: an answer now is a stranger's.
    let first = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001));
    let answer = datagram(first, HOST, (53, 50_000))?;
    assert_eq!(host.passes(&answer, Direction::Inbound)?, None);
    Ok(())
}
