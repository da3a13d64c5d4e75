//! What a SYN or SYN-ACK offers in its TCP options (RFC 9293 3.2, RFC 7323, RFC 2018).

/// Room for a TCP header with all options, a power of two so that an index can be masked.
pub const OPTIONS_ROOM: usize = 64;

const END: u8 = 0;
const NOTHING: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SELECTIVE: u8 = 4;
const TIMESTAMPS: u8 = 8;
const MD5_SIGNATURE: u8 = 19;
const AUTHENTICATION: u8 = 29;

/// The options of one header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Where the next option begins.
    at: u32,
    /// See the constants.
    seen: u32,
    /// The sender's clock.
    pub timestamp: u32,
    pub segment_size: u32,
    /// Not over 14 (RFC 7323 2.3).
    pub window_scale: u32,
}

impl Offered {
    pub const SEGMENT_SIZE: u32 = 1;
    pub const WINDOW_SCALE: u32 = 2;
    pub const SELECTIVE: u32 = 4;
    pub const TIMESTAMPS: u32 = 8;
    /// The connection is to be signed (RFC 2385, RFC 5925): only the stack knows the key.
    pub const SIGNED: u32 = 16;

    /// Whether an option was there.
    #[inline(always)]
    pub const fn has(&self, option: u32) -> bool {
        self.seen & option != 0
    }

    /// Whether all that a connection gains from options can go into the timestamp of a cookie.
    #[inline(always)]
    pub const fn is_full(&self) -> bool {
        let both = Self::WINDOW_SCALE | Self::TIMESTAMPS;
        self.seen & both == both
    }
}

/// Reads the options of a TCP header of `length` bytes. No header in use has more than twelve, paddings
/// counted one by one; what comes behind sixteen is not looked at.
///
/// `forget` is called between two options: the kernel program makes the verifier forget there which
/// options came before. It is no loop, because kernels before 6.8 do not take some that LLVM makes.
#[inline(always)]
pub fn read_options(
    header: &[u8; OPTIONS_ROOM],
    length: u32,
    offered: &mut Offered,
    forget: impl Fn(&mut Offered),
) {
    *offered = Offered {
        at: 20,
        ..Offered::default()
    };
    let next = |offered: &mut Offered| {
        read_option(header, length, offered);
        forget(offered);
    };
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
    next(offered);
}

#[inline(always)]
fn read_option(header: &[u8; OPTIONS_ROOM], length: u32, offered: &mut Offered) {
    let at = offered.at;
    let byte = |behind: u32| header[(at + behind) as usize & (OPTIONS_ROOM - 1)];
    if at >= length {
        return;
    }
    let kind = byte(0);
    if kind == NOTHING {
        offered.at = at + 1;
        return;
    }
    let size = byte(1) as u32;
    if kind == END || at + 1 >= length || size < 2 || at + size > length {
        offered.at = OPTIONS_ROOM as u32;
        return;
    }
    offered.at = at + size;
    match (kind, size) {
        (SEGMENT_SIZE, 4) => {
            offered.segment_size = (byte(2) as u32) << 8 | byte(3) as u32;
            offered.seen |= Offered::SEGMENT_SIZE;
        }
        (WINDOW_SCALE, 3) => {
            let scale = byte(2) as u32;
            offered.window_scale = if scale > 14 { 14 } else { scale };
            offered.seen |= Offered::WINDOW_SCALE;
        }
        (SELECTIVE, 2) => offered.seen |= Offered::SELECTIVE,
        (TIMESTAMPS, 10) => {
            offered.timestamp = (byte(2) as u32) << 24
                | (byte(3) as u32) << 16
                | (byte(4) as u32) << 8
                | byte(5) as u32;
            offered.seen |= Offered::TIMESTAMPS;
        }
        (MD5_SIGNATURE | AUTHENTICATION, _) => offered.seen |= Offered::SIGNED,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[u8]) -> Offered {
        let mut header = [0xee; OPTIONS_ROOM];
        header[20..20 + options.len()].copy_from_slice(options);
        let mut offered = Offered::default();
        read_options(&header, 20 + options.len() as u32, &mut offered, |_| {});
        offered
    }

    #[test]
    fn a_syn_of_linux_offers_all_four() {
        let offered = read(&[
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
        ]);
        assert_eq!(offered.segment_size, 1_460);
        assert_eq!(offered.timestamp, 0x0102_0304);
        assert_eq!(offered.window_scale, 7);
        assert!(offered.has(Offered::SELECTIVE) && offered.is_full());
        assert!(!offered.has(Offered::SIGNED));
    }

    #[test]
    fn a_header_without_options_offers_none() {
        let offered = read(&[]);
        assert_eq!(offered.seen, 0);
        assert!(!offered.is_full());
    }

    #[test]
    fn what_contradicts_itself_ends_the_reading_and_keeps_what_came_before() {
        // A size of 0, 1, or beyond the header; the end of the list; a kind without a size.
        for tail in [
            &[8_u8, 0, 3, 3][..],
            &[8, 1, 3, 3],
            &[8, 10, 0, 0],
            &[0, 3, 3, 7],
            &[1, 1, 1, 8],
        ] {
            let offered = read(&[&[2, 4, 2, 0], tail].concat());
            assert_eq!(offered.seen, Offered::SEGMENT_SIZE, "{tail:?}");
            assert_eq!(offered.segment_size, 512);
        }
    }

    #[test]
    fn a_window_scale_over_fourteen_counts_as_fourteen() {
        assert_eq!(read(&[3, 3, 200, 0]).window_scale, 14);
    }

    #[test]
    fn a_signed_connection_is_known() {
        let mut signed = [0_u8; 20];
        signed[..2].copy_from_slice(&[19, 18]);
        assert!(read(&signed).has(Offered::SIGNED));
        assert!(read(&[29, 4, 1, 1]).has(Offered::SIGNED));
    }
}
