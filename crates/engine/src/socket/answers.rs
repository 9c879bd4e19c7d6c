//! Whether a path can be looked at. A file system whose server is gone (NFS, FUSE) keeps whoever looks at its files, for hours or for
//! ever. So a thread that may wait looks first, where the one that asks has something else to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long an answer may take, the first time.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many threads wait at most.
const MOST: usize = 32;
/// The stack of a thread that does nothing but look.
const STACK_BYTES: usize = 64 * 1024;

/// Paths for whose answer a thread still waits. Nobody waits for these again.
static SILENT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Whether the file systems on the way to a path say what is there.
pub(crate) fn answers(path: &Path) -> bool {
    answers_to(path, |path| drop(fs::metadata(path)), PATIENCE)
}

fn answers_to(path: &Path, look: impl Fn(&Path) + Send + 'static, patience: Duration) -> bool {
    {
        let silent = silent();
        if silent.contains(path) || silent.len() >= MOST {
            return false;
        }
    }
    let (tell, told) = sync_channel(1);
    let own: Arc<Path> = path.into();
    let asked = Arc::clone(&own);
    let look = move || {
        look(&asked);
        // Nobody may wait for it any more.
        let _ = tell.send(());
        silent().remove(&*asked);
    };
    let thread = thread::Builder::new().name("recluster-path".to_owned()).stack_size(STACK_BYTES);
    if thread.spawn(look).is_err() {
        // Without a thread to spare it is looked at as it comes.
        return true;
    }
    if told.recv_timeout(patience).is_ok() {
        return true;
    }
    let mut silent = silent();
    let has_answered = told.try_recv().is_ok();
    if !has_answered {
        silent.insert(own.to_path_buf());
    }
    has_answered
}

fn silent() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
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
        while silent().contains(path) {
            thread::yield_now();
        }
        assert!(answers_to(path, |_| (), Duration::MAX));
    }

    #[test]
    fn a_path_answers_whatever_is_there() {
        assert!(answers(Path::new("/")) && answers(Path::new("/nowhere")) && answers(Path::new("")));
    }
}
