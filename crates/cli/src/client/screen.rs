//! A terminal: its size, and a screen of its own for what changes all the time.

use std::io;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::print;
use crate::error::Error;

/// Takes the alternate screen, whose contents go when it is left, and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Shows the cursor, and gives back the screen as it was.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the top left.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line.
const REST_OF_LINE: &str = "\x1b[K";
/// Clears what is below.
const BELOW: &str = "\x1b[J";

/// How many characters and lines a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// The size of the terminal that stdout is, if it is one and tells.
pub(super) fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)?;
    Some(Size { width: size.ws_col.into(), height: size.ws_row.into() })
}

/// The alternate screen, until this is dropped.
#[derive(Debug)]
pub(super) struct Alternate(());

impl Alternate {
    pub(super) fn enter() -> Result<Self, Error> {
        leave_at_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        let entered = print(ENTER);
        if entered.is_err() {
            IS_TAKEN.store(false, Ordering::SeqCst);
        }
        entered.map(|_| Self(()))
    }
}

impl Drop for Alternate {
    fn drop(&mut self) {
        leave();
    }
}

/// Whether the alternate screen is there, and has to be left.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Leaves it, once.
fn leave() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs none of this.
        let _ = print(LEAVE);
    }
}

/// A panic is told on the screen of before.
fn leave_at_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        leave();
        before(info);
    }));
}

/// What replaces the last text: every line clears what was behind it. Lines for which there is no room are counted.
pub(super) fn picture(text: &str, height: Option<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = height.unwrap_or(usize::MAX).max(2);
    let shown = if lines.len() <= room { lines.len() } else { room - 1 };
    let rest = (shown < lines.len()).then(|| format!("({} more lines)", lines.len() - shown));
    let lines = lines.into_iter().take(shown).map(str::to_owned).chain(rest);
    let lines: Vec<String> = lines.map(|line| line + REST_OF_LINE).collect();
    // Behind the last line there is no line feed, which would scroll.
    format!("{HOME}{}{BELOW}", lines.join("\r\n"))
}

/// The signals that end a command at a terminal.
pub(crate) struct Interrupts([Signal; 4]);

impl Interrupts {
    pub(crate) fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        let kinds =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let [interrupt, terminate, hangup, quit] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?, quit?]))
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    /// The test runs itself where its stdout and stderr are one, and panics there.
    #[test]
    fn a_panic_is_told_on_the_screen_of_before() {
        const HERE: &str = "RECLUSTER_TEST_PANIC_BESIDE_A_SCREEN";
        if env::var_os(HERE).is_some() {
            let _screen = Alternate::enter().unwrap();
            panic!("out of order");
        }
        let test = "client::screen::tests::a_panic_is_told_on_the_screen_of_before";
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec \"$TEST\" --exact {test} --nocapture 2>&1")]);
        let output = shell.env("TEST", env::current_exe().unwrap()).env(HERE, "1").output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = |part: &str| shown.find(part).unwrap_or_else(|| panic!("{part:?} is not in {shown:?}"));
        assert!([ENTER, LEAVE, "out of order"].map(at).is_sorted(), "{shown:?}");
        assert_eq!(shown.matches(LEAVE).count(), 1, "{shown:?}");
    }

    #[test]
    fn a_picture_replaces_the_one_before_and_does_not_scroll() {
        assert_eq!(picture("a\nb\n", Some(2)), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(
            picture("a\nb\nc\nd\n", Some(3)),
            "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n(2 more lines)\x1b[K\x1b[J"
        );
        assert_eq!(picture("a\nb\n", None), picture("a\nb\n", Some(9)));
    }
}
