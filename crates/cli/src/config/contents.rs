//! Taking a config file apart: every key is looked at, and the first mistake in it is reported.

use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use clap::Arg;
use recluster::check_variable;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Error, Problem};
use super::file::File;
use super::keys::{self, ENV, Keys};
use super::place::Place;

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) options: Vec<Given>,
    pub(crate) env: Vec<Variable>,
}

/// An option that the file gives. Its values were checked one by one.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) arg: Arg,
    pub(crate) values: Vec<OsString>,
    pub(super) place: Place,
}

/// A variable for the workers.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(super) place: Place,
}

/// A key in the text.
type Key<'t> = Spanned<Cow<'t, str>>;
/// What is wrong, and which bytes of the text it is about.
type Finding = (Range<usize>, Problem);

impl Contents {
    /// Everything that a file says.
    pub(crate) fn of(file: &File, keys: &Keys) -> Result<Self, Error> {
        let reader = Reader { file, keys };
        reader.contents().map_err(|(span, problem)| Error::Wrong { place: reader.place(&span), problem })
    }

    /// Whether it gives the option with this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.options.iter().any(|given| given.arg.get_id() == id)
    }

    /// Whether one more option can be used together with those before it.
    fn agree(&self, new: &Given, keys: &Keys) -> Result<(), Problem> {
        let is_typed = |given: &Given| given.as_typed().next().is_some();
        let mut others = self.options.iter().filter(|given| is_typed(given) && is_typed(new));
        match others.find(|other| keys.contradict(&other.arg, &new.arg)) {
            Some(other) => Err(Problem::Contradiction {
                key: keys::key_of(&new.arg).to_owned(),
                other: keys::key_of(&other.arg).to_owned(),
                line: other.place.line,
            }),
            None => Ok(()),
        }
    }
}

impl Given {
    /// The arguments of a command line that say the same.
    pub(super) fn as_typed(&self) -> impl Iterator<Item = OsString> {
        self.values.iter().filter_map(|value| keys::as_typed(&self.arg, value))
    }
}

/// What is needed to understand a file.
struct Reader<'a> {
    file: &'a File,
    keys: &'a Keys,
}

impl Reader<'_> {
    fn contents(&self) -> Result<Contents, Finding> {
        let table = DeTable::parse(&self.file.text).map_err(|error| self.not_toml(&error))?.into_inner();
        let mut contents = Contents::default();
        for (key, value) in as_written(table) {
            if key.get_ref() == ENV {
                contents.env = self.variables(value)?;
                continue;
            }
            let arg = self.keys.find(key.get_ref()).ok_or_else(|| unknown(&key, self.keys))?;
            let given =
                Given { arg: arg.clone(), values: self.values(arg, &value)?, place: self.place(&key.span()) };
            contents.agree(&given, self.keys).map_err(|problem| (key.span(), problem))?;
            contents.options.push(given);
        }
        Ok(contents)
    }

    /// The values of an option, as on a command line; each is one that the option accepts.
    fn values(&self, arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Vec<OsString>, Finding> {
        match value.get_ref().as_array().filter(|_| keys::is_list(arg)) {
            Some(items) => items.iter().map(|item| self.value(arg, item)).collect(),
            None => Ok(vec![self.value(arg, value)?]),
        }
    }

    fn value(&self, arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<OsString, Finding> {
        let text = text_of(arg, value.get_ref()).map_err(|problem| (value.span(), problem))?;
        if let Some(reason) = self.keys.refusal(arg, &text) {
            let key = keys::key_of(arg).to_owned();
            return Err((value.span(), Problem::Value { key, value: text, reason }));
        }
        Ok(keys::rooted(arg, &text, self.file.path.parent().unwrap_or(Path::new("/"))))
    }

    fn variables(&self, value: Spanned<DeValue<'_>>) -> Result<Vec<Variable>, Finding> {
        let span = value.span();
        let value = value.into_inner();
        let DeValue::Table(table) = value else {
            return Err((span, mistaken(ENV, "a table of variables", &value)));
        };
        as_written(table).iter().map(|(name, value)| self.variable(name, value)).collect()
    }

    fn variable(&self, name: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Result<Variable, Finding> {
        let key = format!("{ENV}.{}", name.get_ref());
        let DeValue::String(text) = value.get_ref() else {
            return Err((value.span(), mistaken(&key, "a text, in quotes", value.get_ref())));
        };
        if text.contains('\0') {
            return Err((value.span(), Problem::Nul { key }));
        }
        let (span, name) = (name.span(), name.get_ref().to_string());
        check_variable(name.as_ref()).map_err(|error| (span.clone(), error.into()))?;
        Ok(Variable { name, value: text.to_string(), place: self.place(&span) })
    }

    fn not_toml(&self, error: &toml::de::Error) -> Finding {
        let span = error.span().unwrap_or_default();
        let key = self.file.text.get(span.clone()).unwrap_or_default().trim().trim_matches(['"', '\'']);
        let problem = if error.message() == "duplicate key" {
            Problem::Twice { key: key.to_owned() }
        } else {
            Problem::NotToml(error.message().lines().collect::<Vec<_>>().join(", "))
        };
        (span, problem)
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place::new(&self.file.shown, &self.file.text, span.start)
    }
}

/// The entries of a table in the order of the text, so that the first mistake is the one that is reported.
fn as_written(table: DeTable<'_>) -> Vec<(Key<'_>, Spanned<DeValue<'_>>)> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A single value of an option as a text.
fn text_of(arg: &Arg, value: &DeValue<'_>) -> Result<String, Problem> {
    let text = match value {
        DeValue::Boolean(on) if keys::is_switch(arg) => Some(on.to_string()),
        _ if keys::is_switch(arg) => None,
        DeValue::Boolean(on) if keys::is_on_off(arg) => Some(if *on { "on" } else { "off" }.to_owned()),
        DeValue::String(text) => Some(text.to_string()),
        // A number would have lost how it was written.
        DeValue::Integer(_) if keys::is_octal(arg) => None,
        DeValue::Integer(number) => Some(match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => number.to_string(),
        }),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    let key = keys::key_of(arg);
    match text {
        Some(text) if text.contains('\0') => Err(Problem::Nul { key: key.to_owned() }),
        Some(text) => Ok(text),
        None => Err(mistaken(key, wanted(arg), value)),
    }
}

fn wanted(arg: &Arg) -> &'static str {
    if keys::is_switch(arg) {
        "true or false"
    } else if keys::is_octal(arg) {
        "octal digits, in quotes"
    } else if keys::is_list(arg) {
        "a text or a list of texts"
    } else {
        "a text or a number"
    }
}

fn mistaken(key: &str, wanted: &'static str, found: &DeValue<'_>) -> Problem {
    let found = match found {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Problem::Type { key: key.to_owned(), wanted, found }
}

fn unknown(key: &Key<'_>, keys: &Keys) -> Finding {
    let name = key.get_ref().to_string();
    (key.span(), Problem::UnknownKey { nearest: keys.nearest(&name), key: name })
}
