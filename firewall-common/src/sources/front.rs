//! What decides about strangers: a word for each place of the source table, small enough that the words of all stay
//! near, whoever floods it.

/// A source that has been silent for this long gives up its place, whatever its weight, or within nine seconds after: see
/// [`Front`].
pub const IDLE_MILLISECONDS: u32 = 60_000;
/// A source weighs no more.
pub const MAX_WEIGHT: u32 = (1 << Front::WEIGHT_BITS) - 1;

/// What a source weighs that displaces another, so that in a flood not every second stranger takes a place and
/// writes to memory that is far away, but one in five. Who takes an empty place weighs 1.
///
/// It is also what the promise costs: a packet of others adds at most this much weight, and one of a source that
/// has no place takes 1 away; so a source that sends more than `CREDIT` times as many packets as the strangers of its bucket
/// together has a place in the end, in whatever order they come.
pub const CREDIT: u32 = 4;

/// What decides about a place of a bucket, in 32 bits: when its source was last seen (6 bits, in steps of 2^33
/// nanoseconds, 8.6 s), the source's weight (14 bits), whether the reader was told of its latest packet, and its mark (11 bits, see
/// [`super::mark_of`], of which the lowest is always set). 0 where nobody has the place yet.
///
/// The time wraps after 9 minutes: should nobody ask for the place meanwhile, a source that left it alone for so long keeps it for another
/// minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Front(pub u32);

impl Front {
    const STEP_BITS: u32 = 33;
    pub(super) const SEEN_BITS: u32 = 6;
    const WEIGHT_BITS: u32 = 14;
    const TOLD_SHIFT: u32 = Self::SEEN_BITS + Self::WEIGHT_BITS;
    pub(super) const MARK_SHIFT: u32 = Self::TOLD_SHIFT + 1;
    /// The reader sets this bit as it reads what there is of the source. Every packet of the source writes the word anew and
    /// without it, which costs the packet path nothing; so a reader knows who sent something by a look at this bit.
    pub const TOLD: u32 = 1 << Self::TOLD_SHIFT;
    /// Set where somebody has the place: the lowest bit of the mark.
    pub const TAKEN: u32 = 1 << Self::MARK_SHIFT;
    /// A source is idle from so many steps on: one more than fit, as the first of them may have just begun.
    pub(super) const IDLE: u64 = ((IDLE_MILLISECONDS as u64 * 1_000_000) >> Self::STEP_BITS) + 2;

    /// A source that just entered.
    #[inline(always)]
    pub(super) const fn new(mark: u32, weight: u32, now: u64) -> Self {
        Self(mark << Self::MARK_SHIFT | weight << Self::SEEN_BITS | Self::step(now) as u32)
    }

    #[inline(always)]
    pub(super) const fn step(now: u64) -> u64 {
        now >> Self::STEP_BITS & ((1 << Self::SEEN_BITS) - 1)
    }

    /// Whether the place may be that of the source with this mark.
    #[inline(always)]
    pub const fn may_be(self, mark: u32) -> bool {
        self.0 >> Self::MARK_SHIFT == mark
    }

    /// How much it takes to displace the source.
    #[inline(always)]
    pub const fn weight(self) -> u32 {
        self.0 >> Self::SEEN_BITS & MAX_WEIGHT
    }

    /// Steps since the source was last seen.
    #[inline(always)]
    pub(super) const fn idle(self, now: u64) -> u64 {
        Self::step(now).wrapping_sub(self.0 as u64) & ((1 << Self::SEEN_BITS) - 1)
    }

    /// After another packet of its source.
    #[inline(always)]
    pub(super) const fn heavier(self, now: u64) -> Self {
        let weight = self.weight();
        let weight = weight + (weight < MAX_WEIGHT) as u32;
        let mark = self.0 >> Self::MARK_SHIFT << Self::MARK_SHIFT;
        Self(mark | weight << Self::SEEN_BITS | Self::step(now) as u32)
    }
}
