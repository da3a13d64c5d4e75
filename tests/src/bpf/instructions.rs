//! BPF instructions as the kernel's documentation of the instruction set (RFC 9669) lays them out:
//! the few that the small programs of the measurement need.

pub const EXIT: u64 = encode(0x95, 0, 0, 0, 0);

/// Numbers of helpers.
pub const LOOK_UP: i32 = 1;
pub const RANDOM: i32 = 7;
pub const TAIL_CALL: i32 = 12;

const fn encode(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset as u16 as u64) << 16
        | (immediate as u32 as u64) << 32
}

pub const fn copy(to: u8, from: u8) -> u64 {
    encode(0xbf, to, from, 0, 0)
}

pub const fn set(to: u8, value: i32) -> u64 {
    encode(0xb7, to, 0, 0, value)
}

pub const fn add(to: u8, value: i32) -> u64 {
    encode(0x07, to, 0, 0, value)
}

pub const fn add_register(to: u8, from: u8) -> u64 {
    encode(0x0f, to, from, 0, 0)
}

pub const fn multiply_register(to: u8, from: u8) -> u64 {
    encode(0x2f, to, from, 0, 0)
}

pub const fn and_register(to: u8, from: u8) -> u64 {
    encode(0x5f, to, from, 0, 0)
}

pub const fn and(to: u8, value: i32) -> u64 {
    encode(0x57, to, 0, 0, value)
}

pub const fn exclusive_or_register(to: u8, from: u8) -> u64 {
    encode(0xaf, to, from, 0, 0)
}

pub const fn flip(to: u8, value: i32) -> u64 {
    encode(0xa7, to, 0, 0, value)
}

pub const fn shift_right(to: u8, bits: i32) -> u64 {
    encode(0x77, to, 0, 0, bits)
}

pub const fn shift_left(to: u8, bits: i32) -> u64 {
    encode(0x67, to, 0, 0, bits)
}

/// Clears the upper half.
pub const fn lower_half(to: u8) -> u64 {
    encode(0xbc, to, to, 0, 0)
}

/// Loads 32 bits.
pub const fn load(to: u8, from: u8, offset: i16) -> u64 {
    encode(0x61, to, from, offset, 0)
}

/// Loads 64 bits.
pub const fn load_word(to: u8, from: u8, offset: i16) -> u64 {
    encode(0x79, to, from, offset, 0)
}

/// Stores 16 bits.
pub const fn store_half(to: u8, from: u8, offset: i16) -> u64 {
    encode(0x6b, to, from, offset, 0)
}

/// Stores 32 bits.
pub const fn store(to: u8, from: u8, offset: i16) -> u64 {
    encode(0x63, to, from, offset, 0)
}

/// Stores 64 bits.
pub const fn store_word(to: u8, from: u8, offset: i16) -> u64 {
    encode(0x7b, to, from, offset, 0)
}

pub const fn call(helper: i32) -> u64 {
    encode(0x85, 0, 0, 0, helper)
}

pub const fn skip_if_below(register: u8, value: i32, skipped: i16) -> u64 {
    encode(0xa5, register, 0, skipped, value)
}

pub const fn skip_if_above(register: u8, other: u8, skipped: i16) -> u64 {
    encode(0x2d, register, other, skipped, 0)
}

pub const fn skip_if_zero(register: u8, skipped: i16) -> u64 {
    encode(0x15, register, 0, skipped, 0)
}

/// Keeps the lower half.
pub const fn multiply_lower(to: u8, by: i32) -> u64 {
    encode(0x24, to, 0, 0, by)
}

/// Shifts the lower half.
pub const fn shift_right_lower(to: u8, bits: i32) -> u64 {
    encode(0x74, to, 0, 0, bits)
}

/// Takes the place of two instructions.
pub const fn set_word(to: u8, value: u64) -> [u64; 2] {
    let high = (value >> 32) as i32;
    [
        encode(0x18, to, 0, 0, value as i32),
        encode(0, 0, 0, 0, high),
    ]
}

/// Takes the place of two instructions.
pub const fn address_of_map(to: u8, map: i32) -> [u64; 2] {
    [encode(0x18, to, 1, 0, map), 0]
}

/// The address of an array's first value. Takes the place of two instructions.
pub const fn address_of_value(to: u8, map: i32) -> [u64; 2] {
    [encode(0x18, to, 2, 0, map), 0]
}
