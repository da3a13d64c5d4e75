//! Finds what is out of the ordinary: a pure function of time and counts, so that a live host, a
//! recorded capture and a synthetic series go through the same code. No I/O, no clock, no maps.

mod alert;
mod config;
mod detector;
mod input;
mod pace;

pub use alert::*;
pub use config::*;
pub use detector::*;
pub use input::*;
pub use pace::*;
