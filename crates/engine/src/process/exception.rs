//! The last exception in what a program wrote to its stderr: its first line, and where the program threw it. The shapes
//! are those of Node, Python, Ruby, Rust, Go and the JVM.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many bytes of an exception's line are shown.
const MOST_BYTES: usize = 500;
/// How far an exception's line is from its frames, or from the line that names the place, at most.
const NEAR: usize = 12;
/// How many frames are looked through for a place in the program's own files.
const FRAMES: usize = 20;

/// An exception that ended a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exception {
    /// Its first line.
    pub(crate) line: String,
    /// File and line, as they were written.
    pub(crate) place: Option<String>,
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " (at {place})"))
    }
}

/// Looks for an exception of one language in a line.
type Look = fn(&[&str], usize) -> Option<Exception>;

impl Exception {
    /// The last one in a text.
    pub(crate) fn last_in(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let looks: [Look; 6] = [of_python, of_ruby, of_rust, of_go, of_node, thrown];
        (0..lines.len()).rev().find_map(|at| looks.iter().find_map(|look| look(&lines, at)))
    }

    fn new(line: &str, place: Option<&str>) -> Self {
        let end = (0..=MOST_BYTES.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
        let shown = line.get(..end.unwrap_or(0)).unwrap_or_default();
        let more = if shown.len() < line.len() { "…" } else { "" };
        Self { line: format!("{shown}{more}"), place: place.map(str::to_owned) }
    }
}

/// `Error: message`, with its frames below it: Node, and the JVM with other words before it.
fn of_node(lines: &[&str], at: usize) -> Option<Exception> {
    let line = lines.get(at)?.trim_end();
    let line = line.trim_start_matches('[').trim_start_matches("Uncaught ");
    let line = line.strip_prefix("Exception in thread \"main\" ").unwrap_or(line);
    is_error(line).then_some(())?;
    let below = lines.get(at + 1..)?;
    let begin = below.iter().take(NEAR).position(|line| is_frame(line));
    let Some(begin) = begin else {
        // Without frames it is one only if nothing else was said since, but for what Node adds.
        let is_last = below.iter().all(|line| {
            line.trim().is_empty() || line.starts_with([' ', '}']) || line.starts_with("Node.js v")
        });
        return is_last.then(|| Exception::new(line, above(lines, at)));
    };
    let frames = below.iter().skip(begin).take(FRAMES).take_while(|line| is_frame(line));
    let places: Vec<&str> = frames.filter_map(|frame| place_in(frame)).collect();
    let own = places.iter().find(|place| !place.contains("/node_modules/")).or(places.first());
    Some(Exception::new(line, own.copied().or_else(|| above(lines, at))))
}

/// Whether a line begins as errors do: with a name that ends so, and then a colon, a code in brackets or nothing.
fn is_error(line: &str) -> bool {
    let end = line.find(|c: char| !(c.is_alphanumeric() || "._$".contains(c))).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let is_name = ["Error", "Exception", "Rejection"].iter().any(|ending| name.ends_with(ending));
    is_name && (rest.is_empty() || rest.starts_with(':') || rest.starts_with(" ["))
}

fn is_frame(line: &str) -> bool {
    line.starts_with([' ', '\t']) && line.trim_start().starts_with("at ")
}

/// The place in the program that a frame names: none where it is Node's own.
fn place_in(frame: &str) -> Option<&str> {
    let frame = frame.trim_end().trim_end_matches(" {").trim_start().strip_prefix("at ")?;
    let place = match frame.strip_suffix(')').and_then(|frame| frame.rsplit_once('(')) {
        Some((_, place)) => place,
        None => frame.strip_prefix("async ").unwrap_or(frame),
    };
    let place = place.strip_prefix("file://").unwrap_or(place);
    let is_nodes =
        ["node:", "internal/", "native", "<anonymous>"].iter().any(|begin| place.starts_with(begin));
    (!is_nodes && has_line(place)).then_some(place)
}

/// The place that Node names before it shows the code, as of a syntax error.
fn above<'t>(lines: &[&'t str], at: usize) -> Option<&'t str> {
    let before = lines.get(at.saturating_sub(NEAR)..at)?.iter().rev();
    let mut places = before.map(|line| line.strip_prefix("file://").unwrap_or(line).trim_end());
    places.find(|line| line.starts_with('/') && has_line(line))
}

