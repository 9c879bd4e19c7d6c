//! The terminal: its screen is taken, and given back as it was, however the command ends.

use std::io::{self, IsTerminal as _, Stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ratatui_core::terminal::Terminal;
use ratatui_crossterm::CrosstermBackend;
use ratatui_crossterm::crossterm::cursor::{Hide, Show};
use ratatui_crossterm::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui_crossterm::crossterm::execute;
use ratatui_crossterm::crossterm::style::{Attribute, SetAttribute};
use ratatui_crossterm::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{Signal, kill_current_process_group};
use tokio::sync::mpsc::Sender;

use super::link::News;
use super::scene::Scene;
use super::ui::Key;
use super::view::draw;

/// Whether the terminal is as we want it, and has to be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, as long as it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Whether stdout is a terminal on which a cursor can be moved.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Screen {
    /// Takes the terminal: its screen, and every key as it is pressed.
    pub(super) fn take() -> io::Result<Self> {
        restore_at_panic();
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        enter()?;
        Ok(Self { terminal })
    }

    /// Shows the scene. An error means that there is no terminal any more.
    pub(super) fn show(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            return Err(io::Error::other("a panic gave it back"));
        }
        self.terminal.draw(|frame| {
            let area = frame.area();
            draw(frame.buffer_mut(), area, scene);
        })?;
        Ok(())
    }

    /// Forgets what is on the screen, so that all of it is drawn anew.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        // Another way asks the terminal where its cursor is, and would read the answer among the keys.
        let area = self.terminal.size()?.into();
        self.terminal.resize(area)
    }

    /// Gives the terminal back, has this process stop until it is told to go on, and takes it again.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        restore();
        // As the terminal would, were it told: the whole job stops, if its shell is there to have it go on.
        kill_current_process_group(Signal::TSTP)?;
        enter()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Where that fails half-way, the terminal is given back.
fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    let entered = enable_raw_mode().and_then(|()| execute!(io::stdout(), EnterAlternateScreen, Hide));
    if entered.is_err() {
        restore();
    }
    entered
}

/// Gives the terminal back, once.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs none of this.
        let _ = execute!(io::stdout(), SetAttribute(Attribute::Reset), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// A panic is told on the screen of before.
fn restore_at_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        restore();
        before(info);
    }));
}

/// Reads keys, in a thread of its own that ends with the process.
pub(super) fn read_keys(tell: Sender<News>) -> io::Result<()> {
    let read = move || {
        while let Ok(event) = event::read() {
            let Some(news) = news(&event) else { continue };
            if tell.blocking_send(news).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(read)?;
    Ok(())
}

fn news(event: &Event) -> Option<News> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(News::Key(pressed(*key))),
        Event::Resize(..) => Some(News::Resized),
        Event::Key(_) | Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_) => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "there are many keys, and few do anything")]
fn pressed(KeyEvent { code, modifiers, .. }: KeyEvent) -> Key {
    let with_control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Char('c') if with_control => Key::Interrupt,
        KeyCode::Char('z') if with_control => Key::Suspend,
        KeyCode::Char('l') if with_control => Key::Redraw,
        KeyCode::Char(_) if with_control || modifiers.contains(KeyModifiers::ALT) => Key::Other,
        KeyCode::Char(char) => Key::Char(char),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, Stdio};

    use super::*;

    /// The test runs itself in a terminal of its own, where it panics.
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        const HERE: &str = "RECLUSTER_TEST_PANIC_ON_A_SCREEN";
        if env::var_os(HERE).is_some() {
            let _screen = Screen::take().unwrap();
            panic!("out of order");
        }
        let test = "top::terminal::tests::a_panic_gives_the_terminal_back_before_it_is_told";
        let line = format!("stty -g; \"$TEST\" --exact {test} --nocapture; stty -g");
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TEST", env::current_exe().unwrap()).env(HERE, "1");
        let output = match script.stdin(Stdio::null()).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("skipped: script is not installed");
                return;
            }
            output => output.unwrap(),
        };
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = |part: &str| shown.find(part).unwrap_or_else(|| panic!("{part:?} is not in {shown:?}"));
        let order = ["\u{1b}[?1049h", "\u{1b}[?25l", "\u{1b}[?25h", "\u{1b}[?1049l", "out of order"].map(at);
        assert!(order.is_sorted(), "{shown:?}");
        let mut lines = shown.lines();
        assert_eq!(lines.next(), lines.next_back(), "the terminal is as it was: {shown:?}");
    }
}
