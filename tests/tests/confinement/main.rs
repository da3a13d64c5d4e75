//! What the running daemon cannot do: tried in its own threads, not read from a list.

mod settings;
#[cfg(target_arch = "x86_64")]
mod trying;
mod unit;
#[cfg(target_arch = "x86_64")]
mod watchdog;
