//! Visitors of the shop, at a steady pace.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;
use palisade_tests::namespace::join;
use palisade_tests::topology::INSIDE;
use palisade_tests::{Topology, stretched};

use crate::{PATIENCE, SHOP_PORT};

/// How many visitors of each family got the whole page within a second of knocking, and how many
/// knocked: they come at a steady pace, whatever became of the ones before.
pub fn visit(world: &Topology, time: Duration) -> Result<[(u32, u32); 2]> {
    let per_family = INSIDE.map(|to| {
        world.outside.thread(move || {
            let started = Instant::now();
            let mut due = started;
            let mut visitors = Vec::new();
            while started.elapsed() < time {
                visitors.push(std::thread::spawn(move || fetch(to)));
                due += Duration::from_millis(20);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let knocked = visitors.len() as u32;
            let got = visitors
                .into_iter()
                .filter_map(|visitor| visitor.join().ok());
            Ok((got.filter(|page| *page).count() as u32, knocked))
        })
    });
    let [v4, v6] = per_family;
    Ok([join(v4?)?, join(v6?)?])
}

/// Whether the shop's page came. A lost SYN is sent again after a second: that is too late.
pub fn fetch(to: IpAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let second = stretched(Duration::from_millis(900));
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, SHOP_PORT), second)?;
        stream.set_read_timeout(Some(stretched(PATIENCE)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    };
    ask().is_ok_and(|page| page.ends_with("shop"))
}
