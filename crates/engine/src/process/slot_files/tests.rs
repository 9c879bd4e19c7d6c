//! Files that are full, moved away, removed or cannot be written.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
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
        let files = SlotFiles::open(set(WorkerLog::new(directory.path())), None, 1, None, sink).unwrap();
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

#[test]
fn one_that_was_removed_is_made_anew_when_it_is_full() {
    let mut bench = Bench::new(|log| log.size(8));
    for text in ["one\n", "two\n", "three\n"] {
        bench.write(source(1, 0), text);
    }
    assert_eq!(bench.read("0.log.1"), "one\ntwo\n");
    fs::remove_file(bench.at("0.log")).unwrap();
    bench.write(source(1, 0), "four\n");
    assert_eq!(bench.read("0.log"), "four\n");
    assert_eq!(bench.read("0.log.1"), "one\ntwo\n", "those before it stay where they are");
    bench.write(source(1, 0), "five\n");
    assert_eq!((bench.read("0.log"), bench.read("0.log.1")), ("five\n".into(), "four\n".into()));
    assert!(bench.events.try_recv().is_err());
}

#[test]
fn where_no_new_one_could_be_opened_that_is_tried_again() {
    let mut bench = Bench::new(|log| log.size(8));
    bench.write(source(1, 0), "one\n");
    // It was moved, and something else took its name before a new one was there.
    fs::rename(bench.at("0.log"), bench.at("0.log.1")).unwrap();
    mknodat(CWD, bench.at("0.log"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    bench.files.reopen();
    let Ok(Event::LogFailed { failed: "reopen", .. }) = bench.events.try_recv() else { panic!() };
    fs::remove_file(bench.at("0.log")).unwrap();
    bench.write(source(1, 0), "two\n");
    bench.write(source(1, 0), "three\n");
    assert_eq!((bench.read("0.log"), bench.read("0.log.1")), ("three\n".into(), "one\ntwo\n".into()));
    assert!(!bench.at("0.log.2").exists(), "it is not moved once more");
    assert!(bench.events.try_recv().is_err());
}

#[test]
fn a_line_that_has_no_end_is_split() {
    let mut bench = Bench::new(|log| log.size(10));
    let most = OVER + 10;
    for _ in 0..3000 {
        bench.write(source(1, 0), &"x".repeat(1000));
    }
    let sizes = ["0.log", "0.log.1", "0.log.2"].map(|name| fs::metadata(bench.at(name)).unwrap().len());
    assert!(sizes.iter().all(|&size| size <= most), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<u64>(), 3_000_000);
}

/// A pipe that nobody reads takes the place of a disk that becomes full.
#[test]
fn what_is_written_after_a_torn_line_begins_on_its_own() {
    let mut bench = Bench::new(|log| log);
    let (mut reader, writer) = io::pipe().unwrap();
    let writer = File::from(OwnedFd::from(writer));
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let SlotFiles { log, files, events, .. } = &mut bench.files;
    let file = files.get_mut(&0).unwrap();
    file.file = Some(writer);
    let line = [vec![b'x'; 4 << 20], b"\n".to_vec()].concat();
    file.put(log, events, &source(1, 0), &line);
    let mut torn = vec![0; usize::try_from(file.size).unwrap()];
    reader.read_exact(&mut torn).unwrap();
    file.put(log, events, &source(1, 0), b"whole\n");
    file.file = None;
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(torn.len() < line.len() && torn.iter().all(|&byte| byte == b'x'));
    assert_eq!(rest, "\nwhole\n");
}

/// A device that is always full takes the place of a disk.
#[test]
fn a_full_disk_is_told_once_with_what_was_lost_when_there_is_room_again() {
    let mut bench = Bench::new(|log| log);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    bench.files.files.get_mut(&0).unwrap().file = Some(full);
    let hour = Duration::from_secs(3600);
    let counted_at = |bench: &mut Bench, at: Option<Instant>| {
        bench.files.files.get_mut(&0).unwrap().failing.as_mut().unwrap().counted = at.unwrap();
    };
    bench.write(source(1, 0), "lost\nlost\n");
    counted_at(&mut bench, Instant::now().checked_add(hour));
    bench.write(source(1, 0), "lost\nlo");
    let Ok(Event::LogFailed { slot: 0, failed: "write", error, .. }) = bench.events.try_recv() else {
        panic!()
    };
    assert!(error.contains("No space left"), "{error}");
    let Ok(Event::LogLost(2)) = bench.events.try_recv() else { panic!("it is counted at once") };
    assert!(bench.events.try_recv().is_err(), "it is told once");
    counted_at(&mut bench, Instant::now().checked_sub(COUNT_LOSS));
    bench.write(source(1, 0), "lost\n");
    let Ok(Event::LogLost(3)) = bench.events.try_recv() else { panic!("it is counted while it lasts") };
    bench.files.reopen();
    bench.write(source(1, 0), "kept\n");
    let Ok(Event::LogLost(0)) = bench.events.try_recv() else { panic!() };
    let Ok(Event::LogResumed { slot: 0, lines: 5 }) = bench.events.try_recv() else { panic!() };
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

#[test]
fn one_that_another_program_has_left_and_that_cannot_be_opened_is_no_reason_not_to_begin() {
    let bench = Bench::new(|log| log);
    let gone = WorkerLog::new(bench.at("gone"));
    let open = |left| {
        let (send, events) = channel();
        let sink = Sink::new(move |event| drop(send.send(event)));
        (SlotFiles::open(gone.clone(), None, 1, left, sink), events)
    };
    assert!(open(None).0.is_err(), "at a start it is one");
    let (files, events) = open(Some(bench.files.save()));
    let mut files = files.unwrap();
    files.write(&source(1, 0), b"lost\n", &|| {});
    assert!(matches!(events.try_recv(), Ok(Event::LogFailed { slot: 0, failed: "write", .. })));
    assert!(matches!(events.try_recv(), Ok(Event::LogLost(1))));
    fs::create_dir(bench.at("gone")).unwrap();
    files.write(&source(1, 0), b"kept\n", &|| {});
    assert_eq!(bench.read("gone/0.log"), "kept\n");
}
