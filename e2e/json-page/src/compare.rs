//! The comparisons: the page with itself, with one value, and with all values that the code has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::page::{Heading, Page, Row};
use crate::shape::Shape;
use crate::{OF_COMMAND, OF_ENGINE};

/// The words that a type can be made of.
const WORDS: [&str; 7] = ["string", "integer", "number", "boolean", "any", "null", "absent"];

/// Fields whose values are words of ours: the page lists them.
const CLOSED: [&str; 6] = ["phase", "state", "balance", "verdict", "due", "meaning"];

/// Values of the code by their names.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<String, Vec<Value>>);

impl Samples {
    /// Values whose name stands in the field `tag`. That field and `others` are what all of them have, and are left out.
    pub fn by_tag(tag: &str, others: &[&str], values: impl IntoIterator<Item = Value>) -> Self {
        let mut samples = BTreeMap::<String, Vec<Value>>::new();
        for mut value in values {
            let fields = value.as_object_mut().expect("an object");
            let name = fields.remove(tag).and_then(|name| name.as_str().map(str::to_owned)).expect("a name");
            for other in others {
                fields.remove(*other).expect("all of them have it");
            }
            samples.entry(name).or_default().push(value);
        }
        Self(samples)
    }
}

impl Page {
    /// How the headings of a part differ from these values, in names, fields, types and listed strings.
    pub fn compare(&self, part: &str, samples: &Samples) -> Vec<String> {
        let headings = self.headings.iter().filter(|heading| heading.part == part);
        let named: BTreeMap<&str, &Heading> =
            headings.filter_map(|heading| Some((heading.name.as_deref()?, heading))).collect();
        let mut faults = Vec::new();
        for name in named.keys().filter(|name| !samples.0.contains_key(**name)) {
            faults.push(format!("{part}: the code has no `{name}`"));
        }
        for (name, values) in &samples.0 {
            match named.get(name.as_str()) {
                Some(heading) => faults.extend(self.compare_fields(&heading.anchor, values)),
                None => faults.push(format!("{part}: `{name}` is not on the page")),
            }
        }
        faults
    }

    /// How the table below this anchor differs from these values.
    pub fn compare_fields(&self, anchor: &str, values: &[Value]) -> Vec<String> {
        let said = Shape::of_rows(self, &self.rows(anchor));
        let mut real = Shape::of_values(&values.iter().collect::<Vec<_>>());
        real.forget_below(&said);
        let mut faults = Vec::new();
        let paths: BTreeSet<&String> = said.kinds.keys().chain(real.kinds.keys()).collect();
        for path in paths {
            match (said.kinds.get(path), real.kinds.get(path)) {
                (Some(said), Some(real)) if said == real => {}
                (Some(said), Some(real)) => {
                    faults.push(format!("{anchor}: `{path}` is {real:?}, the page says {said:?}"));
                }
                (Some(_), None) => faults.push(format!("{anchor}: the code has no `{path}`")),
                (None, _) => faults.push(format!("{anchor}: `{path}` is not on the page")),
            }
        }
        let of_real = |path: &String| real.texts.get(path).cloned().unwrap_or_default();
        for (path, said) in said.texts.iter().filter(|(path, said)| **said != of_real(path)) {
            faults.push(format!("{anchor}: `{path}` is one of {:?}, the page says {said:?}", of_real(path)));
        }
        faults
    }

    /// How one value differs from what the page says of values of this name in this part.
    pub fn check(&self, part: &str, name: &str, value: &Value) -> Vec<String> {
        let mut headings = self.headings.iter().filter(|heading| heading.part == part);
        match headings.find(|heading| heading.name.as_deref().unwrap_or_default() == name) {
            Some(heading) => self.check_rows(&self.whole_rows(heading), value),
            None => vec![format!("{part}: `{name}` is not on the page")],
        }
    }

