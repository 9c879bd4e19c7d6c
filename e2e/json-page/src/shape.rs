//! Shapes: which paths there are and of which types, drawn from the page and from values alike.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::page::{Page, Row, Type};

/// Of each path, such as `failure.worker.id` or `stderr[]`, what it may be.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) kinds: BTreeMap<String, BTreeSet<String>>,
    /// Which strings it may be: on the page where they are listed, of values always.
    pub(crate) texts: BTreeMap<String, BTreeSet<String>>,
}

impl Shape {
    /// What the rows of a table say.
    pub(crate) fn of_rows(page: &Page, rows: &[Row]) -> Self {
        let mut shape = Self::default();
        shape.add_rows(page, rows, "");
        shape
    }

    fn add_rows(&mut self, page: &Page, rows: &[Row], before: &str) {
        for row in rows {
            let path = format!("{before}{}", row.field.as_deref().unwrap_or("?"));
            if let Some(one_of) = &row.one_of {
                self.texts.insert(path.clone(), one_of.clone());
            }
            self.add_type(page, &row.kind, path);
        }
    }

    fn add_type(&mut self, page: &Page, kind: &Type, path: String) {
        let mut kinds = kind.words.clone();
        if let Some(anchor) = &kind.object {
            kinds.insert("object".to_owned());
            self.add_rows(page, &page.rows(anchor), &format!("{path}."));
        }
        if let Some(element) = &kind.element {
            kinds.insert("array".to_owned());
            self.add_type(page, element, format!("{path}[]"));
        }
        self.kinds.insert(path, kinds);
    }

    /// What these values are. A field that some objects at a path have and others have not may be absent.
    pub(crate) fn of_values(values: &[&Value]) -> Self {
        let mut shape = Self::default();
        shape.add_fields(values, "");
        shape
    }

    fn add_fields(&mut self, values: &[&Value], before: &str) {
        let objects: Vec<_> = values.iter().filter_map(|value| value.as_object()).collect();
        let names: BTreeSet<&String> = objects.iter().flat_map(|object| object.keys()).collect();
        for name in names {
            let held: Vec<&Value> = objects.iter().filter_map(|object| object.get(name)).collect();
            let path = format!("{before}{name}");
            if held.len() < objects.len() {
                self.kinds.entry(path.clone()).or_default().insert("absent".to_owned());
            }
            self.add_values(&held, path);
        }
    }

    fn add_values(&mut self, values: &[&Value], path: String) {
        self.add_fields(values, &format!("{path}."));
        let elements: Vec<&Value> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
        if !elements.is_empty() {
            self.add_values(&elements, format!("{path}[]"));
        }
        let texts = values.iter().filter_map(|value| value.as_str()).map(str::to_owned);
        self.texts.entry(path.clone()).or_default().extend(texts);
        self.kinds.entry(path).or_default().extend(values.iter().map(|value| kind_of(value).to_owned()));
    }

    /// Of a path that may be anything, what lies below it does not count.
    pub(crate) fn forget_below(&mut self, page: &Self) {
        let any = page.kinds.iter().filter(|(_, kinds)| kinds.contains("any")).map(|(path, _)| path);
        for path in any {
            let is_below = |other: &str| {
                other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            self.kinds.retain(|other, _| !is_below(other));
            if let Some(kinds) = self.kinds.get_mut(path) {
                kinds.retain(|kind| kind == "absent");
                kinds.insert("any".to_owned());
            }
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
