//! The answer of a worker: a status of 200 and its pid. Sans-IO.

use crate::fault::Fault;

/// Most headers that an answer may have.
const HEADERS: usize = 32;

/// The pid in an answer; nothing while a part of it has not come.
pub(crate) fn pid(bytes: &[u8]) -> Result<Option<u32>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Fault::Answer),
    };
    if response.code != Some(200) {
        return Err(Fault::Status);
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let body = bytes.get(head..).unwrap_or_default();
    let length = length.ok_or(Fault::Answer)?;
    if body.len() > length {
        return Err(Fault::Answer);
    }
    if body.len() < length {
        return Ok(None);
    }
    let pid = std::str::from_utf8(body).ok().and_then(|text| text.trim_end().parse().ok());
    pid.map(Some).ok_or(Fault::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234\n";

    #[test]
    fn the_pid_is_there_when_the_answer_is_whole() {
        for cut in 0..ANSWER.len() {
            assert_eq!(pid(&ANSWER[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(pid(ANSWER), Ok(Some(1234)));
    }

    #[test]
    fn what_no_worker_says_is_a_fault() {
        assert_eq!(pid(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), Err(Fault::Status));
        assert_eq!(pid(b"HTTP/1.1 200 OK\r\n\r\n1234\n"), Err(Fault::Answer));
        assert_eq!(pid(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Err(Fault::Answer));
        assert_eq!(pid(&[ANSWER, b"more"].concat()), Err(Fault::Answer));
        assert_eq!(pid(b"SSH-2.0\r\n"), Err(Fault::Answer));
    }
}
