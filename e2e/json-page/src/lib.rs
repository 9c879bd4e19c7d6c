//! Compares `docs/json.md` with the values that recluster serialises, both ways.
//!
//! The page has a table for each object: field, type, unit, meaning. Unit tests of the engine and of the command build one
//! value for each variant of what they serialise and call [`Page::compare`]: a field, a type or an event that only one side
//! has is a fault. [`Page::faults`] finds what is wrong with the page itself, its examples included.
//!
//! A type is one or more of `string`, `integer`, `number`, `boolean`, `any`, `array of TYPE`, a link to the heading of an
//! object, and `null` or `absent`, joined by `or`. A row without a field's name takes in all fields of the linked object.
//! `One of` in the last column lists every value that a string can have.

#![expect(clippy::missing_panics_doc, reason = "a test ends where the page cannot be read")]

mod compare;
mod page;
mod shape;

pub use compare::Samples;
pub use page::Page;

/// The parts of the page that the unit tests of the engine compare.
pub const OF_ENGINE: [&str; 8] = [
    "Events of the cluster",
    "Events of the library",
    "Objects",
    "Status",
    "History",
    "Requests",
    "Replies",
    "Progress of a reload",
];

/// The parts of the page that the unit tests of the command compare.
pub const OF_COMMAND: [&str; 6] = [
    "Log lines",
    "Lines of workers",
    "Events of the command",
    "Lines that are no JSON",
    "The answer of check",
    "Failures",
];

/// Values of an enum, some for each variant: a new variant does not compile until it has a value here.
#[macro_export]
macro_rules! every {
    ($($pattern:pat => $values:expr),+ $(,)?) => {{
        let mut all = Vec::new();
        $(
            let values = $values;
            let are_all = values.iter().all(|value| matches!(value, $pattern));
            assert!(are_all && !values.is_empty(), "{}", stringify!($pattern));
            all.extend(values);
        )+
        for value in &all {
            match value {
                $($pattern => {})+
            }
        }
        all
    }};
}

#[cfg(test)]
mod tests;
