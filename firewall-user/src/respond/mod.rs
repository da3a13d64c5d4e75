//! Answers to what people and detectors ask for: bans, with their lifetime, origin and reason,
//! kept apart from the policy and across restarts.

mod automatic;
mod book;
mod breaker;
mod cookies;
mod duration;
mod ground;
mod guard;
mod offenders;
mod past;
mod plan;
mod regulars;
mod signature;
mod store;

pub use automatic::{PacketRate, RespondMode, RespondSettings};
pub use book::{BanBook, BanRecord, Measure, Origin};
pub use breaker::{Breaker, Off, Wanted};
pub use cookies::{Armed, CookieBook, CookieMode, CookieOrder, SynTally, ports_of, tcp_services};
pub use duration::{BanDuration, BanDurationError};
pub use ground::Ground;
pub use guard::{BanRefusal, check_ban, is_protected};
pub use offenders::{Offender, Offenders};
pub use past::{Past, PastBan};
pub use plan::{Act, Case, Response};
pub use regulars::Regulars;
#[cfg(test)]
pub(crate) use regulars::tests::regulars as regulars_of;
pub use signature::{COLLATERAL, SignatureMode};
pub use store::{Change, keep_bans, load_bans};
