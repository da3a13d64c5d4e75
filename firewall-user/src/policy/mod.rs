//! The policy language: reading and checking a file, editing it in place, compiling it to the
//! image that the kernel programs and the host engine read.

mod model;

pub use model::*;
