//! What the allocator of the C library keeps for this process.

/// Has all threads share one heap from here on: a heap for each thread keeps what that thread has once needed, and no other may use it.
/// A large block is the kernel's again as soon as it is freed: left alone, glibc takes for large what is larger than the largest that was freed,
/// up to 32 MiB, and a master that had answered thousands of clients kept twice as much as it used.
pub(crate) fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 64 * 1024),
        (libc::M_TRIM_THRESHOLD, 64 * 1024),
        (libc::M_TOP_PAD, 32 * 1024),
    ] {
        // SAFETY: it sets a number of the allocator, which any thread may do at any time.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives pages back on which nothing lives any more.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: what lives is left alone, and the allocator keeps others out meanwhile.
    unsafe {
        libc::malloc_trim(0);
    }
}
