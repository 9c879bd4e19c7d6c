//! The token that allows changes: a file that is read again for each request that asks for one, so that another token needs no restart.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::process::geteuid;

/// The longest token, in bytes.
const LONGEST: u64 = 4096;
/// The shortest. It is to be guessed by nobody who may try a few thousand times a second.
const SHORTEST: usize = 16;
/// What others than the owner and the group may do with the file, and the group beside reading it.
const FORBIDDEN: u32 = 0o027;

/// Why a file has no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It cannot be read.
    #[error("the token file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a directory, a pipe or the like.
    #[error("the token file {} is no file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Another user owns it.
    #[error("the token file {} belongs to user {owner}: it must be this user's, or root's", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
    },
    /// Others may read or change it.
    #[error(
        "the token file {} has mode {mode:03o}: its owner alone may write it, and its group at most read it (chmod 600)",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is in it is too short or too long, or is no text that fits a header.
    #[error(
        "the token file {} must hold one line of {SHORTEST} to {LONGEST} visible characters, such as `openssl rand -hex 32` writes",
        path.display()
    )]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the token that a file holds now. Nothing that is at the path can hold this up.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TokenError> {
    let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: OwnedFd = openat(CWD, path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    check(path, &fstat(&file).map_err(|error| unreadable(error.into()))?)?;
    let mut bytes = Vec::new();
    File::from(file).take(LONGEST + 2).read_to_end(&mut bytes).map_err(unreadable)?;
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.pop();
    }
    let fits = (SHORTEST..=usize::try_from(LONGEST).unwrap_or(SHORTEST)).contains(&bytes.len());
    if fits && bytes.iter().all(u8::is_ascii_graphic) {
        Ok(bytes)
    } else {
        Err(TokenError::NoToken { path: path.to_owned() })
    }
}

fn check(path: &Path, about: &Stat) -> Result<(), TokenError> {
    let path = path.to_owned();
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(TokenError::NotAFile { path });
    }
    if about.st_uid != 0 && about.st_uid != geteuid().as_raw() {
        return Err(TokenError::Foreign { path, owner: about.st_uid });
    }
    let mode = about.st_mode & 0o777;
    if mode & FORBIDDEN == 0 { Ok(()) } else { Err(TokenError::Open { path, mode }) }
}

/// Whether this is what stands in `Authorization` for the token. How long it takes does not depend on how much of it is right.
pub(super) fn is_said(authorization: &[u8], token: &[u8]) -> bool {
    const SCHEME: &[u8] = b"bearer ";
    let Some((scheme, said)) = authorization.split_at_checked(SCHEME.len()) else { return false };
    scheme.eq_ignore_ascii_case(SCHEME) && are_equal(said.trim_ascii(), token)
}

/// Compares all bytes, whatever the first ones are. Lengths are no secret.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    one.len() == other.len() && differs == 0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn file(directory: &Path, text: &str, mode: u32) -> PathBuf {
        let path = directory.join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_token_is_a_line_that_few_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        for mode in [0o400, 0o600, 0o440, 0o640] {
            assert_eq!(read(&file(directory, &format!("{TOKEN}\n"), mode)).unwrap(), TOKEN.as_bytes());
            fs::remove_file(directory.join("token")).unwrap();
        }
        for mode in [0o644, 0o604, 0o620, 0o601, 0o777] {
            let error = read(&file(directory, TOKEN, mode)).unwrap_err();
            assert!(matches!(error, TokenError::Open { mode: told, .. } if told == mode), "{error}");
        }
        for text in ["", "short", "0123456789 abcdef", &"x".repeat(4097), "0123456789abcdé"] {
            let error = read(&file(directory, text, 0o600)).unwrap_err();
            assert!(matches!(error, TokenError::NoToken { .. }), "{text}: {error}");
        }
        assert_eq!(read(&file(directory, &"x".repeat(4096), 0o600)).unwrap().len(), 4096);
    }

    #[test]
    fn a_token_is_this_user_s_or_root_s() {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path(), TOKEN, 0o600);
        let mut about = rustix::fs::stat(&path).unwrap();
        check(&path, &about).unwrap();
        about.st_uid = 0;
        check(&path, &about).unwrap();
        about.st_uid = geteuid().as_raw() + 1;
        let error = check(&path, &about).unwrap_err();
        assert!(matches!(error, TokenError::Foreign { owner, .. } if owner == about.st_uid), "{error}");
    }

    #[test]
    fn every_byte_of_a_token_counts() {
        let token = TOKEN.as_bytes();
        for place in 0..token.len() {
            let mut other = token.to_vec();
            other[place] ^= 1;
            assert!(!are_equal(&other, token) && !are_equal(&token[..place], token), "{place}");
        }
        assert!(are_equal(token, token));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(read(directory.path()), Err(TokenError::NotAFile { .. })));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(read(&pipe), Err(TokenError::NotAFile { .. })));
        assert!(matches!(read(&directory.path().join("none")), Err(TokenError::Unreadable { .. })));
    }

    #[test]
    fn the_token_is_said_in_one_way() {
        let token = TOKEN.as_bytes();
        assert!(is_said(format!("Bearer {TOKEN}").as_bytes(), token));
        assert!(is_said(format!("bearer  {TOKEN} ").as_bytes(), token));
        for wrong in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            format!("Basic {TOKEN}"),
            TOKEN.to_owned(),
            format!("Bearer {TOKEN}0"),
            format!("Bearer {}", &TOKEN[1..]),
            format!("Bearer X{}", &TOKEN[1..]),
        ] {
            assert!(!is_said(wrong.as_bytes(), token), "{wrong}");
        }
    }
}
