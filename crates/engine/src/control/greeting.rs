//! What listens on a control socket: a cluster, or something else that has the path.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};

use super::protocol::{REQUEST_LIMIT, Reply};
use crate::socket::probe::open;
use crate::socket::runtime_dir;

/// A request that asks for nothing. Every master refuses it, and no other program has such an answer.
const GREETING: &[u8] = b"{\"version\":1}\n";
/// How long the answer may take. A master that is busy takes longer than one at rest.
const PATIENCE: Duration = Duration::from_secs(3);

/// What listens at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listener {
    /// A cluster.
    Cluster,
    /// Another program.
    Other,
    /// Something that does not answer: a cluster that is about to start or hangs, or another program.
    Silent,
}

/// Asks what listens at a path, for three seconds at most.
///
/// # Errors
///
/// When nothing listens there, or this process may not connect.
pub fn listener_at(path: &Path) -> io::Result<Listener> {
    Ok(greet(open(path)?, Instant::now() + PATIENCE).unwrap_or_else(|error| {
        let is_late = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind());
        if is_late { Listener::Silent } else { Listener::Other }
    }))
}

fn greet(stream: Option<UnixStream>, until: Instant) -> io::Result<Listener> {
    let Some(mut stream) = stream else { return Ok(Listener::Silent) };
    // rustix's processes have no number 0, which one of an outer PID namespace has here.
    let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
    if !runtime_dir::may_talk_to(peer.uid()) {
        return Ok(Listener::Other);
    }
    stream.set_write_timeout(Some(PATIENCE))?;
    // A master that refuses a client says so before it hears anything, and may have closed by now.
    let _ = stream.write_all(GREETING);
    let mut answer = Vec::new();
    let mut chunk = [0; 512];
    while answer.len() < REQUEST_LIMIT && !answer.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Listener::Silent);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => break,
            count => answer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
    let line = answer.split(|&byte| byte == b'\n').next().unwrap_or_default();
    Ok(if Reply::decode(line).is_ok() { Listener::Cluster } else { Listener::Other })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;

    use super::*;

    /// Listens at a path and gives everyone this answer. It goes on until the process ends.
    pub(crate) fn answer_with(path: PathBuf, answer: &'static [u8]) {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(answer);
            }
        });
    }

    /// What a master says to a greeting.
    pub(crate) const REFUSED: &[u8] = b"{\"reply\":\"refused\",\"reason\":\"no request\"}\n";

    #[test]
    fn a_cluster_is_known_by_its_answer() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        answer_with(at("cluster.sock"), REFUSED);
        answer_with(at("web.sock"), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        answer_with(at("rude.sock"), b"");
        let listeners = ["cluster.sock", "web.sock", "rude.sock"].map(|name| listener_at(&at(name)).unwrap());
        assert_eq!(listeners, [Listener::Cluster, Listener::Other, Listener::Other]);
        assert_eq!(listener_at(&at("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_does_not_answer_is_silent() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let soon = Instant::now() + Duration::from_millis(50);
        assert_eq!(greet(open(&path).unwrap(), soon).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(greet(None, soon).unwrap(), Listener::Silent);
    }

    #[test]
    fn a_master_that_has_refused_and_closed_is_a_cluster() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let refused = Reply::Refused { reason: "too many".to_owned() }.encode().unwrap();
        there.write_all(&refused).unwrap();
        drop(there);
        let until = Instant::now() + PATIENCE;
        assert!(matches!(greet(Some(here), until), Ok(Listener::Cluster)));
    }
}
