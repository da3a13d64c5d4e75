//! Options of the BPF linker that decide about the code it generates.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Small copies and clears become stores; by default each is a call of a byte loop.
    println!("cargo:rustc-link-arg-bins=--disable-expand-memcpy-in-order");
}
