//! What V8's format consists of: what may come next, and in what.

use serde::{Deserialize, Serialize};

use super::text::Encoding;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Want {
    Mark,
    /// What a value begins with, or what ends the one that we are in.
    Tag,
    /// A number in groups of seven bits, and what it means.
    Number(Meaning),
    /// A number of eight bytes; it matters or not.
    Double {
        matters: bool,
    },
    /// The characters of a string, so many bytes.
    Text(u64),
    /// So many bytes that do not matter.
    Raw(u64),
    /// A part of an error, by its tag.
    ErrorPart,
    /// Nothing: the value is whole.
    End,
    /// Nothing: this is no value, or one that we cannot read.
    Failed,
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Meaning {
    Version,
    /// A value. The sign of the first kind is its lowest bit.
    Signed,
    Unsigned,
    /// An object that was there before.
    Reference,
    /// How many bytes a string has.
    TextLength(Encoding),
    /// How many bytes follow.
    RawLength,
    /// The same, and one more number before them.
    ResizableLength,
    MostLength(u64),
    /// How many bytes the digits have, and the sign in the lowest bit.
    DigitsLength,
    /// How many values an array has, one after the other.
    Length,
    /// How long an array is of which each value has its index.
    SparseLength,
    /// How a host object of Node was written.
    HostKind,
    /// Which sort of view a host object is.
    HostView,
    /// So many numbers that do not matter, and then a tag.
    Ignored(u8),
    /// So many numbers, and then the value ends that we are in.
    Closing(u8),
}

/// A number that has been read so far.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Number {
    pub(super) value: u64,
    pub(super) bits: u32,
}

/// A value in which others lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Frame {
    /// Keys and values in turn.
    Fields { at_key: bool, is_empty: bool, of: Owner },
    /// So many values are missing.
    Items { missing: u64, is_empty: bool },
    /// Values up to this tag.
    Group { end: u8 },
    /// The source, and then the flags.
    RegExp,
    /// Parts up to a full stop.
    Error,
}

/// Whose fields they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Owner {
    Object,
    /// An array whose items came before, as JSON's do.
    Array,
    /// An array whose items are among its fields.
    SparseArray,
}
