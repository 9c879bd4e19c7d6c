//! A file for each slot, with what its workers write. One that is full or was moved away is opened anew. What cannot be written is
//! counted and told once, until it can be written again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::Path;

use rustix::fs::{Access, FileType, OFlags, access, fcntl_getfl, fcntl_setfl, fstat};

use crate::config::output::{LineStyle, WorkerLog};
use crate::process::console::{Outlet, by_lines, in_style};
use crate::process::event::Event;
use crate::process::lines::count;
use crate::process::source::Source;
use crate::sink::Sink;
use crate::socket::place::Place;

/// The files of all slots.
pub(super) struct SlotFiles {
    log: WorkerLog,
    style: Option<LineStyle>,
    files: BTreeMap<u32, SlotFile>,
    events: Sink<Event>,
}

/// The file of one slot.
#[derive(Default)]
struct SlotFile {
    file: Option<File>,
    /// How large it is, in bytes.
    size: u64,
    /// Who has written the beginning of a line to it.
    open: Option<Source>,
    /// Lines that were lost since it could not be written, where that is so.
    failing: Option<u64>,
    /// It cannot be moved away, and people know.
    is_stuck: bool,
}

impl SlotFiles {
    /// Opens those of so many slots.
    pub(super) fn open(
        log: WorkerLog,
        style: Option<LineStyle>,
        slots: u32,
        events: Sink<Event>,
    ) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for slot in 0..slots {
            let mut file = SlotFile::default();
            file.ensure(&log, slot)?;
            files.insert(slot, file);
        }
        Ok(Self { log, style, files, events })
    }
}

