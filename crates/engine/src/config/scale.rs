//! How many slots are wanted.

/// How many slots are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "absolute or relative, there is no third")]
pub enum Scale {
    /// This many.
    To(u32),
    /// This many more, or fewer.
    By(i32),
}
