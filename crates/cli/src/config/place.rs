//! Where something stands in the file.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a config file, counted from 1 as editors do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// The place that is so many bytes into the text.
    pub(super) fn new(path: &Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { path: path.to_owned(), line: before.matches('\n').count() + 1, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let text = "a = 1\nähm = 2\n\nb";
        let place = |offset| Place::new(Path::new("f"), text, offset).to_string();
        assert_eq!(place(0), "f:1:1");
        assert_eq!(place(5), "f:1:6");
        assert_eq!(place(6), "f:2:1");
        assert_eq!(place(8), "f:2:2");
        assert_eq!(place(text.len()), "f:4:2");
        assert_eq!(place(9999), "f:4:2");
    }
}