fn has_line(place: &str) -> bool {
    let number = place.rsplit(':').next().unwrap_or_default();
    place.contains(':') && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Something thrown by Node that is no error: what is thrown stands above this line.
fn thrown(lines: &[&str], at: usize) -> Option<Exception> {
    lines.get(at)?.starts_with("(Use `node --trace-uncaught").then_some(())?;
    let (from, what) = lines.iter().enumerate().take(at).rev().find(|(_, line)| !line.trim().is_empty())?;
    Some(Exception::new(&format!("uncaught: {what}"), above(lines, from)))
}

/// The first line behind the frames of a traceback.
fn of_python(lines: &[&str], at: usize) -> Option<Exception> {
    let line = lines.get(at)?.trim_end();
    (!line.is_empty() && !line.starts_with([' ', '\t'])).then_some(())?;
    let mut place = None;
    for frame in lines.get(..at)?.iter().rev() {
        if let Some(place_of) = frame.strip_prefix("  File \"").filter(|_| place.is_none()) {
            place = place_of.split_once("\", line ");
        }
        if !frame.starts_with([' ', '\t']) {
            (place.is_some() && frame.starts_with("Traceback (most recent call last)")).then_some(())?;
            let (file, rest) = place?;
            let number = rest.split(',').next().unwrap_or_default();
            return Some(Exception::new(line, Some(&format!("{file}:{number}"))));
        }
    }
    None
}

/// `FILE:LINE:in 'method': message (Name)`.
fn of_ruby(lines: &[&str], at: usize) -> Option<Exception> {
    let (place, rest) = lines.get(at)?.trim_end().split_once(":in ")?;
    let (_, message) = rest.split_once("': ")?;
    let (_, name) = message.strip_suffix(')')?.rsplit_once('(')?;
    let is_name = name.starts_with(char::is_uppercase) && !name.contains(' ');
    (is_name && has_line(place) && !place.starts_with([' ', '\t']))
        .then(|| Exception::new(message, Some(place)))
}

/// `thread 'NAME' panicked at FILE:LINE:COLUMN:`, and the message below it.
fn of_rust(lines: &[&str], at: usize) -> Option<Exception> {
    let line = lines.get(at)?;
    let (_, place) = line.strip_prefix("thread '")?.split_once(" panicked at ")?;
    let place = place.trim_end().trim_end_matches(':');
    let message = lines.get(at + 1).copied().unwrap_or_default();
    // An older Rust has both in one line.
    match place.strip_prefix('\'').and_then(|rest| rest.rsplit_once("', ")) {
        Some((message, place)) => Some(Exception::new(&format!("panicked: {message}"), Some(place))),
        None => {
            Some(Exception::new(&format!("panicked: {message}"), Some(place).filter(|place| has_line(place))))
        }
    }
}

/// `panic: message`, and below it goroutines with their files.
fn of_go(lines: &[&str], at: usize) -> Option<Exception> {
    let line = lines.get(at)?.trim_end();
    ["panic: ", "fatal error: "].iter().any(|begin| line.starts_with(begin)).then_some(())?;
    let mut files = lines.get(at + 1..)?.iter().take(2 * FRAMES).filter(|line| line.starts_with("\t/"));
    files.find(|line| !line.contains("/src/runtime/")).map(|file| {
        let place = file.trim().split(" +0x").next();
        Exception::new(line, place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Exception::last_in(text).map_or("none".to_owned(), |exception| exception.to_string())
    }

    #[test]
    fn of_node_the_error_and_the_first_place_that_is_the_program_s() {
        let in_use = "node:events:497\n      throw er; // Unhandled 'error' event\n      ^\n\n\
            Error: listen EADDRINUSE: address already in use :::3999\n    at Server.setupListenHandle [as _listen2] (node:net:1817:16)\n    \
            at listenInCluster (node:net:1865:12)\n    at Server.listen (/srv/node_modules/express/lib/application.js:635:24)\n    \
            at Object.<anonymous> (/srv/server.js:7:5)\nEmitted 'error' event on Server instance at:\n    at emitErrorNT (node:net:1844:8) {\n  \
            code: 'EADDRINUSE',\n  port: 3999\n}\n\nNode.js v20.20.2\n";
        assert_eq!(
            shown(in_use),
            "Error: listen EADDRINUSE: address already in use :::3999 (at /srv/server.js:7:5)"
        );
        let syntax = "/srv/server.js:3\nconst x = ;\n          ^\n\nSyntaxError: Unexpected token ';'\n    at wrapSafe (node:internal/x:1:2)\n\nNode.js v20\n";
        assert_eq!(shown(syntax), "SyntaxError: Unexpected token ';' (at /srv/server.js:3)");
        let missing = "Error: Cannot find module 'pg'\nRequire stack:\n- /srv/db.js\n    at Module._load (node:internal/y:1:2)\n    at async file:///srv/db.mjs:1:10 {\n  code: 'MODULE_NOT_FOUND'\n}\n";
        assert_eq!(shown(missing), "Error: Cannot find module 'pg' (at /srv/db.mjs:1:10)");
        let text = "starting\n/srv/server.js:1\nthrow 'no luck'\n^\nno luck\n(Use `node --trace-uncaught ...` to show where the exception was thrown)\n";
        assert_eq!(shown(text), "uncaught: no luck (at /srv/server.js:1)");
        assert_eq!(
            shown("TypeError [ERR_X]: no\n    at a (/srv/a.js:1:2)\nlater words\n"),
            "TypeError [ERR_X]: no (at /srv/a.js:1:2)"
        );
    }

    #[test]
    fn an_error_that_was_only_mentioned_is_none() {
        assert_eq!(shown("Error: cannot read the cache\nlistening\n"), "none");
        assert_eq!(shown("Errors were found\n"), "none");
        assert_eq!(shown("working\nError: no database\n"), "Error: no database");
        assert_eq!(shown(""), "none");
    }

    #[test]
    fn of_other_languages() {
        let python = "Traceback (most recent call last):\n  File \"/srv/app.py\", line 3, in <module>\n    main()\n  File \"/srv/app.py\", line 9, in main\n    s.bind(a)\n    ~~~~~~^^^\nOSError: [Errno 98] Address already in use\n";
        assert_eq!(shown(python), "OSError: [Errno 98] Address already in use (at /srv/app.py:9)");
        let ruby =
            "/srv/app.rb:3:in 'Object#boot': no database (RuntimeError)\n\tfrom /srv/app.rb:9:in '<main>'\n";
        assert_eq!(shown(ruby), "no database (RuntimeError) (at /srv/app.rb:3)");
        let rust = "thread 'main' (12) panicked at src/main.rs:3:5:\nno database\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(shown(rust), "panicked: no database (at src/main.rs:3:5)");
        assert_eq!(
            shown("thread 'main' panicked at 'no luck', src/main.rs:3:5\n"),
            "panicked: no luck (at src/main.rs:3:5)"
        );
        let go = "panic: no database\n\ngoroutine 1 [running]:\nmain.main()\n\t/srv/main.go:5 +0x1d\nexit status 2\n";
        assert_eq!(shown(go), "panic: no database (at /srv/main.go:5)");
        let jvm =
            "Exception in thread \"main\" java.lang.IllegalStateException: no\n\tat Main.main(Main.java:5)\n";
        assert_eq!(shown(jvm), "java.lang.IllegalStateException: no (at Main.java:5)");
    }

    #[test]
    fn a_long_line_is_cut() {
        let exception = Exception::last_in(&format!("Error: {}\n", "ö".repeat(1000))).unwrap();
        assert!(exception.line.len() <= MOST_BYTES + "…".len() && exception.line.ends_with('…'));
    }
}
