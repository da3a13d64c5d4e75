//! What the whole-system tests and the demonstration share: network namespaces joined by a real
//! wire, real servers in them, the real daemon, and ways of counting what got through.
//!
//! Everything made here has a guard that takes it away again, and a name that tells which process
//! made it, so that tests run side by side and the next run clears what a crashed one left.

pub mod bpf;
pub mod cache;
pub mod chromium;
pub mod clients;
pub mod daemon;
pub mod debian_root;
pub mod disk;
pub mod document;
pub mod evaluation;
pub mod frames;
pub mod inject;
pub mod kernel;
pub mod leftovers;
pub mod machine;
pub mod monitoring;
pub mod namespace;
pub mod patience;
pub mod policies;
pub mod process;
pub mod reaction;
pub mod relay;
pub mod servers;
pub mod ssh;
pub mod storm;
pub mod terminal;
pub mod tools;
pub mod topology;
pub mod virtual_machine;
pub mod xdp;

pub use daemon::Daemon;
pub use machine::Machine;
pub use namespace::Namespace;
pub use patience::{eased, is_slow, stretched};
pub use process::Background;
pub use tools::{need_tools, note, skip_unless_root, skipped};
pub use topology::Topology;
