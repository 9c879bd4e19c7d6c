//! A JSON text that is passed on unread.
//!
//! Messages of users travel through the master as text, never as a parsed tree: a tree would lose
//! duplicate keys, the order of keys and the digits of a long number.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// One valid JSON value as text, on one line.
///
/// Only its syntax is checked. It may be nested as deep as its length allows: the check does not
/// recurse, and a reader has limits of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Json(Box<str>);

/// The text is not one JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson;

impl Json {
    /// Takes over a text that is one JSON value, with white space around it or not.
    ///
    /// A value that is laid out over several lines becomes one line: inside a JSON string a newline is
    /// always escaped, so those found here stand between tokens, where a space does as well.
    pub fn parse(text: &str) -> Result<Self, NotJson> {
        serde_json::from_str::<IgnoredAny>(text).map_err(|_| NotJson)?;
        Ok(Self::of_valid(text))
    }

    /// As [`Json::parse`], for a text whose syntax has been checked already.
    pub(crate) fn of_valid(text: &str) -> Self {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        if text.contains('\n') { Self(text.replace('\n', " ").into()) } else { Self(text.into()) }
    }

    /// The text, without a newline and without white space around it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Json> for String {
    fn from(json: Json) -> Self {
        json.0.into()
    }
}

impl TryFrom<String> for Json {
    type Error = NotJson;

    fn try_from(text: String) -> Result<Self, NotJson> {
        Self::parse(&text)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not one JSON value")
    }
}

impl std::error::Error for NotJson {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tree_would_lose_survives() {
        for text in [
            r#"{"b":1,"a":2,"b":3}"#,
            "12345678901234567890.000",
            "1e999",
            r#""half a pair: \ud800""#,
            r#"{ "spaced" : [ ] }"#,
        ] {
            assert_eq!(Json::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn several_lines_become_one() {
        let json = Json::parse(" {\n\t\"a\": \"\\n\",\r\n\"b\":\n1\n}\r\n").expect("valid");
        assert_eq!(json.as_str(), "{ \t\"a\": \"\\n\",\r \"b\": 1 }");
    }

    /// As text it passes to another program, which checks it again.
    #[test]
    fn it_is_left_as_text_and_read_as_it_was() {
        let json = Json::parse(r#"{"b":1.0,"a":2,"b":3}"#).expect("valid");
        let text = serde_json::to_string(&json).expect("it is text");
        assert_eq!(text, r#""{\"b\":1.0,\"a\":2,\"b\":3}""#);
        assert_eq!(serde_json::from_str::<Json>(&text).expect("it is read"), json);
        assert!(serde_json::from_str::<Json>(r#""{""#).is_err());
    }

    #[test]
    fn what_is_not_one_value_is_refused() {
        for text in ["", " ", "1 2", "{", "[1,]", "undefined", "\"\n\"", "\u{feff}1", "'a'"] {
            assert_eq!(Json::parse(text), Err(NotJson), "{text:?}");
        }
        assert_eq!(NotJson.to_string(), "not one JSON value");
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(Json::parse(&deep).expect("valid").as_str(), deep);
    }
}
