//! Whether a path can be looked at. A file system whose server is gone (NFS, FUSE) keeps whoever looks at its files, for hours or for
//! ever. So a thread that may wait looks first, where the one that asks has something else to do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take. It is waited for only the first time.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many threads wait at most, and how many paths are known that were late.
const MOST: usize = 32;
/// The stack of a thread that does nothing but look.
const STACK_BYTES: usize = 64 * 1024;

/// What is known of a path that did not answer in time. Nobody waits for it until it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// A thread looks.
    Looking,
    /// It has answered: late again, or in time.
    Answered { in_time: bool },
}

static LATE: Mutex<BTreeMap<PathBuf, Late>> = Mutex::new(BTreeMap::new());

/// Whether the file systems on the way to a path say what is there.
pub(crate) fn answers(path: &Path) -> bool {
    answers_to(path, |path| drop(fs::metadata(path)), PATIENCE)
}

fn answers_to(path: &Path, look: impl Fn(&Path) + Send + 'static, patience: Duration) -> bool {
    {
        let mut late = late();
        match late.get(path) {
            Some(Late::Looking) => return false,
            Some(Late::Answered { in_time: true }) => {
                late.remove(path);
                return true;
            }
            Some(Late::Answered { in_time: false }) => {
                late.insert(path.to_owned(), Late::Looking);
                drop(late);
                // Without a thread to spare it stays as it is.
                let _ = start(path, look, patience, || ());
                return false;
            }
            None if late.len() >= MOST => {
                late.retain(|_, late| *late == Late::Looking);
                if late.len() >= MOST {
                    // So many do not answer that no more threads wait: it is looked at as it comes.
                    return true;
                }
            }
            None => {}
        }
    }
    let (tell, told) = sync_channel(1);
    // Nobody may wait for it any more.
    if start(path, look, patience, move || _ = tell.send(())).is_err() {
        return true;
    }
    if told.recv_timeout(patience).is_ok() {
        return true;
    }
    let mut late = late();
    let has_answered = told.try_recv().is_ok();
    if !has_answered {
        late.insert(path.to_owned(), Late::Looking);
    }
    has_answered
}

/// Has a thread look.
fn start(
    path: &Path,
    look: impl Fn(&Path) + Send + 'static,
    patience: Duration,
    tell: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let path: Arc<Path> = path.into();
    let work = move || {
        let begun = Instant::now();
        look(&path);
        tell();
        if let Some(known) = late().get_mut(&*path) {
            *known = Late::Answered { in_time: begun.elapsed() < patience };
        }
    };
    let thread = thread::Builder::new().name("recluster-path".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(work).map(drop)
}

fn late() -> MutexGuard<'static, BTreeMap<PathBuf, Late>> {
    LATE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A file system that answers when it is told to.
    fn waits(answer: Receiver<()>) -> impl Fn(&Path) + Send + 'static {
        move |_| {
            // An error means that the test is over.
            let _ = answer.recv();
        }
    }

    #[test]
    fn what_does_not_answer_is_waited_for_once_until_it_does() {
        let (path, short) = (Path::new("/nowhere/that answers late"), Duration::from_millis(1));
        let (answer, waiting) = channel();
        assert!(!answers_to(path, waits(waiting), short));
        let never = |_: &Path| unreachable!("a thread waits already");
        assert!(!answers_to(path, never, Duration::MAX));
        assert!(answers(Path::new("/nowhere/else")), "no other path has to wait for it");
        answer.send(()).unwrap();
        while late().get(path) == Some(&Late::Looking) {
            thread::yield_now();
        }
        assert!(!answers_to(path, |_| (), Duration::MAX), "it has answered late");
        while late().get(path) == Some(&Late::Looking) {
            thread::yield_now();
        }
        assert!(answers_to(path, never, Duration::MAX), "it has answered in time");
        assert!(answers_to(path, |_| (), Duration::MAX), "and is waited for again");
    }

    #[test]
    fn a_path_answers_whatever_is_there() {
        assert!(answers(Path::new("/")) && answers(Path::new("/nowhere")) && answers(Path::new("")));
    }
}
