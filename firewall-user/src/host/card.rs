//! What a driver tells of its interface.

use crate::datapath::Query;

/// An interface as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub index: u32,
    pub ethernet: bool,
    pub driver: Option<String>,
    /// In bytes, without the Ethernet header.
    pub mtu: Option<u32>,
    pub channels: Option<Channels>,
    /// Received segments are joined in the card.
    pub joins_segments: Option<bool>,
    /// VLAN tags are taken off before XDP sees them.
    pub takes_tags_off: Option<bool>,
}

/// Queues with an interrupt each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    pub receive: u32,
    pub send: u32,
    pub most_receive: u32,
    pub most_send: u32,
}

impl Card {
    /// Asks about an interface of this network namespace.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        let query = Query::new(name)?;
        Ok(Self {
            index: query.index()?,
            ethernet: query
                .hardware_type()
                .is_ok_and(|kind| kind == libc::ARPHRD_ETHER),
            driver: driver(&query),
            mtu: query.mtu().ok(),
            channels: channels(&query),
            joins_segments: flag(&query, ETH_FLAG_LRO),
            takes_tags_off: flag(&query, ETH_FLAG_RXVLAN),
        })
    }
}

// linux/ethtool.h.
const ETHTOOL_GDRVINFO: u64 = 0x03;
const ETHTOOL_GCHANNELS: u64 = 0x3c;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;
/// Words of 64 bits that hold ethtool_drvinfo, of 196 bytes; the driver's 32 bytes stand behind the
/// command.
const DRIVER_WORDS: usize = 25;
/// And ethtool_channels: nine numbers of 32 bits.
const CHANNEL_WORDS: usize = 5;

fn driver(query: &Query) -> Option<String> {
    let mut words = [0_u64; DRIVER_WORDS];
    words[0] = command(ETHTOOL_GDRVINFO);
    query.ethtool_words(&mut words).ok()?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = bytes.get(4..36)?.split(|byte| *byte == 0).next()?;
    let name = str::from_utf8(name).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn channels(query: &Query) -> Option<Channels> {
    let mut words = [0_u64; CHANNEL_WORDS];
    words[0] = command(ETHTOOL_GCHANNELS);
    query.ethtool_words(&mut words).ok()?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let number = |at: usize| -> Option<u32> {
        let bytes = bytes.get(4 * at..4 * at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    // What serves both ways counts for each.
    let (most_both, both) = (number(4)?, number(8)?);
    Some(Channels {
        receive: number(5)? + both,
        send: number(6)? + both,
        most_receive: number(1)? + most_both,
        most_send: number(2)? + most_both,
    })
}

/// A command in the first 32 bits of a word.
fn command(number: u64) -> u64 {
    if cfg!(target_endian = "big") {
        number << 32
    } else {
        number
    }
}

fn flag(query: &Query, bit: u32) -> Option<bool> {
    query.flags().ok().map(|flags| flags & bit != 0)
}
