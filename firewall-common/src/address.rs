//! One address type for both families, so that no table or rule can treat them differently.

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2).
///
/// Two host-order words: comparing and masking them is what the kernel program does most.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The upper 64 bits; an IPv6 subnet of /64 is exactly this word.
    pub high: u64,
    /// The lower 64 bits; for IPv4, `0xffff` in the upper half and the address in the lower.
    pub low: u64,
}

const V4_MAPPED: u64 = 0xffff_0000_0000;

impl Address {
    /// The IPv4 address given in host order.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self {
            high: 0,
            low: V4_MAPPED | address as u64,
        }
    }

    /// The IPv6 address given as its two halves in host order.
    #[inline(always)]
    pub const fn v6(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.high == 0 && self.low >> 32 == V4_MAPPED >> 32
    }

    /// The IPv4 address in host order; meaningless when [`Self::is_v4`] is false.
    #[inline(always)]
    pub const fn as_v4(&self) -> u32 {
        self.low as u32
    }

    /// The address with all but its first `length` bits cleared; `length` counts in the 128-bit
    /// form, so an IPv4 /24 is 120. Lengths over 128 count as 128.
    #[inline(always)]
    pub const fn masked(&self, length: u32) -> Self {
        if length >= 128 {
            *self
        } else if length >= 64 {
            let keep = length - 64;
            let mask = if keep == 0 {
                0
            } else {
                u64::MAX << (64 - keep)
            };
            Self {
                high: self.high,
                low: self.low & mask,
            }
        } else {
            let mask = if length == 0 {
                0
            } else {
                u64::MAX << (64 - length)
            };
            Self {
                high: self.high & mask,
                low: 0,
            }
        }
    }

    /// The key under which a source is accounted: an IPv4 address, or an IPv6 /64.
    ///
    /// An IPv4 address `a` is `1 << 32 | a`. The /64s whose upper half looks like that lie in
    /// `::/31`, which is reserved (RFC 4291 2.5) and never a source on the Internet.
    #[inline(always)]
    pub const fn source_key(&self) -> u64 {
        if self.is_v4() {
            1 << 32 | self.low & 0xffff_ffff
        } else {
            self.high
        }
    }
}
