//! Kernels before 6.8 refuse a program in which a loop closes by falling through to its head
//! ("back-edge"); the way back must be a jump. LLVM places blocks as it sees fit and often gives
//! them the shape that is refused. Here a jump over nothing is put where such a loop falls
//! through: the verifier takes it out again once it has looked, so it costs nothing.
//!
//! Pure functions over instructions, used by the build script and by the tests.

/// One instruction slot, as the kernel takes it, little-endian.
pub type Slot = [u8; 8];

const BPF_JMP: u8 = 0x05;
const BPF_JMP32: u8 = 0x06;
const BPF_JA: u8 = 0x00;
const BPF_CALL: u8 = 0x80;
const BPF_EXIT: u8 = 0x90;

/// Goes on with the next instruction.
const JUMP_OVER_NOTHING: Slot = [BPF_JMP | BPF_JA, 0, 0, 0, 0, 0, 0, 0];

fn offset(slot: &Slot) -> i16 {
    i16::from_le_bytes([slot[2], slot[3]])
}

/// Whether a slot calls a function of the same program, whose place it gives as a distance. (The
/// second half of a 64-bit constant begins with a 0.)
fn is_near_call(slot: &Slot) -> bool {
    slot[0] == BPF_JMP | BPF_CALL && slot[1] >> 4 == 1
}

/// How an instruction goes on.
enum Flow {
    /// With the next one, though it is no jump.
    Falls,
    Jumps {
        falls_too: bool,
    },
    Ends,
}

fn flow(slot: &Slot) -> Flow {
    match (slot[0] & 0x07, slot[0] & 0xf0) {
        (BPF_JMP, BPF_EXIT) => Flow::Ends,
        (BPF_JMP, BPF_CALL) => Flow::Falls,
        (BPF_JMP, BPF_JA) => Flow::Jumps { falls_too: false },
        (BPF_JMP | BPF_JMP32, _) => Flow::Jumps { falls_too: true },
        _ => Flow::Falls,
    }
}

fn target(code: &[Slot], at: usize) -> Option<usize> {
    at.checked_add_signed(isize::from(offset(&code[at])) + 1)
        .filter(|&target| target < code.len())
}

/// Where a function falls through to the head of a loop that it is in: the heads, in order.
/// Walks as the kernel's check does, depth first from the function's entry.
pub fn fallen_into(code: &[Slot]) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        Unseen,
        Open,
        Done,
    }
    let mut heads = Vec::new();
    let mut states = vec![State::Unseen; code.len()];
    let mut path = Vec::new();
    if !code.is_empty() {
        states[0] = State::Open;
        path.push(0);
    }
    while let Some(&at) = path.last() {
        let next = Some(at + 1).filter(|&next| next < code.len());
        let (ways, falls) = match flow(&code[at]) {
            Flow::Falls => ([next, None], true),
            Flow::Jumps { falls_too: true } => ([next, target(code, at)], false),
            Flow::Jumps { falls_too: false } => ([target(code, at), None], false),
            Flow::Ends => ([None, None], false),
        };
        let mut deeper = None;
        for way in ways.into_iter().flatten() {
            match states[way] {
                State::Unseen => {
                    deeper = Some(way);
                    break;
                }
                State::Open if falls => heads.push(way),
                State::Open | State::Done => {}
            }
        }
        match deeper {
            Some(way) => {
                states[way] = State::Open;
                path.push(way);
            }
            None => {
                states[at] = State::Done;
                path.pop();
            }
        }
    }
    heads.sort_unstable();
    heads
}

/// Where each slot of a section goes when a slot is put in front of each of `heads`.
pub struct Shift {
    heads: Vec<usize>,
}

impl Shift {
    /// `heads` in order.
    pub fn new(heads: Vec<usize>) -> Self {
        Self { heads }
    }

    /// The new place of a slot, or of the end behind the last one.
    pub fn of(&self, slot: usize) -> usize {
        slot + self.heads.partition_point(|&head| head <= slot)
    }

    /// The section's code with the jumps in place, or nothing where a jump cannot reach its
    /// target any more.
    pub fn apply(&self, code: &[Slot]) -> Option<Vec<Slot>> {
        let mut heads = self.heads.iter().peekable();
        let mut moved = Vec::with_capacity(code.len() + self.heads.len());
        for (at, slot) in code.iter().enumerate() {
            if heads.next_if_eq(&&at).is_some() {
                moved.push(JUMP_OVER_NOTHING);
            }
            let mut slot = *slot;
            // The second half of a 64-bit constant has no class; its bits 0 to 2 are 0, no jump's.
            if let (Flow::Jumps { .. }, Some(target)) = (flow(&slot), target(code, at)) {
                let distance = self.of(target) as isize - self.of(at) as isize - 1;
                let distance = i16::try_from(distance).ok()?;
                slot[2..4].copy_from_slice(&distance.to_le_bytes());
            }
            // The distance of a call that the loader resolves is -1, and remains so.
            if is_near_call(&slot) {
                let distance = i32::from_le_bytes([slot[4], slot[5], slot[6], slot[7]]);
                let target = at.checked_add_signed(distance as isize + 1)?;
                let distance = self.of(target) as isize - self.of(at) as isize - 1;
                let distance = i32::try_from(distance).ok()?;
                slot[4..].copy_from_slice(&distance.to_le_bytes());
            }
            moved.push(slot);
        }
        Some(moved)
    }
}
