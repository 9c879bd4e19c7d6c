//! Where the log's lines go: stderr or a file, by way of a bounded queue and a thread. Only the thread
//! waits for the reader: one that does not read must not stop the master.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use recluster::Place;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl};
use tokio::sync::Notify;

use crate::writable::may_create;

/// How many lines may wait for a slow reader.
const LINES_WAITING: usize = 1024;

/// How many bytes these lines may have together: a verdict quotes workers.
const BYTES_WAITING: usize = 2 << 20;

/// How many of them may be about what applications say, so that an application cannot fill the queue.
const CHATTER_WAITING: usize = 512;

/// How long a slow reader may take for the last lines. One that has read nothing for as long by then is not waited for again: what else goes
/// the same way has given it its time already.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long it may take at least.
const LAST_CHANCE: Duration = Duration::from_millis(100);

/// How long they are waited for where nothing else is done meanwhile, as before another program takes this one's place.
const AT_REST: Duration = Duration::from_millis(10);
/// How often it is looked whether all lines are written.
const PAUSE: Duration = Duration::from_micros(200);

/// The size of the thread's stack: it needs little more than a buffer.
const STACK_BYTES: usize = 64 * 1024;

/// The sending end of the queue.
#[derive(Debug)]
pub(super) struct Sink {
    queue: SyncSender<Job>,
    waiting: Arc<Waiting>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    /// Told when it has.
    end: Arc<Notify>,
    /// The file, if it is one.
    path: Option<PathBuf>,
    open: Open,
}

/// The file that is written to, for another program that takes this one's place.
type Open = Arc<Mutex<Option<File>>>;

/// What is in the queue.
#[derive(Debug)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    /// When a line was written last, or began to wait where none did.
    progress: Mutex<Instant>,
}

/// Waits for the lines of a log, from elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Flusher(Arc<Waiting>, Open);

impl Flusher {
    /// Does this with the file that is written to, if it is one.
    pub(crate) fn with_file<T>(&self, act: impl FnOnce(&File) -> T) -> Option<T> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
    }

    /// Waits a moment until every line is written. Says whether all are.
    pub(crate) fn flush(&self) -> bool {
        let until = Instant::now() + AT_REST;
        loop {
            if self.0.lines.load(Ordering::Acquire) == 0 {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(PAUSE);
        }
    }
}

enum Job {
    Line(String),
    /// Writes to this file from now on.
    Switch(File),
}

impl Sink {
    pub(super) fn stderr() -> io::Result<Self> {
        Self::start(Box::new(io::stderr()), None, None)
    }

    /// A file; the one that was left, where its path leads to none any more.
    pub(super) fn file(path: PathBuf, left: Option<OwnedFd>) -> io::Result<Self> {
        let file = open(&path).or_else(|error| left.map(File::from).ok_or(error))?;
        let kept = file.try_clone()?;
        Self::start(Box::new(file), Some(path), Some(kept))
    }

    fn start(output: Box<dyn Write + Send>, path: Option<PathBuf>, kept: Option<File>) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(LINES_WAITING);
        let (closes_at_end, ended) = sync_channel(0);
        let end = Arc::new(Notify::new());
        let alarm = Alarm(Arc::clone(&end));
        let waiting = Arc::new(Waiting::none());
        let counted = Arc::clone(&waiting);
        thread::Builder::new().name("recluster-log".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let _ends = (alarm, closes_at_end);
            work(output, &jobs, &counted);
        })?;
        Ok(Self { queue, waiting, ended, end, path, open: Arc::new(Mutex::new(kept)) })
    }

    /// Whether somebody reads on a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.path.is_none() && io::stderr().is_terminal()
    }

    /// Waits until the thread has ended. As long as this is there, that is because it has panicked.
    pub(super) async fn ends(&self) {
        self.end.notified().await;
    }

    /// Writes a line; says whether there was room for it.
    pub(super) fn write(&self, line: String) -> bool {
        let bytes = line.len();
        if self.waiting.bytes.load(Ordering::Relaxed).saturating_add(bytes) > BYTES_WAITING {
            return false;
        }
        self.waiting.add(bytes);
        let sent = self.queue.try_send(Job::Line(line)).is_ok();
        if !sent {
            self.waiting.remove(bytes);
        }
        sent
    }

    /// Whether there is room for a line that the log can do without.
    pub(super) fn has_room_for_chatter(&self) -> bool {
        self.waiting.lines.load(Ordering::Relaxed) < CHATTER_WAITING
    }

    /// Opens the file anew by its path. Lines that are written already stay where they are.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = open(path)?;
        let kept = file.try_clone()?;
        self.queue.try_send(Job::Switch(file)).map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(())
    }

    /// By which the lines are waited for.
    pub(super) fn flusher(&self) -> Flusher {
        Flusher(Arc::clone(&self.waiting), Arc::clone(&self.open))
    }

    /// Waits a moment until every line is written.
    pub(super) fn close(self) {
        drop(self.queue);
        // Either error means that there is nothing to wait for: the thread has ended, or its reader does not read.
        let _ = self.ended.recv_timeout(farewell(self.waiting.stuck_for()));
    }
}

