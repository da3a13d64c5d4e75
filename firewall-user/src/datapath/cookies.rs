//! SYN cookies in the kernel programs: whether this kernel can make them, at which ports they are
//! sent, and what came of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Map, MapData, PerCpuArray};
use firewall_common::cookies::{CookieCounts, PORT_WORDS, SETTINGS_WORD, setting};
use memmap2::MmapMut;

use super::{object, sys};

/// The map of armed ports, shared with the kernel programs, and their counts.
pub(super) struct CookieTable {
    ports: MmapMut,
    counts: PerCpuArray<MapData, CookieCounts>,
}

/// TCP ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports([u64; SETTINGS_WORD as usize]);

impl Default for Ports {
    fn default() -> Self {
        Self([0; SETTINGS_WORD as usize])
    }
}

impl Ports {
    pub fn insert(&mut self, port: u16) {
        self.0[usize::from(port >> 6)] |= 1 << (port & 63);
    }

    pub fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port >> 6)] >> (port & 63) & 1 != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

impl FromIterator<u16> for Ports {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::default();
        ports.into_iter().for_each(|port| set.insert(port));
        set
    }
}

impl CookieTable {
    pub(super) fn open(mut open: impl FnMut(&str) -> anyhow::Result<Map>) -> anyhow::Result<Self> {
        let Map::Array(ports) = open("COOKIE_PORTS")? else {
            anyhow::bail!("map COOKIE_PORTS is no array");
        };
        Ok(Self {
            ports: object::map_memory(&ports, PORT_WORDS as usize * 8)?,
            counts: open("COOKIE_COUNTS")?.try_into()?,
        })
    }

    /// Has SYNs to these ports answered from the next packet on, and to no others. `plain` leaves
    /// all options out that the stack would have to read back from a timestamp.
    pub(super) fn arm(&mut self, ports: &Ports, plain: bool) {
        self.word(SETTINGS_WORD as usize)
            .store(if plain { setting::PLAIN } else { 0 }, Ordering::Relaxed);
        for (index, word) in ports.0.iter().enumerate() {
            self.word(index).store(*word, Ordering::Relaxed);
        }
    }

    /// The ports that are armed now, by whomever.
    pub(super) fn armed(&mut self) -> Ports {
        let mut ports = Ports::default();
        for index in 0..ports.0.len() {
            ports.0[index] = self.word(index).load(Ordering::Relaxed);
        }
        ports
    }

    pub(super) fn counts(&self) -> anyhow::Result<CookieCounts> {
        let mut total = CookieCounts::default();
        for cpu in self.counts.get(&0, 0)?.iter() {
            total.sent += cpu.sent;
            total.bytes_received += cpu.bytes_received;
            total.bytes_sent += cpu.bytes_sent;
            total.shown += cpu.shown;
            total.accepted += cpu.accepted;
            total.rejected += cpu.rejected;
        }
        Ok(total)
    }

    #[expect(unsafe_code, reason = "shared memory")]
    fn word(&mut self, index: usize) -> &AtomicU64 {
        let bytes = &mut self.ports[index * 8..index * 8 + 8];
        // SAFETY: eight bytes of a mapping that begins on a page, so aligned; the kernel programs read the
        // word whole, and nobody else in this process has it.
        unsafe { AtomicU64::from_ptr(bytes.as_mut_ptr().cast()) }
    }
}

/// Why this kernel can make no SYN cookies for a program, if it cannot.
pub fn unsupported() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    WHY.get_or_init(|| {
        let error = sys::probe_syncookies().err()?;
        Some(if error.raw_os_error() == Some(libc::EPERM) {
            "the kernel does not permit loading the program that asks for them".to_owned()
        } else {
            let release = rustix::system::uname().release().to_string_lossy().into_owned();
            format!(
                "kernel {release} has no helper for them: Linux 6.0 or newer with CONFIG_SYN_COOKIES \
                 and CONFIG_IPV6 is needed"
            )
        })
    })
    .as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ports_holds_what_was_put_in() {
        let ports: Ports = [0, 80, 443, 65_535].into_iter().collect();
        for port in [0, 80, 443, 65_535] {
            assert!(ports.contains(port), "{port}");
        }
        for port in [1, 64, 81, 65_534] {
            assert!(!ports.contains(port), "{port}");
        }
        assert!(!ports.is_empty() && Ports::default().is_empty());
    }
}
