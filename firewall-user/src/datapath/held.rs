//! The pinned maps that this process reads and writes, and whether those are the ones that the programs use: somebody
//! may remove pins at any moment, also while a policy is loaded, and the loader makes anew what it does not find. A
//! ban that is written into a map that no program reads would be no ban.

use anyhow::Context;
use aya::maps::MapData;

use super::events::Events;
use super::fence::Datapath;
use super::maps::Maps;
use super::object;
use super::pins::Pins;

const EVENTS: &str = "EVENTS";

/// The kernel's numbers of the maps that are open, by name; none while that is not known.
#[derive(Debug, Default)]
pub(super) struct Held(Vec<(String, u32)>);

impl Held {
    /// Opens what is pinned.
    pub(super) fn open(pins: &Pins) -> anyhow::Result<(Maps, Events, Self)> {
        let mut held = Vec::new();
        let maps = Maps::open(|name| {
            held.push(numbered(pins, name)?);
            object::open_map(pins, name)
        })?;
        held.push(numbered(pins, EVENTS)?);
        let events = Events::open(pins)?;
        Ok((maps, events, Self(held)))
    }

    /// Whether the maps that programs are loaded with are those that are open.
    pub(super) fn is_pinned(&self, pins: &Pins) -> bool {
        let same = |(name, id): &(String, u32)| number(pins, name).is_ok_and(|now| now == *id);
        self.is_known() && self.0.iter().all(same)
    }

    /// Whether what is open is what the programs use, as far as this process had a hand in it.
    pub(super) fn is_known(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Datapath {
    /// After the fence was down, what is open are maps that nothing uses any more. If those it uses cannot be
    /// opened, it counts as lost, and is put up again.
    pub(super) fn open_anew(&mut self) -> anyhow::Result<()> {
        self.held = Held::default();
        let (mut maps, events, held) = Held::open(&self.pins)?;
        let handle = self.maps.bans().clone();
        handle.follow(maps.share_bans(handle.clone()))?;
        self.maps = maps;
        self.events = events;
        self.held = held;
        Ok(())
    }
}

fn numbered(pins: &Pins, name: &str) -> anyhow::Result<(String, u32)> {
    Ok((name.to_owned(), number(pins, name)?))
}

fn number(pins: &Pins, name: &str) -> anyhow::Result<u32> {
    let path = pins.map(name);
    let info = MapData::from_pin(&path).map(|map| map.info());
    let info = info.with_context(|| format!("pinned map {}", path.display()))?;
    Ok(info?.id())
}