/// How long the last lines are waited for where none was written for so long.
fn farewell(stuck: Duration) -> Duration {
    FAREWELL.saturating_sub(stuck).max(LAST_CHANCE)
}

/// Says that the thread ends, however it does.
struct Alarm(Arc<Notify>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Waiting {
    fn none() -> Self {
        Self { lines: AtomicUsize::new(0), bytes: AtomicUsize::new(0), progress: Mutex::new(Instant::now()) }
    }

    fn add(&self, bytes: usize) {
        if self.lines.fetch_add(1, Ordering::Relaxed) == 0 {
            self.goes_on();
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn goes_on(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long none of the lines that wait was written.
    fn stuck_for(&self) -> Duration {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn remove(&self, bytes: usize) {
        self.goes_on();
        self.lines.fetch_sub(1, Ordering::Release);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Whether [`open`] would succeed. Makes no file.
pub(super) fn check(path: &Path) -> io::Result<()> {
    let place = Place::of(path)?;
    match place.kind()? {
        None => may_create(&place),
        Some(_) => open(path).map(drop),
    }
}

/// Opens it without waiting for anybody. To write there may wait, which the thread does.
fn open(path: &Path) -> io::Result<File> {
    let place = Place::of(path)?;
    let at_once = OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
    let to_write = at_once | OFlags::WRONLY | OFlags::CREATE;
    let file = match place.kind() {
        // Its reader may come later, or go and come back: what is written until then waits there.
        Ok(Some(FileType::Fifo)) => place.open(at_once | OFlags::RDWR).or_else(|_| place.open(to_write))?,
        Ok(_) | Err(_) => place.open(to_write)?,
    };
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

fn work(mut output: Box<dyn Write + Send>, jobs: &Receiver<Job>, waiting: &Waiting) {
    for job in jobs {
        match job {
            // An error has nowhere to be reported, and the cluster goes on without a log.
            Job::Line(line) => {
                let _ = output.write_all(line.as_bytes());
                waiting.remove(line.len());
            }
            Job::Switch(file) => output = Box::new(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[test]
    fn a_file_whose_path_leads_nowhere_any_more_is_written_on_by_who_was_left_it() {
        let base = tempfile::tempdir().unwrap();
        let (directory, path) = (base.path().join("log"), base.path().join("log/it.log"));
        fs::create_dir(&directory).unwrap();
        let sink = Sink::file(path.clone(), None).unwrap();
        let left = sink.flusher().with_file(|file| OwnedFd::from(file.try_clone().unwrap()));
        fs::rename(&directory, base.path().join("away")).unwrap();
        assert!(Sink::file(path.clone(), None).is_err());
        let next = Sink::file(path, left).unwrap();
        assert!(next.write("one\n".to_owned()) && next.flusher().flush());
        assert_eq!(fs::read_to_string(base.path().join("away/it.log")).unwrap(), "one\n");
    }

    #[test]
    fn lines_are_appended_and_written_when_it_is_closed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.log");
        fs::write(&path, "before\n").unwrap();
        let sink = Sink::file(path.clone(), None).unwrap();
        assert!(sink.write("one\n".to_owned()) && sink.write("two\n".to_owned()));
        sink.close();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\none\ntwo\n");
    }

    #[test]
    fn a_check_says_what_opening_would_and_makes_nothing() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("it.log"), "before\n").unwrap();
        for name in [".", "it.log/it.log", "gone/it.log"] {
            assert_eq!(check(&at(name)).unwrap_err().kind(), open(&at(name)).unwrap_err().kind(), "{name}");
        }
        check(&at("new.log")).unwrap();
        assert!(!at("new.log").exists());
        check(&at("it.log")).unwrap();
        assert_eq!(fs::read_to_string(at("it.log")).unwrap(), "before\n");
    }

    #[test]
    fn a_reopened_file_is_the_one_at_the_path() {
        let base = tempfile::tempdir().unwrap();
        let (path, rotated) = (base.path().join("it.log"), base.path().join("it.log.1"));
        let sink = Sink::file(path.clone(), None).unwrap();
        sink.write("old\n".to_owned());
        fs::rename(&path, &rotated).unwrap();
        sink.reopen().unwrap();
        sink.write("new\n".to_owned());
        sink.close();
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "old\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_anew_stays_in_use() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("logs");
        fs::create_dir(&directory).unwrap();
        let sink = Sink::file(directory.join("it.log"), None).unwrap();
        let moved = base.path().join("moved");
        fs::rename(&directory, &moved).unwrap();
        assert!(sink.reopen().is_err());
        sink.write("still\n".to_owned());
        sink.close();
        assert_eq!(fs::read_to_string(moved.join("it.log")).unwrap(), "still\n");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_opened_at_once_and_anew() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it.log");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        check(&path).unwrap();
        let sink = Sink::file(path.clone(), None).unwrap();
        sink.reopen().unwrap();
        sink.write("one\n".to_owned());
        let mut reader = File::open(&path).unwrap();
        sink.close();
        let mut read = String::new();
        io::Read::read_to_string(&mut reader, &mut read).unwrap();
        assert_eq!(read, "one\n");
    }

    /// The directory is the workers' user's, who would have root write elsewhere.
    #[test]
    fn what_another_user_links_to_is_not_written_to() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give a link away");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let at = |path: &str| base.path().join(path);
        fs::write(at("precious"), "").unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    symlink(at("precious"), at("link")).unwrap();
                    lchown(at("link"), Some(12_345), None).unwrap();
                    fs::rename(at("link"), at("it.log")).unwrap();
                    thread::yield_now();
                    let _ = fs::remove_file(at("it.log"));
                }
            });
            for _ in 0..1000 {
                if let Ok(mut file) = open(&at("it.log")) {
                    file.write_all(b"a line\n").unwrap();
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "");
    }

    /// An output that blocks until the test lets it go on.
    struct Stuck {
        begun: Sender<()>,
        go_on: Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.begun.send(()).ok();
            self.go_on.recv().ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_does_not_read_costs_lines_and_no_time() {
        let (begun, has_begun) = channel();
        let (reader, go_on) = channel();
        let sink = Sink::start(Box::new(Stuck { begun, go_on }), None, None).unwrap();
        assert!(sink.write("the thread waits with this one\n".to_owned()));
        has_begun.recv_timeout(Duration::from_secs(30)).unwrap();
        for _ in 0..LINES_WAITING {
            assert!(sink.write("this one waits in the queue\n".to_owned()));
        }
        assert!(!sink.write("this one is lost\n".to_owned()));
        drop(reader);
        sink.close();
    }

    #[test]
    fn a_reader_that_has_had_its_time_is_not_given_it_again() {
        let farewell = |millis| farewell(Duration::from_millis(millis)).as_millis();
        assert_eq!([0, 700, 1000, 9000].map(farewell), [1000, 300, 100, 100]);
        let waiting = Waiting::none();
        let after = |change: &dyn Fn()| {
            let before = *waiting.progress.lock().unwrap();
            while Instant::now() == before {}
            change();
            *waiting.progress.lock().unwrap() > before
        };
        assert!(after(&|| waiting.add(1)), "it waits from now on");
        assert!(!after(&|| waiting.add(1)), "another one was waited for already");
        assert!(after(&|| waiting.remove(1)), "one was written");
    }

    /// An output that breaks.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("out of order")
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_end_of_the_thread_is_noticed_and_nobody_waits_for_it() {
        let sink = Sink::start(Box::new(Broken), None, None).unwrap();
        assert!(sink.write("a line\n".to_owned()));
        tokio::time::timeout(Duration::from_secs(60), sink.ends()).await.unwrap();
        sink.close();
    }

    #[test]
    fn lines_that_wait_have_a_bound_in_bytes() {
        let (begun, has_begun) = channel();
        let (reader, go_on) = channel();
        let sink = Sink::start(Box::new(Stuck { begun, go_on }), None, None).unwrap();
        assert!(sink.write("the thread waits with this one\n".to_owned()));
        has_begun.recv_timeout(Duration::from_secs(30)).unwrap();
        let long = "x".repeat(BYTES_WAITING / 2 - 64);
        assert!(sink.write(long.clone()) && sink.write(long.clone()));
        assert!(!sink.write(long), "this one is lost");
        assert!(sink.write("a short one\n".to_owned()));
        drop(reader);
        sink.close();
    }
}
