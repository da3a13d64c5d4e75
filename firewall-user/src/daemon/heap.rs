//! One heap for all threads. The C library gives each thread a heap of its own that grows a page at a time, a system
//! call for each: compiling a policy on the fence thread made tens of thousands. The main heap grows in larger
//! steps, and what few threads there are seldom meet in it.

/// Has all threads use the main heap; before there are any.
pub fn share() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a setting of the C library")]
    // SAFETY: sets a number, while nobody else allocates. Where it is not taken, threads have heaps of their own.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
