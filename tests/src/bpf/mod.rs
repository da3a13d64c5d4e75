//! Small kernel programs written as instructions, and the bpf(2) calls that load and time them: what the
//! benches put before and beside the programs of service.

pub mod calls;
pub mod instructions;
