//! Where the body of an HTTP/1 answer ends. Std only.

use crate::tally::Cause;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// The body and how many bytes it took, or nothing while a part of it has not come.
pub(crate) fn decode(bytes: &[u8], framing: Framing) -> Result<Option<(Vec<u8>, usize)>, Cause> {
    match framing {
        Framing::Length(length) => Ok(bytes.get(..length).map(|body| (body.to_vec(), length))),
        Framing::Chunked => chunks(bytes),
    }
}

/// Answers are a few hundred bytes long: each time that more has come, all of it is read again.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Cause> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let (start, length) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(chunk)) => chunk,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Cause::Garbage("a bad chunk".to_owned())),
        };
        let length = usize::try_from(length).map_err(|_| Cause::Garbage("a bad chunk".to_owned()))?;
        let Some(chunk) = rest.get(start..).and_then(|rest| rest.get(..length + 2)) else {
            return Ok(None);
        };
        let (content, end) = chunk.split_at(length);
        if end != b"\r\n" {
            return Err(Cause::Garbage("a chunk of another length than it says".to_owned()));
        }
        rest = rest.get(start + length + 2..).unwrap_or_default();
        if length == 0 {
            return Ok(Some((body, bytes.len() - rest.len())));
        }
        body.extend_from_slice(content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_its_length_says() {
        assert_eq!(decode(b"abc", Framing::Length(4)), Ok(None));
        assert_eq!(decode(b"abcde", Framing::Length(4)), Ok(Some((b"abcd".to_vec(), 4))));
    }

    #[test]
    fn chunks_are_put_together_and_what_follows_is_left() {
        let whole = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1";
        for cut in 0..20 {
            assert_eq!(decode(&whole[..cut], Framing::Chunked), Ok(None), "{cut}");
        }
        assert_eq!(decode(whole, Framing::Chunked), Ok(Some((b"abcde".to_vec(), 20))));
    }

    #[test]
    fn a_chunk_of_the_wrong_length_is_no_body() {
        assert!(decode(b"2\r\nabc\r\n0\r\n\r\n", Framing::Chunked).is_err());
        assert!(decode(b"x\r\n", Framing::Chunked).is_err());
    }
}
