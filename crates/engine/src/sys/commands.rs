//! What is done in the process of a command between `fork` and `exec`.

use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_uint};
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;

use rustix::fs::Mode;
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal, setrlimit, umask,
};
use rustix::thread::{
    Gid, Uid, clear_ambient_capability_set, set_thread_gid, set_thread_groups, set_thread_uid,
};

/// Has the kernel send TERM to the command's process when the thread that starts it ends, which is at the latest when
/// the master's process does.
pub(crate) fn term_when_parent_dies(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are three plain
    // system calls, and nothing is allocated: an error is made from a number.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            if getppid() == Some(parent) {
                Ok(())
            } else {
                // The master died before the kernel was asked to watch.
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        });
    }
}

/// Has the process begin as this user, with this group, and with these beside it. It keeps none of its starter's: libuv does
/// the same. Before anything else that is to be done in the process, because the kernel forgets its parent-death signal here.
pub(crate) fn become_other(command: &mut Command, uid: Option<u32>, gid: Option<u32>, groups: &[u32]) {
    if uid.is_none() && gid.is_none() {
        return;
    }
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let change = move || {
        match set_thread_groups(&groups) {
            // Who may not do this has no privileges that the groups could be worth.
            Err(_) if groups.is_empty() => {}
            result => result?,
        }
        if let Some(gid) = gid {
            set_thread_gid(Gid::from_raw(valid(gid)?))?;
        }
        if let Some(uid) = uid {
            set_thread_uid(Uid::from_raw(valid(uid)?))?;
        }
        // What a service manager has given a master that is not root would outlive the change. An old kernel has no such set.
        let _ = clear_ambient_capability_set();
        Ok(())
    };
    // SAFETY: it runs in the child between fork and exec, where it makes a few system calls, which are all that the
    // child's one thread needs, and does nothing else: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(change) };
}

/// The highest number stands for no user and no group.
fn valid(id: u32) -> io::Result<u32> {
    if id == u32::MAX { Err(io::Error::from_raw_os_error(libc::EINVAL)) } else { Ok(id) }
}

/// Has the process begin with this umask and these limits.
pub(crate) fn restrain(command: &mut Command, mask: Option<u32>, limits: Vec<(Resource, Rlimit)>) {
    let change = move || {
        if let Some(mask) = mask {
            umask(Mode::from_raw_mode(mask));
        }
        limits.iter().try_for_each(|(resource, limit)| Ok(setrlimit(*resource, *limit)?))
    };
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are plain system calls, and
    // nothing is allocated: a limit is two numbers.
    unsafe { command.pre_exec(change) };
}

/// Whether a process could begin as this command has it. It ends before it runs anything.
pub(crate) fn begins(mut command: Command) -> io::Result<()> {
    let stop = || Err(io::Error::from_raw_os_error(libc::ECANCELED));
    // SAFETY: it makes no call at all, and an error that is a number alone allocates nothing.
    unsafe { command.pre_exec(stop) };
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("the command was run")),
    }
}

/// Gives the command's process this soft limit on open files, as far as the hard one allows.
pub(crate) fn limit_open_files(command: &mut Command, limit: u64) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are two plain system calls,
    // and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
            let current = Some(maximum.map_or(limit, |maximum| limit.min(maximum)));
            Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
        });
    }
}

/// Has the command's process begin with no signal blocked and none ignored: what its starter was started with is not its
/// concern, and would keep it from hearing what it is told.
pub(crate) fn forget_signals(command: &mut Command) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are plain system calls on
    // a set that lives on the stack, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            for signal in 1..=libc::SIGRTMAX() {
                // It fails for those that cannot be ignored either.
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = mem::MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            match libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        });
    }
}

/// How many descriptors are looked at where the kernel does not know how to do it at once (before 5.11).
const DESCRIPTORS: c_int = 4096;

