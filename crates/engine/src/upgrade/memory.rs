//! A sealed piece of memory: it passes an `exec` as a descriptor, needs no disk, and once it is sealed nobody changes or shortens it, so
//! that what was written is what is read, as often as it is read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::process::{Resource, getrlimit};

use crate::sys;

/// As people see it in `/proc/PID/fd`.
const NAME: &str = "recluster-upgrade";

/// Nothing may be written, taken away or added, and that stays so.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// No master's state is as large.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Whether so many bytes are read again.
pub(crate) fn has_room_for(count: usize) -> bool {
    count as u64 <= MOST_BYTES
}

/// Whether no file may be as long under this limit, where there is one.
fn is_too_long(length: u64, limit: Option<u64>) -> bool {
    limit.is_some_and(|limit| length > limit)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn no_memory(error: io::Error) -> io::Error {
    let kind = error.kind();
    io::Error::new(kind, format!("there is no memory for what is to be left (memfd_create): {error}"))
}

/// One that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    memory: File,
    length: u64,
}

impl Writer {
    pub(crate) fn new() -> io::Result<Self> {
        let memory = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
        let memory = memory.map_err(|error| no_memory(error.into()))?;
        Ok(Self { memory: memory.into(), length: 0 })
    }

    /// Adds these bytes; returns where they begin.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let (at, end) = (self.length, self.length.saturating_add(bytes.len() as u64));
        // The kernel would end this process.
        if is_too_long(end, getrlimit(Resource::Fsize).current) {
            return Err(io::Error::other(format!(
                "what is to be left is {end} bytes, and this process may write no file as long (RLIMIT_FSIZE)"
            )));
        }
        self.memory.write_all(bytes).map_err(no_memory)?;
        self.length = end;
        Ok(at)
    }

    /// Has the kernel keep it as it is.
    pub(crate) fn seal(self) -> io::Result<OwnedFd> {
        fcntl_add_seals(&self.memory, SEALS)?;
        Ok(self.memory.into())
    }
}

/// Has the kernel keep these bytes.
pub(crate) fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut memory = Writer::new()?;
    memory.add(bytes)?;
    memory.seal()
}

/// The memory that was left to this process under this number, and what is kept there. What is no such memory is not taken.
pub(crate) fn left_as(number: &OsStr) -> io::Result<(OwnedFd, Vec<u8>)> {
    let number = number.to_str().and_then(|number| number.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    let bytes = sys::at_number(number, |memory| read(memory))?;
    Ok((sys::take_left(number)?, bytes))
}

/// What is kept there. Whoever reads it next reads the same.
pub(crate) fn read(memory: impl AsFd) -> io::Result<Vec<u8>> {
    let (memory, length) = open(memory.as_fd().try_clone_to_owned()?)?;
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    memory.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The same for whoever reads it piece by piece, and how long it is.
pub(crate) fn open(memory: OwnedFd) -> io::Result<(File, u64)> {
    let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    // Anything that is no such memory has no seals.
    if !fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALS)) {
        return wrong("it is no sealed memory");
    }
    let length = u64::try_from(fstat(&memory)?.st_size).unwrap_or(u64::MAX);
    if length > MOST_BYTES {
        return wrong("it is too large");
    }
    Ok((memory.into(), length))
}

#[cfg(test)]
mod tests {
    use rustix::fs::ftruncate;

    use super::*;

    #[test]
    fn what_is_sealed_is_read_again_and_again_and_stays_as_it_is() {
        let memory = seal(b"all of it").unwrap();
        for _ in 0..2 {
            assert_eq!(read(&memory).unwrap(), b"all of it");
        }
        assert!(ftruncate(&memory, 3).is_err() && ftruncate(&memory, 30).is_err());
        assert!(File::from(memory.try_clone().unwrap()).write_at(b"b", 0).is_err());
        assert_eq!(read(&memory).unwrap(), b"all of it");
        assert_eq!(read(seal(b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn what_could_be_changed_is_not_read() {
        let open = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let file = OwnedFd::from(File::open("/proc/self/stat").unwrap());
        for other in [open, file] {
            assert_eq!(read(other).unwrap_err().to_string(), "it is no sealed memory");
        }
    }

    #[test]
    fn a_file_may_be_as_long_as_its_limit() {
        assert!(!is_too_long(6000, None) && !is_too_long(6000, Some(6000)) && is_too_long(6001, Some(6000)));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        const MOST: usize = 256 << 20;
        assert!(has_room_for(MOST) && !has_room_for(MOST + 1));
        let of = |length| {
            let memory = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
            ftruncate(&memory, length).unwrap();
            fcntl_add_seals(&memory, SEALS).unwrap();
            memory
        };
        assert_eq!(open(of(MOST as u64)).unwrap().1, MOST as u64);
        assert_eq!(read(of(MOST as u64 + 1)).unwrap_err().to_string(), "it is too large");
    }
}
