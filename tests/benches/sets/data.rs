//! What the sets hold: the Internet's table of prefixes, and a million addresses drawn at random.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

/// Addresses drawn at random.
pub const DRAWN: usize = 1_000_000;

/// Files of sets in a folder of their own, and what they hold.
pub struct Data {
    pub folder: tempfile::TempDir,
    pub table: Vec<IpNet>,
    pub drawn: Vec<Ipv4Addr>,
}

impl Data {
    /// Unpacks the table and draws the addresses.
    pub fn prepare(packed: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let output = Command::new("gzip").arg("-dc").arg(packed).output();
        let output = output.context("cannot run gzip")?;
        if !output.status.success() {
            bail!("gzip does not unpack {}", packed.display());
        }
        std::fs::write(folder.path().join("table.netset"), &output.stdout)?;
        let text = String::from_utf8(output.stdout)?;
        let table = text.lines().map(str::parse).collect::<Result<_, _>>()?;
        let mut random = Random(1);
        let drawn: Vec<Ipv4Addr> = (0..DRAWN)
            .map(|_| Ipv4Addr::from_bits(random.next() as u32))
            .collect();
        let mut text = String::new();
        for address in &drawn {
            writeln!(text, "{address}")?;
        }
        std::fs::write(folder.path().join("drawn.netset"), text)?;
        Ok(Self {
            folder,
            table,
            drawn,
        })
    }

    /// Sources of IPv6: each in a prefix of the table drawn at random, as senders are; the table
    /// covers too little of IPv6 for addresses drawn from all of it to meet it.
    pub fn sources_v6(&self, count: usize) -> Vec<Ipv6Addr> {
        let prefixes: Vec<_> = self
            .table
            .iter()
            .filter_map(|prefix| match prefix {
                IpNet::V6(prefix) => Some(prefix),
                IpNet::V4(_) => None,
            })
            .collect();
        let mut random = Random(2);
        let mut source = || {
            let prefix = prefixes[random.next() as usize % prefixes.len()];
            let bits = u128::from(random.next()) << 64 | u128::from(random.next());
            prefix.network().to_bits() | bits & prefix.hostmask().to_bits()
        };
        (0..count).map(|_| source().into()).collect()
    }
}

/// Unicast IPv4 sources drawn at random.
pub fn sources_v4(count: usize) -> Vec<Ipv4Addr> {
    let mut random = Random(3);
    let unicast = |address: &Ipv4Addr| !matches!(address.octets()[0], 0 | 127 | 224..);
    std::iter::repeat_with(|| Ipv4Addr::from_bits(random.next() as u32))
        .filter(unicast)
        .take(count)
        .collect()
}

/// xorshift64* (Vigna 2016): the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

/// The Internet's table, if it is there: in the folder that PALISADE_DATA names, or beside the repository.
pub fn packed_table() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let data = std::env::var_os("PALISADE_DATA")
        .map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let file = data.join("blocklists/bgp-full-table-prefixes.txt.gz");
    file.canonicalize().ok()
}
