//! The policy language: reading and checking a file, editing it in place, compiling it to the
//! image that the kernel programs and the host engine read.

pub mod address;
mod changes;
mod compile;
pub mod describe;
pub mod difference;
pub mod edit;
pub mod finding;
pub mod limit;
mod lint;
mod model;
mod names;
pub mod payload;
pub mod protocol;
mod read;
pub mod render;
mod source;

pub use changes::{Changes, SetChange};
pub use compile::{CompileError, Compiled, Constants, Counters, Environment};
pub use finding::{Finding, PolicyErrors, Severity};
pub use limit::Limit;
pub(crate) use lint::is_admin_port;
pub use model::*;
pub use names::NAME_LENGTH;
pub use read::{
    LIMIT_KEYS, MAX_POLICY_BYTES, MAX_RULES, MAX_SET_FILE_BYTES, MAX_SETS, RULE_KEYS, Reading,
    SMALLEST_POLICY, SetFile, UNREADABLE, read_set_file, reference,
};
pub(crate) use source::place_in_line;
