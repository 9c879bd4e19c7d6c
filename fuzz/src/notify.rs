//! What a worker says by `sd_notify`.

use recluster_wire::notify::{MAX_DATAGRAM, MAX_STATUS, Refused, Word, datagram, parse};

/// A datagram that is longer than it may be is refused, and no other one for its length. What is understood can be said again, and a
/// status is one line that is safe to show.
pub fn notify(bytes: &[u8]) {
    let words = parse(bytes);
    assert_eq!(words == Err(Refused::TooLong), bytes.len() > MAX_DATAGRAM);
    let Ok(words) = words else { return };
    for word in &words {
        if let Word::Status(text) = word {
            assert!(text.len() <= MAX_STATUS && !text.contains(char::is_control), "{text:?}");
        }
        assert_eq!(parse(word.to_string().as_bytes()), Ok(vec![word.clone()]));
    }
    let said = datagram(&words);
    // It ends in a newline, which the one that came may lack.
    assert!(said.len() <= bytes.len() + 1);
    if said.len() <= MAX_DATAGRAM {
        assert_eq!(parse(said.as_bytes()), Ok(words));
    }
}
