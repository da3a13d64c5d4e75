//! Addresses: made in code, the same in each run; and the real lists that may lie beside the
//! repository.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

/// Numbers that look random and are the same in each run (Marsaglia, "Xorshift RNGs", 2003).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn draw(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }
}

/// `count` different addresses that can be a source and are none that the measurement sends from.
pub fn addresses(count: usize) -> Vec<Ipv4Addr> {
    let mut numbers = Numbers::new(0x5eed);
    let mut seen = HashSet::with_capacity(count);
    let mut addresses = Vec::with_capacity(count);
    while addresses.len() < count {
        let address = Ipv4Addr::from_bits(numbers.draw());
        if is_plain(address) && seen.insert(address) {
            addresses.push(address);
        }
    }
    addresses
}

/// `count` prefixes as blocklists have them: four addresses to one prefix of 24 to 31 bits, none
/// within another.
pub fn prefixes(count: usize) -> Vec<Ipv4Net> {
    let mut numbers = Numbers::new(0xf00d);
    let mut chunks = HashSet::with_capacity(count);
    let mut prefixes = Vec::with_capacity(count);
    while prefixes.len() < count {
        let address = Ipv4Addr::from_bits(numbers.draw());
        // One to each /24, so that none covers another.
        if !is_plain(address) || !chunks.insert(address.to_bits() >> 8) {
            continue;
        }
        let length = if prefixes.len() % 5 == 4 {
            24 + (numbers.draw() % 8) as u8
        } else {
            32
        };
        if let Ok(prefix) = Ipv4Net::new(address, length) {
            prefixes.push(prefix.trunc());
        }
    }
    prefixes
}

fn is_plain(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let martian = matches!(first, 0 | 10 | 127 | 224..);
    // The documentation ranges that the frames and rules use.
    let ours = matches!((first, second), (198, 51) | (203, 0) | (192, 0));
    !martian && !ours
}

/// Writes one item a line; the file goes with the folder.
pub fn list_file<T: std::fmt::Display>(folder: &Path, name: &str, items: &[T]) -> Result<PathBuf> {
    let mut text = String::with_capacity(items.len() * 16);
    for item in items {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{item}");
    }
    let file = folder.join(name);
    std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// A file of the real data, if it is there: in the folder that PALISADE_DATA names, or beside the
/// repository.
pub fn real(file: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let data = std::env::var_os("PALISADE_DATA")
        .map_or_else(|| root.join("../shared/data"), PathBuf::from);
    data.join(file).canonicalize().ok()
}

/// The full Internet table as a list file in `folder`, if it is there.
pub fn internet_table(folder: &Path) -> Result<Option<PathBuf>> {
    let Some(packed) = real("blocklists/bgp-full-table-prefixes.txt.gz") else {
        return Ok(None);
    };
    let mut child = Command::new("gzip")
        .args(["-dc"])
        .arg(&packed)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run gzip")?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    if !child.wait()?.success() {
        bail!("gzip cannot unpack {}", packed.display());
    }
    let file = folder.join("internet.netset");
    std::fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(Some(file))
}