/// Whether they could be opened, as far as that can be said without making one.
pub(crate) fn check(log: &WorkerLog, slots: u32) -> io::Result<()> {
    if !std::fs::metadata(&log.directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    for slot in 0..slots {
        let path = log.path(slot);
        match Place::of(&path)?.kind()? {
            Some(_) => drop(open(&path, OFlags::empty())?),
            None => access(&log.directory, Access::WRITE_OK | Access::EXEC_OK)?,
        }
    }
    Ok(())
}

impl Outlet for SlotFiles {
    fn write(&mut self, source: &Source, piece: &[u8], progress: &dyn Fn()) {
        let slot = source.worker.slot;
        let Self { log, style, files, events } = self;
        let file = files.entry(slot).or_default();
        let put = |lines: &[u8]| {
            file.put(log, events, source, lines);
            progress();
        };
        match style {
            None => by_lines(piece, put),
            Some(style) => in_style(style, source, piece, put),
        }
    }

    fn reopen(&mut self) {
        let Self { log, files, events, .. } = self;
        for (slot, file) in files {
            let path = log.path(*slot);
            match opened(&path) {
                Ok((opened, size)) => {
                    (file.file, file.size, file.open, file.is_stuck) = (Some(opened), size, None, false);
                }
                // The one that is open is still written to.
                Err(error) => {
                    let error = error.to_string();
                    events.send(Event::LogFailed { slot: *slot, path, failed: "reopen", error });
                }
            }
        }
    }
}

impl SlotFile {
    fn ensure(&mut self, log: &WorkerLog, slot: u32) -> io::Result<()> {
        if self.file.is_none() {
            let (file, size) = opened(&log.path(slot))?;
            (self.file, self.size) = (Some(file), size);
        }
        Ok(())
    }

    /// Writes what this one says; tells people if that cannot be done, and when it can be done again.
    fn put(&mut self, log: &WorkerLog, events: &Sink<Event>, source: &Source, lines: &[u8]) {
        let slot = source.worker.slot;
        match self.append(log, events, source, lines) {
            Ok(()) => {
                if let Some(lines) = self.failing.take() {
                    events.send(Event::LogResumed { slot, lines });
                }
            }
            Err(error) => {
                let lost = count(lines);
                if let Some(all) = &mut self.failing {
                    *all += lost;
                } else {
                    self.failing = Some(lost);
                    let (path, error) = (log.path(slot), error.to_string());
                    events.send(Event::LogFailed { slot, path, failed: "write", error });
                }
            }
        }
    }

    fn append(
        &mut self,
        log: &WorkerLog,
        events: &Sink<Event>,
        source: &Source,
        lines: &[u8],
    ) -> io::Result<()> {
        let slot = source.worker.slot;
        self.ensure(log, slot)?;
        let is_between_lines = self.open.is_none_or(|open| open != *source);
        let added = lines.len() as u64 + u64::from(self.open.is_some() && is_between_lines);
        let is_full = log.size.is_some_and(|size| self.size > 0 && self.size.saturating_add(added) > size);
        if is_full && is_between_lines {
            self.move_away(log, events, slot);
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if self.open.is_some() && is_between_lines {
            // What others say begins on a line of its own.
            file.write_all(b"\n")?;
            (self.open, self.size) = (None, self.size + 1);
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.size += written as u64;
                    let ends = rest.get(written - 1) == Some(&b'\n');
                    self.open = (!ends).then_some(*source);
                    rest = rest.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the file another name and begins a new one. Where that cannot be done, people are told once and the old one grows.
    fn move_away(&mut self, log: &WorkerLog, events: &Sink<Event>, slot: u32) {
        let path = log.path(slot);
        match rotate(&path, log.keep).and_then(|()| opened(&path)) {
            Ok((file, size)) => {
                (self.file, self.size, self.open, self.is_stuck) = (Some(file), size, None, false);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_stuck, true) {
                    let error = error.to_string();
                    events.send(Event::LogFailed { slot, path, failed: "rotate", error });
                }
            }
        }
    }
}

/// Moves a file and those that were moved before it one number up. The one with the highest number is gone then.
fn rotate(path: &Path, keep: NonZeroU32) -> io::Result<()> {
    let place = Place::of(path)?;
    let ending = |number: u32| if number == 0 { String::new() } else { format!(".{number}") };
    // What is not there yet needs no room.
    let mut free = 1;
    while free < keep.get() && place.beside(&ending(free))?.kind()?.is_some() {
        free += 1;
    }
    for number in (0..free).rev() {
        place.beside(&ending(number))?.rename(&place.beside(&ending(number + 1))?)?;
    }
    Ok(())
}

fn opened(path: &Path) -> io::Result<(File, u64)> {
    let file = open(path, OFlags::CREATE)?;
    let size = fstat(&file)?.st_size;
    Ok((file, u64::try_from(size).unwrap_or_default()))
}

/// Opens a regular file, and waits for nobody.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let place = Place::of(path)?;
    let no_file = || io::Error::other("it is no regular file");
    if place.kind()?.is_some_and(|kind| kind != FileType::RegularFile) {
        return Err(no_file());
    }
    let file = place.open(OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | flags)?;
    // Something else may have taken its place.
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(no_file());
    }
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::mpsc::{Receiver, channel};

    use recluster_core::WorkerId;
    use rustix::fs::{CWD, Mode, mknodat};

    use super::*;
    use crate::report::stream::Stream;
    use crate::report::worker::Worker;

    fn source(id: u64, slot: u32) -> Source {
        let worker = Worker { id, slot, generation: 1, pid: Some(7) };
        Source { id: WorkerId::from_number(id), worker, stream: Stream::Stdout }
    }

    struct Bench {
        directory: tempfile::TempDir,
        files: SlotFiles,
        events: Receiver<Event>,
    }

    impl Bench {
        fn new(set: impl FnOnce(WorkerLog) -> WorkerLog) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (send, events) = channel();
            let sink = Sink::new(move |event| drop(send.send(event)));
            let files = SlotFiles::open(set(WorkerLog::new(directory.path())), None, 1, sink).unwrap();
            Self { directory, files, events }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.at(name)).unwrap()
        }

        fn write(&mut self, source: Source, text: &str) {
            self.files.write(&source, text.as_bytes(), &|| {});
        }
    }

    #[test]
    fn each_slot_has_a_file_which_is_appended_to() {
        let mut bench = Bench::new(|log| log);
        fs::write(bench.at("1.log"), "before\n").unwrap();
        bench.write(source(1, 0), "a\n");
        bench.write(source(2, 1), "b\n");
        bench.write(source(3, 0), "c\n");
        assert_eq!((bench.read("0.log"), bench.read("1.log")), ("a\nc\n".into(), "before\nb\n".into()));
    }

    #[test]
    fn what_one_worker_says_does_not_go_on_the_line_of_another() {
        let mut bench = Bench::new(|log| log);
        bench.write(source(1, 0), "the old one begins");
        bench.write(source(2, 0), "the new one\n");
        bench.write(source(1, 0), " and ends\n");
        assert_eq!(bench.read("0.log"), "the old one begins\nthe new one\n and ends\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_and_stays_in_use_where_that_fails() {
        let mut bench = Bench::new(|log| log);
        bench.write(source(1, 0), "old\n");
        fs::rename(bench.at("0.log"), bench.at("moved")).unwrap();
        bench.write(source(1, 0), "old as well\n");
        bench.files.reopen();
        bench.write(source(1, 0), "new\n");
        assert_eq!((bench.read("moved"), bench.read("0.log")), ("old\nold as well\n".into(), "new\n".into()));
        fs::rename(bench.at("0.log"), bench.at("moved")).unwrap();
        fs::create_dir(bench.at("0.log")).unwrap();
        bench.files.reopen();
        bench.write(source(1, 0), "still\n");
        assert_eq!(bench.read("moved"), "new\nstill\n");
        let Ok(Event::LogFailed { failed: "reopen", .. }) = bench.events.try_recv() else { panic!() };
    }

    #[test]
    fn none_is_larger_than_its_size_and_as_many_are_kept_as_was_said() {
        let mut bench = Bench::new(|log| log.size(10).keep(NonZeroU32::new(2).unwrap()));
        for number in 1..=7 {
            bench.write(source(1, 0), &format!("line{number}\n"));
        }
        bench.write(source(1, 0), "a line that is longer\n");
        bench.write(source(1, 0), "end\n");
        let names: Vec<_> = fs::read_dir(bench.directory.path()).unwrap().collect();
        assert_eq!(names.len(), 3);
        assert_eq!(bench.read("0.log.2"), "line7\n");
        assert_eq!(bench.read("0.log.1"), "a line that is longer\n");
        assert_eq!(bench.read("0.log"), "end\n");
    }

    #[test]
    fn one_that_cannot_be_moved_away_grows_and_that_is_said_once() {
        let mut bench = Bench::new(|log| log.size(4));
        fs::create_dir_all(bench.at("0.log.1/something")).unwrap();
        for slot in (1..=5).rev() {
            fs::create_dir_all(bench.at(&format!("0.log.{slot}/something"))).unwrap();
        }
        for text in ["one\n", "two\n", "three\n"] {
            bench.write(source(1, 0), text);
        }
        assert_eq!(bench.read("0.log"), "one\ntwo\nthree\n");
        let Ok(Event::LogFailed { failed: "rotate", .. }) = bench.events.try_recv() else { panic!() };
        assert!(bench.events.try_recv().is_err());
    }

    /// A device that is always full takes the place of a disk.
    #[test]
    fn a_full_disk_is_told_once_with_what_was_lost_when_there_is_room_again() {
        let mut bench = Bench::new(|log| log);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        bench.files.files.get_mut(&0).unwrap().file = Some(full);
        bench.write(source(1, 0), "lost\nlost\n");
        bench.write(source(1, 0), "lost\nlo");
        let Ok(Event::LogFailed { slot: 0, failed: "write", error, .. }) = bench.events.try_recv() else {
            panic!()
        };
        assert!(error.contains("No space left"), "{error}");
        assert!(bench.events.try_recv().is_err(), "it is told once");
        bench.files.reopen();
        bench.write(source(1, 0), "kept\n");
        let Ok(Event::LogResumed { slot: 0, lines: 4 }) = bench.events.try_recv() else { panic!() };
        assert_eq!(bench.read("0.log"), "kept\n");
    }

    #[test]
    fn nothing_but_a_regular_file_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        mknodat(CWD, at("0.log"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(at("1.log")).unwrap();
        symlink("/dev/null", at("2.log")).unwrap();
        symlink("kept", at("3.log")).unwrap();
        let log = WorkerLog::new(directory.path());
        let kinds = |slot: u32| opened(&log.path(slot)).map(drop).map_err(|error| error.to_string());
        for slot in 0..3 {
            assert!(kinds(slot).unwrap_err().contains("no regular file"), "{slot}");
        }
        kinds(3).unwrap();
        assert!(at("kept").exists(), "a link of the operator is followed");
        assert!(check(&log, 1).is_err() && check(&WorkerLog::new(at("gone")), 1).is_err());
    }

    #[test]
    fn a_check_makes_no_file() {
        let directory = tempfile::tempdir().unwrap();
        check(&WorkerLog::new(directory.path()), 3).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
