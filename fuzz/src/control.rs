//! The control protocol, on both of its sides.

use recluster::control::protocol::{REQUEST_LIMIT, Reply, Request};
use recluster::fuzzing::control_lines;

use crate::pieces;

/// Short, so that the fuzzer finds its way beyond it.
const MOST: usize = 512;

/// Lines are the same however they are cut, and none is longer than it may be. A request or a reply that is understood can be written
/// as one line and read again.
pub fn control(input: &[u8]) {
    let Some((piece, bytes)) = pieces::split(input) else { return };
    let at_once = control_lines(bytes, bytes.len(), MOST);
    assert_eq!(at_once, control_lines(bytes, piece, MOST));
    let (lines, is_whole) = at_once;
    assert!(lines.iter().all(|line| line.len() <= MOST && !line.contains(&b'\n')));
    if is_whole {
        let end: &[u8] = if bytes.last() == Some(&b'\n') { b"\n" } else { b"" };
        assert_eq!([&lines.join(&b'\n'), end].concat(), bytes);
    }
    for line in bytes.split(|&byte| byte == b'\n') {
        request(line);
        reply(line);
    }
}

fn request(line: &[u8]) {
    match Request::decode(line) {
        Ok(request) => {
            let written = one_line(request.encode().expect("what was read can be written"));
            assert!(written.len() <= REQUEST_LIMIT);
            assert_eq!(Request::decode(&written).expect("what was written can be read"), request);
        }
        Err(error) => {
            let refused = Reply::Refused { reason: error.to_string() };
            reply(&one_line(refused.encode().expect("a text can be written")));
        }
    }
}

fn reply(line: &[u8]) {
    let Ok(reply) = Reply::decode(line) else { return };
    let written = one_line(reply.encode().expect("what was read can be written"));
    let again = Reply::decode(&written).expect("what was written can be read");
    assert_eq!(one_line(again.encode().expect("and written")), written);
}

fn one_line(mut written: Vec<u8>) -> Vec<u8> {
    assert_eq!(written.pop(), Some(b'\n'));
    assert!(!written.contains(&b'\n'));
    written
}
