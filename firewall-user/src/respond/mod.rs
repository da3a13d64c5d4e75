//! Answers to what people and detectors ask for: bans, with their lifetime, origin and reason,
//! kept apart from the policy and across restarts.

mod automatic;
mod book;
mod cookies;
mod duration;
mod guard;
mod signature;
mod store;

pub use automatic::{RespondMode, RespondSettings, Response};
pub use book::{BanBook, BanRecord, Origin};
pub use cookies::{Armed, CookieBook, CookieMode, CookieOrder, SynTally, ports_of, tcp_services};
pub use duration::{BanDuration, BanDurationError};
pub use guard::{BanRefusal, check_ban, is_protected};
pub use signature::SignatureMode;
pub use store::{BanFile, Change, Loaded};
