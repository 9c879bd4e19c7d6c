//! What a program wrote to its stderr of an address that another socket has.

/// What programs say, in small letters: the name of the error, its text, and its number where that was translated.
const WORDS: [&str; 8] = [
    "eaddrinuse",
    "addrinuse",
    "address already in use",
    "address in use",
    "connection in use",
    "errno 98",
    "os error 98",
    "(98)",
];
/// How many bytes of a line are looked at, and kept.
const MOST_BYTES: usize = 1000;

/// The last line that says so, where one names the address.
pub(crate) fn line_in(text: &str, names_address: impl Fn(&str) -> bool) -> Option<String> {
    let lines = || text.lines().rev().map(beginning).filter(|line| says_so(line));
    let line = lines().find(|line| names_address(line)).or_else(|| lines().next())?;
    Some(line.to_owned())
}

fn beginning(line: &str) -> &str {
    let end = (0..=MOST_BYTES.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
    line.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn says_so(line: &str) -> bool {
    let line = line.to_lowercase();
    let of_port = || line.contains("port ") && line.contains("in use");
    WORDS.iter().any(|words| line.contains(words)) || of_port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_recognised_in_the_words_of_many() {
        for line in [
            "Error: listen EADDRINUSE: address already in use :::3000",
            "OSError: [Errno 98] Address already in use",
            "OSError: [Errno 98] Die Adresse wird bereits verwendet",
            "2026/01/01 00:00:00 listen tcp :8080: bind: address already in use",
            "server.rb:3:in `initialize': Address already in use - bind(2) for \"127.0.0.1\" port 80 (Errno::EADDRINUSE)",
            "Error: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }",
            "java.net.BindException: Address already in use (Bind failed)",
            "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",
            "(98)Address already in use: AH00072: make_sock: could not bind to address [::]:80",
            "Failed to listen on localhost:8000 (reason: Address already in use)",
            "[ERROR] Connection in use: ('127.0.0.1', 8000)",
            "error: Uncaught (in promise) AddrInUse: Address already in use (os error 98)",
            "Error: Port 4173 is already in use",
            "error: Failed to start server. Is port 3000 in use?",
            "** (EXIT) :eaddrinuse",
        ] {
            assert_eq!(line_in(line, |_| false).as_deref(), Some(line));
        }
        for line in ["Error: no database", "port 80 is open", "this name is already in use", "errno 9"] {
            assert_eq!(line_in(line, |_| false), None, "{line}");
        }
    }

    #[test]
    fn the_line_that_names_the_address_comes_before_later_ones() {
        let text = "address already in use: :1\nport 2 is in use\nEADDRINUSE\nbye\n";
        assert_eq!(line_in(text, |line| line.contains("port")).as_deref(), Some("port 2 is in use"));
        assert_eq!(line_in(text, |_| false).as_deref(), Some("EADDRINUSE"));
    }

    #[test]
    fn of_a_long_line_the_beginning_is_looked_at() {
        let long = format!("{}EADDRINUSE", "ä".repeat(MOST_BYTES));
        assert_eq!(line_in(&long, |_| true), None);
        let line = line_in(&format!("EADDRINUSE {long}"), |_| true).unwrap();
        assert!(line.len() <= MOST_BYTES, "{}", line.len());
    }
}
