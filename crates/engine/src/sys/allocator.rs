//! What the allocator of the C library keeps of memory that was freed.

/// Has it keep little: one place for all threads, whose free memory each of them can use, and a block that is large is the kernel's
/// again as soon as it is freed. To be called before there are threads; elsewhere than in glibc there is nothing to say.
///
/// Left alone, glibc raises the size of a block that is large to that of the largest that was freed, up to 32 MiB, and then blocks of all sizes
/// share what it keeps: a master that had answered thousands of clients kept twice as much as it used.
pub fn keep_little_memory() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 64 * 1024),
        (libc::M_TRIM_THRESHOLD, 64 * 1024),
        (libc::M_TOP_PAD, 32 * 1024),
    ] {
        // SAFETY: it changes one number, under the lock of the allocator. A number that it does not know or like is ignored.
        unsafe { libc::mallopt(parameter, value) };
    }
}
