//! Finds what is out of the ordinary: a pure function of time and counts, so that a live host, a
//! recorded capture and a synthetic series go through the same code. No I/O, no clock, no maps.

mod input;

pub use input::*;
