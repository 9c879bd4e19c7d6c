//! Columns that fit the width of a terminal: a line that wraps is no row any more.

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// The title where there is not enough room.
    pub(super) short: &'static str,
    /// What becomes of it where there is still not enough room.
    pub(super) yields: Yields,
}

/// When a column goes to make room. Lower numbers go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Yields {
    Never,
    /// It is left out.
    Goes(u8),
    /// Its cells stand in lines of their own, below their rows.
    Below,
}

/// Finishes a cell that is as wide as its column, with what has no width.
pub(super) type Finish<'a> = dyn Fn(usize, String) -> String + 'a;

/// Which columns are shown, and how.
struct Layout {
    shown: Vec<usize>,
    below: Vec<usize>,
    is_short: bool,
}

/// The rows under their titles, no wider than `width` if that can be done, as finished lines. The first line has the titles.
pub(super) fn lines<const N: usize>(
    columns: &[Column; N],
    rows: &[[String; N]],
    width: Option<usize>,
    finish: &Finish<'_>,
) -> Vec<String> {
    let layout = layout(columns, rows, width);
    let titles: [String; N] = columns.map(|column| layout.title(&column).to_owned());
    let widths: Vec<usize> = layout.shown.iter().map(|&at| cell_width(at, &titles, rows)).collect();
    let mut lines = vec![joined(&titles, &layout.shown, &widths, &|_, cell| cell)];
    for row in rows {
        lines.push(joined(row, &layout.shown, &widths, finish));
        for text in layout.below.iter().filter_map(|&at| row.get(at)).filter(|text| !text.is_empty()) {
            lines.extend(wrapped(&format!("      {text}"), width));
        }
    }
    lines
}

/// A line, in as many lines as it needs; those behind the first one are indented.
pub(super) fn wrapped(text: &str, width: Option<usize>) -> Vec<String> {
    const INDENT: usize = 2;
    let Some(width) = width.filter(|width| *width > 2 * INDENT) else { return vec![text.to_owned()] };
    let indent = " ".repeat(text.chars().take_while(|c| *c == ' ').count().min(width / 2));
    let mut lines: Vec<String> = Vec::new();
    let mut line = indent.clone();
    for word in text.split_whitespace() {
        let mut word = word;
        let gap = usize::from(!line.trim().is_empty());
        if gap > 0 && line.chars().count() + gap + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, format!("{indent}{}", " ".repeat(INDENT))));
        } else {
            line.push_str(&" ".repeat(gap));
        }
        // A word that is longer than a line, such as a path, is broken.
        while line.chars().count() + word.chars().count() > width {
            let room = width.saturating_sub(line.chars().count());
            let at = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
            line.push_str(word.get(..at).unwrap_or_default());
            word = word.get(at..).unwrap_or_default();
            lines.push(std::mem::replace(&mut line, format!("{indent}{}", " ".repeat(INDENT))));
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// The first layout that fits: everything; short titles; texts below their rows; fewer and fewer columns.
fn layout<const N: usize>(columns: &[Column; N], rows: &[[String; N]], width: Option<usize>) -> Layout {
    let everything = Layout { shown: (0..N).collect(), below: Vec::new(), is_short: false };
    let Some(width) = width else { return everything };
    let is_empty = |at: &usize| rows.iter().all(|row| row.get(*at).is_none_or(String::is_empty));
    let yields = |at: &usize| columns.get(*at).map_or(Yields::Never, |column| column.yields);
    let full: Vec<usize> = (0..N).filter(|at| !is_empty(at)).collect();
    let below: Vec<usize> = full.iter().copied().filter(|at| yields(at) == Yields::Below).collect();
    let beside: Vec<usize> = full.iter().copied().filter(|at| yields(at) != Yields::Below).collect();
    let mut tried = vec![
        Layout { shown: full.clone(), below: Vec::new(), is_short: false },
        Layout { shown: full, below: Vec::new(), is_short: true },
        Layout { shown: beside.clone(), below: below.clone(), is_short: true },
    ];
    let mut going: Vec<u8> = columns
        .iter()
        .filter_map(|column| if let Yields::Goes(turn) = column.yields { Some(turn) } else { None })
        .collect();
    going.sort_unstable();
    tried.extend(going.into_iter().map(|turn| {
        let stays = |at: &usize| !matches!(yields(at), Yields::Goes(its) if its <= turn);
        Layout { shown: beside.iter().copied().filter(stays).collect(), below: below.clone(), is_short: true }
    }));
    let narrowest = tried.pop();
    let fits = |layout: &Layout| layout.width(columns, rows) <= width;
    tried.into_iter().find(fits).or(narrowest).unwrap_or(everything)
}

impl Layout {
    fn title(&self, column: &Column) -> &'static str {
        if self.is_short { column.short } else { column.title }
    }

    fn width<const N: usize>(&self, columns: &[Column; N], rows: &[[String; N]]) -> usize {
        let titles: [String; N] = columns.map(|column| self.title(&column).to_owned());
        let cells: usize = self.shown.iter().map(|&at| cell_width(at, &titles, rows)).sum();
        cells + 2 * self.shown.len().saturating_sub(1)
    }
}

fn cell_width<const N: usize>(at: usize, titles: &[String; N], rows: &[[String; N]]) -> usize {
    let cells = rows.iter().chain([titles]).filter_map(|row| row.get(at));
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
}

fn joined<const N: usize>(
    row: &[String; N],
    shown: &[usize],
    widths: &[usize],
    finish: &Finish<'_>,
) -> String {
    let cells = shown.iter().zip(widths).filter_map(|(&at, &width)| Some((at, row.get(at)?, width)));
    let padded = cells.map(|(at, cell, width)| finish(at, format!("{cell:width$}")));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_wrapped_at_its_words_and_long_words_are_broken() {
        let lines = |text, width| wrapped(text, width).join("\n");
        insta::assert_snapshot!(lines("listens on 127.0.0.1:8080, unix:/run/shop.sock", Some(30)), @r"
        listens on 127.0.0.1:8080,
          unix:/run/shop.sock
        ");
        insta::assert_snapshot!(lines("listens on unix:/run/a/very/long/path.sock", Some(16)), @r"
        listens on
          unix:/run/a/ve
          ry/long/path.s
          ock
        ");
        assert_eq!(lines("as it is, however long", None), "as it is, however long");
        assert_eq!(lines("", Some(10)), "");
    }
}