/// Has the command's process keep its standard descriptors and none of those that its starter was itself given to pass on.
pub(crate) fn inherit_nothing(command: &mut Command) {
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are plain system calls on
    // numbers, nothing is allocated, and nothing is closed before the exec: until then std reports errors by a descriptor.
    unsafe {
        command.pre_exec(|| {
            let all = libc::syscall(libc::SYS_close_range, 3, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if all != 0 {
                for fd in 3..DESCRIPTORS {
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
            Ok(())
        });
    }
}

/// Has the command's process keep these descriptors of its starter's under their numbers.
pub(crate) fn pass(command: &mut Command, numbers: Vec<c_int>) {
    let change = move || {
        for number in &numbers {
            // SAFETY: a plain system call on a number; where that is no open descriptor the kernel refuses.
            if unsafe { libc::fcntl(*number, libc::F_SETFD, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made; these are plain system calls, and nothing is
    // allocated: the numbers are there already.
    unsafe { command.pre_exec(change) };
}

/// Room for a process id in digits, and for what ends a text of C.
const PID_ROOM: usize = 12;

/// What a process is to become, laid out in memory before the fork: behind it nothing may be allocated.
struct Image {
    program: CString,
    /// Owns what `argv` and `envp` point into.
    _texts: Vec<CString>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// `NAME=` and room for a number, and where the number begins; for each variable.
    own_pid: Vec<(Box<[u8]>, usize)>,
}

// SAFETY: the pointers lead only to memory that the same value owns on the heap, which does not move with it.
unsafe impl Send for Image {}
// SAFETY: as above; nothing is changed but by the forked process, in its own copy of the memory.
unsafe impl Sync for Image {}

/// Has the command's process be told its own process id by these variables: some protocols prove by it that other
/// variables are meant for this very process and not for one of its ancestors. Only the forked process knows it, so it
/// performs the last step itself, with exactly this program (a path), these arguments (the first is its name) and this
/// environment. To be called when all else about the command is said.
pub(crate) fn exec_knowing_pid<'a>(
    command: &mut Command,
    program: &OsStr,
    words: impl Iterator<Item = &'a OsStr>,
    env: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
    variables: &[&str],
) -> io::Result<()> {
    let words: Vec<CString> = words.map(text_of).collect::<io::Result<_>>()?;
    let pair = |(name, value): (&OsStr, &OsStr)| {
        let mut pair = OsString::from(name);
        pair.push("=");
        pair.push(value);
        CString::new(pair.into_vec()).map_err(io::Error::from)
    };
    let env: Vec<CString> = env.map(pair).collect::<io::Result<_>>()?;
    let room = |variable: &&str| {
        let mut text = format!("{variable}=").into_bytes();
        let digits_at = text.len();
        text.resize(digits_at + PID_ROOM, 0);
        (text.into_boxed_slice(), digits_at)
    };
    let own_pid: Vec<_> = variables.iter().map(room).collect();
    let argv = words.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
    // The first places are filled in at the last moment.
    let unknown = own_pid.iter().map(|_| ptr::null());
    let envp = unknown.chain(env.iter().map(|text| text.as_ptr())).chain([ptr::null()]).collect();
    let texts = words.into_iter().chain(env).collect();
    let mut image = Image { program: text_of(program)?, _texts: texts, argv, envp, own_pid };
    // SAFETY: between fork and exec only calls that are safe in a signal handler may be made: a number is written into
    // memory that is there already, and the process becomes another. Both arrays end in a null pointer, and all they
    // point to is owned by the image, which lives as long as the closure.
    unsafe {
        command.pre_exec(move || {
            let image = &mut image;
            for (place, (text, digits_at)) in image.envp.iter_mut().zip(&mut image.own_pid) {
                let digits = text.get_mut(*digits_at..).unwrap_or_default();
                write!(&mut *digits, "{}", getpid().as_raw_nonzero())?;
                *place = text.as_ptr().cast();
            }
            // Of its kin this is the only one that is safe here: the others look a program up, or run a script that does
            // not say by what by a shell.
            libc::execve(image.program.as_ptr(), image.argv.as_ptr(), image.envp.as_ptr());
            Err(io::Error::last_os_error())
        });
    }
    Ok(())
}

fn text_of(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_its_own_id() {
        let mut command = Command::new("/nowhere");
        command.stdout(std::process::Stdio::piped());
        let args = ["sh", "-c", "echo $WHO $WHO2 $$ $OTHER"].map(OsStr::new);
        let env = [("OTHER", "yes")].map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        exec_knowing_pid(
            &mut command,
            OsStr::new("/bin/sh"),
            args.into_iter(),
            env.into_iter(),
            &["WHO", "WHO2"],
        )
        .unwrap();
        let child = command.spawn().unwrap();
        let id = child.id();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{id} {id} {id} yes\n"));
    }

    #[test]
    fn what_cannot_be_run_is_said() {
        let mut command = Command::new("/bin/sh");
        let none = || std::iter::empty();
        let args = [OsStr::new("x")].into_iter();
        exec_knowing_pid(&mut command, OsStr::new("/nowhere"), args, none(), &[]).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
