//! Files of variables for workers (`--env-file`). What a line means is what node means by it (`node --env-file`), without the
//! substitution that other readers of such files do. Node passes over what it does not understand; here that is refused with its line,
//! since a reload that was given half a file would pass for one that worked.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use crate::config::variable::{check_value, check_variable};
use crate::report::variable::{EnvFileError, EnvFileProblem};

/// The largest file, in bytes. What is larger is something else.
const MOST_BYTES: u64 = 1024 * 1024;
/// What a value may be quoted by.
const QUOTES: [char; 3] = ['"', '\'', '`'];
/// What may stand around names and values. Other spaces of Unicode are letters like any other.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// The variables of a file as it is now, in its order.
pub(crate) fn read(path: &Path) -> Result<Vec<(OsString, OsString)>, EnvFileError> {
    let unreadable = |source| EnvFileError::Unreadable { path: path.to_owned(), source };
    let bytes = contents(path).map_err(unreadable)?;
    let wrong = |(line, problem)| EnvFileError::Wrong { path: path.to_owned(), line, problem };
    let text = str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        wrong((before.split(|byte| *byte == b'\n').count(), EnvFileProblem::NotUtf8))
    })?;
    parse(text).map_err(wrong)
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe could wait for ever, and what came out of it once does not come again.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it is larger than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What is wrong, and in which line.
type Finding = (usize, EnvFileProblem);

/// The variables in a text.
pub(crate) fn parse(text: &str) -> Result<Vec<(OsString, OsString)>, Finding> {
    let mut variables = Vec::new();
    let mut lines = text.trim_start_matches('\u{feff}').split('\n').enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start_matches(BLANKS);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let here = |problem| (index + 1, problem);
        let (name, value) = line.split_once('=').ok_or(here(EnvFileProblem::NoVariable))?;
        // What stands there and is no name may be a part of a value: it is not shown.
        let name =
            Some(name_in(name)).filter(|name| is_name(name)).ok_or(here(EnvFileProblem::NoVariable))?;
        check_variable(name.as_ref()).map_err(|error| here(error.into()))?;
        let value = value.trim_start_matches(BLANKS);
        let value = match value.chars().next().filter(|first| QUOTES.contains(first)) {
            Some(quote) => {
                let mut rest = value.strip_prefix(quote).unwrap_or_default();
                let mut text = rest.to_owned();
                while !rest.contains(quote) {
                    (_, rest) =
                        lines.next().ok_or_else(|| here(EnvFileProblem::Unclosed(name.to_owned())))?;
                    text.push('\n');
                    text.push_str(rest);
                }
                quoted(&text, quote)
            }
            None => plain(value),
        };
        check_value(name, &value).map_err(|error| here(error.into()))?;
        variables.push((name.into(), value.into()));
    }
    Ok(variables)
}

/// The name in what stands before the `=`.
fn name_in(left: &str) -> &str {
    let left = left.trim_matches(BLANKS);
    match left.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start_matches(BLANKS),
        Some(_) | None => left,
    }
}

fn is_name(name: &str) -> bool {
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty() && name.bytes().all(is_of_names)
}

/// The value in quotes, of which the first one is read. What follows them on their line is none of it.
fn quoted(text: &str, quote: char) -> String {
    let value = text.split(quote).next().unwrap_or_default().replace('\r', "");
    if quote == '"' { value.replace("\\n", "\n") } else { value }
}