    fn check_rows(&self, rows: &[Row], value: &Value) -> Vec<String> {
        let said = Shape::of_rows(self, rows);
        let mut real = Shape::of_values(&[value]);
        real.forget_below(&said);
        let is_allowed = |path: &String, kind: &String| {
            kind == "absent" || said.kinds.get(path).is_some_and(|kinds| kinds.contains(kind))
        };
        let mut faults = Vec::new();
        for (path, kinds) in &real.kinds {
            for kind in kinds.iter().filter(|kind| !is_allowed(path, kind)) {
                faults.push(format!("`{path}` must not be {kind}: {value}"));
            }
        }
        for (path, kinds) in said.kinds.iter().filter(|(path, _)| !path.ends_with("[]")) {
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let has_parent =
                parent.is_empty() || real.kinds.get(parent).is_some_and(|kinds| kinds.contains("object"));
            let is_missing = real.kinds.get(path).is_none_or(|kinds| kinds.contains("absent"));
            if has_parent && is_missing && !kinds.contains("absent") {
                faults.push(format!("`{path}` is missing: {value}"));
            }
        }
        for (path, listed) in &said.texts {
            for text in real.texts.get(path).into_iter().flatten().filter(|text| !listed.contains(*text)) {
                faults.push(format!("`{path}` must not be `{text}`: {value}"));
            }
        }
        faults
    }

    /// What is wrong with the page itself: links, types and units, examples that are missing or are not what the tables
    /// say, and parts that no test compares with the code.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut anchors = BTreeSet::new();
        for heading in &self.headings {
            let Heading { part, anchor, .. } = heading;
            if !anchors.insert(anchor) {
                faults.push(format!("{anchor}: two headings have this anchor"));
            }
            let has_content = !heading.rows.is_empty() || heading.name.is_some();
            if has_content && !OF_ENGINE.contains(&part.as_str()) && !OF_COMMAND.contains(&part.as_str()) {
                faults.push(format!("{anchor}: no test compares the part {part}"));
            }
            if heading.name.is_some() && part != "Objects" && heading.examples.is_empty() {
                faults.push(format!("{anchor}: there is no example"));
            }
            for example in &heading.examples {
                faults.extend(self.check_rows(&self.whole_rows(heading), example));
            }
            for row in &heading.rows {
                faults.extend(self.faults_of(row).into_iter().map(|fault| format!("{anchor}: {fault}")));
            }
        }
        faults
    }

    /// The objects that no table speaks of.
    pub fn unused_objects(&self) -> Vec<String> {
        let mut linked = BTreeSet::new();
        for row in self.headings.iter().flat_map(|heading| &heading.rows) {
            let mut kind = Some(&row.kind);
            while let Some(one) = kind {
                linked.extend(one.object.as_deref());
                kind = one.element.as_deref();
            }
        }
        let objects =
            self.headings.iter().filter(|heading| heading.part == "Objects" && heading.name.is_some());
        let unused = objects.filter(|heading| !linked.contains(heading.anchor.as_str()));
        unused.map(|heading| format!("{}: no table speaks of it", heading.anchor)).collect()
    }

    fn faults_of(&self, row: &Row) -> Vec<String> {
        let mut faults = Vec::new();
        let field = row.field.as_deref().unwrap_or_default();
        let mut kind = Some(&row.kind);
        while let Some(one) = kind {
            let unknown = one.words.iter().filter(|word| !WORDS.contains(&word.as_str()));
            faults.extend(unknown.map(|word| format!("`{field}`: `{word}` is no type")));
            let mut linked =
                self.headings.iter().filter(|heading| Some(&heading.anchor) == one.object.as_ref());
            if one.object.is_some() && linked.next().is_none_or(|heading| heading.rows.is_empty()) {
                faults.push(format!("`{field}`: there is no such object: {:?}", one.object));
            }
            kind = one.element.as_deref();
        }
        let units = ["seconds", "bytes"];
        let unit = units.into_iter().find(|unit| field.contains(unit));
        if unit.is_some_and(|unit| unit != row.unit)
            || !(row.unit.is_empty() || units.contains(&row.unit.as_str()))
        {
            faults.push(format!("`{field}`: its unit cannot be {:?}", row.unit));
        }
        if CLOSED.contains(&field) && row.kind.words.contains("string") && row.one_of.is_none() {
            faults.push(format!("`{field}`: its values are not listed"));
        }
        faults
    }
}
