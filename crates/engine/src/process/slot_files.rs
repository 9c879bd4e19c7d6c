//! A file for each slot, with what its workers write. One that is full or was moved away is opened anew. What cannot be written is
//! counted and told once, until it can be written again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Access, FileType, OFlags, access, fcntl_getfl, fcntl_setfl, fstat};

use crate::config::output::{LineStyle, WorkerLog};
use crate::process::console::{LeftFile, LeftLine, LeftLoss, Outlet, by_lines, in_style};
use crate::process::event::Event;
use crate::process::lines::count;
use crate::process::source::Source;
use crate::sink::Sink;
use crate::socket::place::Place;

/// How much larger than its size a file may become before a line is split, in bytes.
const OVER: u64 = 1 << 20;
/// How often lost lines are counted.
const COUNT_LOSS: Duration = Duration::from_secs(1);

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
    /// The line that has begun and not ended.
    open: Option<Begun>,
    /// What was lost since it could not be written, where that is so.
    failing: Option<Loss>,
    /// It cannot be moved away, and people know.
    is_stuck: bool,
}

/// The beginning of a line.
struct Begun {
    by: Source,
    /// What followed was lost. Nothing goes on with it.
    is_torn: bool,
}

/// Lines that were lost.
struct Loss {
    lines: u64,
    /// How many of them have not been counted.
    uncounted: u64,
    counted: Instant,
}

impl SlotFiles {
    /// Opens those of so many slots, or goes on with what another program has written there. What it could not open any more is lost
    /// and told, as with any file that cannot be written.
    pub(super) fn open(
        log: WorkerLog,
        style: Option<LineStyle>,
        slots: u32,
        left: Option<BTreeMap<u32, LeftFile>>,
        events: Sink<Event>,
    ) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for slot in 0..slots {
            let mut file = SlotFile::default();
            let opened = file.ensure(&log, slot);
            if left.is_none() {
                opened?;
            }
            files.insert(slot, file);
        }
        for (slot, left) in left.into_iter().flatten() {
            files.entry(slot).or_default().go_on(left);
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

    fn save(&self) -> BTreeMap<u32, LeftFile> {
        self.files.iter().map(|(slot, file)| (*slot, file.save())).collect()
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
    fn save(&self) -> LeftFile {
        LeftFile {
            open: self.open.as_ref().map(|&Begun { by, is_torn }| LeftLine { by, is_torn }),
            failing: self
                .failing
                .as_ref()
                .map(|&Loss { lines, uncounted, .. }| LeftLoss { lines, uncounted }),
            is_stuck: self.is_stuck,
        }
    }

    fn go_on(&mut self, LeftFile { open, failing, is_stuck }: LeftFile) {
        // In a file that was made since then no line has begun.
        self.open = open.filter(|_| self.size > 0).map(|LeftLine { by, is_torn }| Begun { by, is_torn });
        let counted = Instant::now();
        self.failing = failing.map(|LeftLoss { lines, uncounted }| Loss { lines, uncounted, counted });
        self.is_stuck = is_stuck;
    }

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
                if let Some(Loss { lines, uncounted, .. }) = self.failing.take() {
                    events.send(Event::LogLost(uncounted));
                    events.send(Event::LogResumed { slot, lines });
                }
            }
            Err(error) => {
                if let Some(begun) = &mut self.open {
                    begun.is_torn = true;
                }
                let lost = count(lines);
                if let Some(loss) = &mut self.failing {
                    loss.add(lost, events);
                } else {
                    self.failing = Some(Loss { lines: lost, uncounted: 0, counted: Instant::now() });
                    let (path, error) = (log.path(slot), error.to_string());
                    events.send(Event::LogFailed { slot, path, failed: "write", error });
                    events.send(Event::LogLost(lost));
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
        let goes_on = self.open.as_ref().is_some_and(|begun| begun.by == *source && !begun.is_torn);
        let added = lines.len() as u64 + u64::from(self.open.is_some() && !goes_on);
        // Some write no line feeds at all.
        let over = if goes_on { OVER } else { 0 };
        let most = log.size.map(|size| size.saturating_add(over));
        if most.is_some_and(|most| self.size > 0 && self.size.saturating_add(added) > most) {
            self.move_away(log, events, slot);
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if self.open.is_some() && !goes_on {
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
                    self.open = (!ends).then_some(Begun { by: *source, is_torn: false });
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

impl Loss {
    fn add(&mut self, lines: u64, events: &Sink<Event>) {
        self.lines += lines;
        self.uncounted += lines;
        if self.counted.elapsed() >= COUNT_LOSS {
            self.counted = Instant::now();
            events.send(Event::LogLost(std::mem::take(&mut self.uncounted)));
        }
    }
}

/// Moves a file and those that were moved before it one number up. The one with the highest number is gone then.
/// Where somebody has moved the file away already, none is moved.
fn rotate(path: &Path, keep: NonZeroU32) -> io::Result<()> {
    let place = Place::of(path)?;
    if place.kind()?.is_none() {
        return Ok(());
    }
    let ending = |number: u32| if number == 0 { String::new() } else { format!(".{number}") };
    // What is not there yet needs no room.
    let mut free = 1;
    while free < keep.get() && place.beside(&ending(free))?.kind()?.is_some() {
        free += 1;
    }
    for number in (0..free).rev() {
        match place.beside(&ending(number))?.rename(&place.beside(&ending(number + 1))?) {
            // Somebody was faster.
            Err(error) if number == 0 && error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
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
mod tests;