/// A value without quotes goes on to a comment or the end of its line.
fn plain(text: &str) -> String {
    let value = text.split('#').next().unwrap_or_default().replace('\r', "");
    value.trim_matches([' ', '\t']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let text_of = |text: OsString| text.into_string().unwrap();
        parse(text).unwrap().into_iter().map(|(name, value)| (text_of(name), text_of(value))).collect()
    }

    fn value(statement: &str) -> String {
        let mut values = values(statement);
        assert_eq!(values.len(), 1, "{values:?}");
        values.remove(0).1
    }

    #[test]
    fn values_are_what_node_makes_of_them() {
        let cases = [
            ("A=plain", "plain"),
            ("A = spaced out  ", "spaced out"),
            ("export A=exported", "exported"),
            ("A=", ""),
            ("A= ", ""),
            ("A=one # comment", "one"),
            ("A='one # no comment' # comment", "one # no comment"),
            ("A=\"one\\ntwo\"", "one\ntwo"),
            ("A='one\\ntwo'", "one\\ntwo"),
            ("A=`it's \"so\"`", "it's \"so\""),
            ("A=b=c==", "b=c=="),
            ("A={\"b\": \"c\"}", "{\"b\": \"c\"}"),
            ("A=$HOME and ${HOME} and pa$$word", "$HOME and ${HOME} and pa$$word"),
            ("A=C:\\new", "C:\\new"),
            ("A=\"-----BEGIN  \nKEY\n-----END\"", "-----BEGIN  \nKEY\n-----END"),
            ("A='one\r\ntwo'\r", "one\ntwo"),
            ("\u{feff}A=b", "b"),
            ("A=grün", "grün"),
            ("A=\"one \"two\" three\"", "one "),
            ("A='one' two", "one"),
            ("A=one#two", "one"),
            ("A=it's", "it's"),
            ("A=\"\"", ""),
            ("A=\"one\ntwo\\nthree\" # \"four\"", "one\ntwo\nthree"),
            ("A=\tone\t", "one"),
            ("A= # comment", ""),
            ("A=\u{a0}one\u{2003}", "\u{a0}one\u{2003}"),
        ];
        for (statement, expected) in cases {
            assert_eq!(value(statement), expected, "{statement:?}");
        }
    }

    #[test]
    fn a_statement_takes_nothing_of_its_neighbours() {
        let text = "# comment\n\nA=\nB= \n  C = 3\nD=\"x\ny\" # z\n#E=5\nexport\tF=6\r\nA=again";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [("A", ""), ("B", ""), ("C", "3"), ("D", "x\ny"), ("F", "6"), ("A", "again")];
        assert_eq!(values(text), expected.map(|(name, value)| pair(name, value)));
        assert_eq!(values(""), []);
    }

    fn refusal(text: &str) -> String {
        let (line, problem) = parse(text).unwrap_err();
        format!("{line}: {problem}")
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_without_a_value() {
        assert_eq!(refusal("A=1\n\nhunter2\n"), "3: neither NAME=VALUE nor a # comment");
        assert_eq!(
            refusal("A=1\nB=\"hunter2\nC=3"),
            "2: the value of B begins with a quote that is never closed"
        );
        for line in [
            "\u{a0}A=hunter2",
            "A\u{2003}=hunter2",
            "=hunter2",
            "A B=hunter2",
            "URL: db://hunter2@host/?tls=on",
            "aHVudGVyMg+/==",
        ] {
            assert_eq!(refusal(&format!("A='a\nb'\n{line}")), "3: neither NAME=VALUE nor a # comment");
        }
        assert_eq!(refusal("A=\0hunter2"), "1: the value of A holds a NUL character");
        assert!(refusal("WORKER_ID=3").starts_with("1: WORKER_ID is reserved: "));
        assert!(refusal("A=1\nexport NODE_CHANNEL_FD=3").starts_with("2: NODE_CHANNEL_FD is reserved: "));
        let long = format!("A={}", "x".repeat(128 * 1024));
        assert_eq!(refusal(&long), "1: the value of A is longer than a variable can be");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.env");
        let error = || read(&path).unwrap_err().to_string();
        assert!(error().ends_with("app.env: No such file or directory (os error 2)"), "{}", error());
        fs::write(&path, b"A=1\nB=\xff").unwrap();
        assert!(error().ends_with("app.env:2: not UTF-8"), "{}", error());
        fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
        assert!(error().ends_with("it is larger than 1048576 bytes"), "{}", error());
        assert!(read(directory.path()).unwrap_err().to_string().ends_with("it is not a file"));
    }
}
