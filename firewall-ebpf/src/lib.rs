//! Empty: cargo needs a library target for other crates to name this package as a dependency.
#![no_std]
