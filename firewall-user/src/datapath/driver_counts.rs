//! What a network driver counts of frames that were sent back (XDP_TX) and did not go out. There is no
//! common name for it; drivers call it `rx_queue_0_xdp_tx_errors`, `rx_xdp_tx_full`, `tx_xdp_tx_drops`.

use std::io;

use super::interface::Query;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
/// The set of names of statistics.
const STATISTICS: u32 = 1;
const NAME_BYTES: usize = 32;
/// More than any driver has; the kernel writes as many as it says.
const MOST: usize = 1 << 16;

/// How many frames were lost on their way back; 0 where the driver does not tell.
pub(super) fn lost_answers(interface: &str) -> anyhow::Result<u64> {
    let query = Query::new(interface)?;
    Ok(lost(&query).unwrap_or(0))
}

fn lost(query: &Query) -> io::Result<u64> {
    // Command and reserved word, mask of sets, and the length of the one asked for.
    let mut info = [0_u64; 3];
    info[0] = u64::from(ETHTOOL_GSSET_INFO);
    info[1] = 1 << STATISTICS;
    query.ethtool_words(&mut info)?;
    let count = info[2] as u32 as usize;
    if count == 0 || count > MOST {
        return Ok(0);
    }
    // A header of three words of 32 bits, then the names; one more word makes it even.
    let mut names = vec![0_u64; 2 + count * NAME_BYTES / 8];
    names[0] = u64::from(ETHTOOL_GSTRINGS) | u64::from(STATISTICS) << 32;
    names[1] = count as u64;
    query.ethtool_words(&mut names)?;
    let mut values = vec![0_u64; 1 + count];
    values[0] = u64::from(ETHTOOL_GSTATS) | (count as u64) << 32;
    query.ethtool_words(&mut values)?;
    let bytes: Vec<u8> = names.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let names = bytes[12..].chunks_exact(NAME_BYTES).take(count);
    let losses = names
        .zip(&values[1..])
        .filter(|(name, _)| tells_of_loss(name));
    Ok(losses.map(|(_, value)| *value).sum())
}

fn tells_of_loss(name: &[u8]) -> bool {
    let end = name.iter().position(|byte| *byte == 0);
    let name = &name[..end.unwrap_or(name.len())];
    let has = |part: &str| {
        name.windows(part.len())
            .any(|bytes| bytes == part.as_bytes())
    };
    has("xdp_tx") && (has("err") || has("drop") || has("full"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_known_by_the_names_that_drivers_give_them() {
        for name in [
            "rx_queue_0_xdp_tx_errors",
            "rx_xdp_tx_full",
            "tx0_xdp_tx_drops",
        ] {
            let mut padded = name.as_bytes().to_vec();
            padded.resize(NAME_BYTES, 0);
            assert!(tells_of_loss(&padded), "{name}");
        }
        for name in ["rx_queue_0_xdp_tx", "rx_queue_0_drops", "tx_errors"] {
            assert!(!tells_of_loss(name.as_bytes()), "{name}");
        }
    }
}
