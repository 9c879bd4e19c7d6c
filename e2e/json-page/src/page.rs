//! The page: its headings, each with its table and its examples.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// What every table begins with.
const TITLES: [&str; 4] = ["field", "type", "unit", ""];

/// The page as a list of headings.
#[derive(Debug)]
pub struct Page {
    pub(crate) headings: Vec<Heading>,
}

/// One heading, and what stands below it up to the next one.
#[derive(Debug)]
pub(crate) struct Heading {
    /// The title of the part (`##`) that it belongs to, or is.
    pub(crate) part: String,
    /// The word in backticks; a part has none.
    pub(crate) name: Option<String>,
    /// What a link to it says behind `#`.
    pub(crate) anchor: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) examples: Vec<Value>,
}

/// One row of a table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// None: all fields of the object that is the type.
    pub(crate) field: Option<String>,
    pub(crate) kind: Type,
    pub(crate) unit: String,
    /// Every value that a string can have, where they are listed.
    pub(crate) one_of: Option<BTreeSet<String>>,
}

/// What a value may be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Type {
    /// `string`, `integer`, `number`, `boolean`, `any`, `null`, `absent`.
    pub(crate) words: BTreeSet<String>,
    /// The anchor of an object.
    pub(crate) object: Option<String>,
    /// It is an array of these.
    pub(crate) element: Option<Box<Type>>,
}

impl Page {
    /// Reads `docs/json.md`.
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
        Self::parse(&fs::read_to_string(path).expect("there is docs/json.md"))
    }

    /// Reads a page.
    pub fn parse(text: &str) -> Self {
        let mut headings: Vec<Heading> = Vec::new();
        let (mut in_table, mut in_example) = (false, false);
        for line in text.lines() {
            if line.starts_with("```") {
                in_example = !in_example && line == "```json";
            } else if let Some(title) = line.strip_prefix("##").filter(|_| !in_example) {
                let title = title.trim_start_matches('#');
                let part = if line.starts_with("## ") { None } else { headings.last() };
                let part = part.map_or_else(|| title.trim().to_owned(), |above| above.part.clone());
                headings.push(Heading::new(part, title.trim()));
            } else if let Some(heading) = headings.last_mut() {
                let cells = cells_of(line);
                if in_example {
                    heading.examples.push(serde_json::from_str(line).expect(line));
                } else if cells == TITLES {
                    in_table = true;
                } else if cells.len() != TITLES.len() {
                    in_table = false;
                } else if in_table && !line.starts_with("| ---") {
                    heading.rows.push(Row::new(&cells));
                }
            }
        }
        Self { headings }
    }

    /// The rows of the table below this anchor, those of objects that it takes in among them.
    pub(crate) fn rows(&self, anchor: &str) -> Vec<Row> {
        let heading = self.headings.iter().find(|heading| heading.anchor == anchor);
        let rows = heading.map(|heading| heading.rows.clone()).unwrap_or_default();
        let expand = |row: Row| match (&row.field, &row.kind.object) {
            (None, Some(object)) => self.rows(object),
            _ => vec![row],
        };
        rows.into_iter().flat_map(expand).collect()
    }

    /// The rows of a heading and those that all values of its part have.
    pub(crate) fn whole_rows(&self, heading: &Heading) -> Vec<Row> {
        let mut rows = self.rows(&heading.anchor);
        if heading.name.is_some() {
            rows.extend(self.rows(&anchor_of(&heading.part)));
        }
        rows
    }
}

impl Heading {
    fn new(part: String, title: &str) -> Self {
        let name = title.split('`').nth(1).map(str::to_owned);
        Self { part, name, anchor: anchor_of(title), rows: Vec::new(), examples: Vec::new() }
    }
}

impl Row {
    fn new(cells: &[String]) -> Self {
        let [field, kind, unit, meaning] = cells else { unreachable!("as many as there are titles") };
        let listed =
            meaning.split_once("One of ").map(|(_, list)| list.split(['.', ';']).next().unwrap_or(list));
        let words = |list: &str| list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let field = field.trim_matches('`');
        Self {
            field: (!field.is_empty()).then(|| field.to_owned()),
            kind: Type::parse(kind),
            unit: unit.clone(),
            one_of: listed.map(words),
        }
    }
}

impl Type {
    fn parse(text: &str) -> Self {
        let mut kind = Self::default();
        for word in text.split(" or ") {
            if let Some(element) = word.strip_prefix("array of ") {
                kind.element = Some(Box::new(Self::parse(element)));
            } else if let Some((_, anchor)) = word.split_once("](#") {
                kind.object = Some(anchor.trim_end_matches(')').to_owned());
            } else {
                kind.words.insert(word.to_owned());
            }
        }
        kind
    }
}

/// The cells of a line of a table; none of any other line.
fn cells_of(line: &str) -> Vec<String> {
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map(|inner| inner.split('|').map(|cell| cell.trim().to_owned()).collect()).unwrap_or_default()
}

/// The anchor that a heading gets.
fn anchor_of(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
