//! `top`: a cluster on a screen that changes as it does, and keys to act on it.
//!
//! What is known (`facts`, and what two looks tell: `rates`) and what is chosen (`ui`) make a `scene`, which `view` draws into a
//! buffer. These are pure. The shell is `terminal`, which has the screen and the keys, `link`, which talks to the master, and the loop
//! below.

mod columns;
mod detail;
mod facts;
mod figures;
mod happened;
mod header;
mod link;
mod lists;
mod pen;
mod rates;
mod rows;
mod scene;
mod table;
mod terminal;
mod theme;
mod ui;
mod view;
mod warnings;
mod written;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use self::facts::Facts;
use self::link::News;
use self::scene::{Scene, entries, sorts};
use self::terminal::Screen;
use self::theme::Theme;
use self::ui::{Does, Key, Ui, Wish};
use self::written::Written;
use crate::args::TopArgs;
use crate::client::connect::connect;
use crate::client::screen::Interrupts;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::{Paint, printable};

/// How much may wait to be shown.
const WAITING: usize = 256;
/// How many things may be asked for at once.
const PENDING: usize = 16;
/// How often it is drawn at least: times go on.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows the cluster until whoever looks at it has enough.
pub(crate) async fn top(args: TopArgs) -> Result<ExitStatus, Error> {
    if args.target.json {
        return Err(Error::TopAsJson);
    }
    if !terminal::is_there() {
        return Err(Error::NoTerminal);
    }
    // A cluster that cannot be asked is an error like that of any other command.
    let (_, path) = connect(&args.target).await?;
    let mut interrupts = Interrupts::listen()?;
    let (tell, news) = channel(WAITING);
    let mut shell = Shell::new(path.clone(), tell.clone(), Screen::take().map_err(Error::Terminal)?);
    terminal::read_keys(tell.clone()).map_err(Error::Terminal)?;
    let ended = tokio::select! {
        ended = shell.run(news) => ended,
        () = link::watch(&path, &tell) => Ok(()),
        () = link::follow(&path, &tell) => Ok(()),
        () = interrupts.next() => Ok(()),
    };
    drop(shell);
    match ended {
        Err(error) if !is_gone(&error) => Err(Error::Terminal(error)),
        Ok(()) | Err(_) => Ok(ExitStatus::Success),
    }
}

/// Nobody looks any more: the terminal was closed.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// What is known and chosen.
struct Desk {
    facts: Facts,
    ui: Ui,
    theme: Theme,
}

/// The same, with where it is shown and whom it is about.
struct Shell {
    desk: Desk,
    screen: Screen,
    path: PathBuf,
    tell: Sender<News>,
    /// What was asked for and is not done.
    pending: Vec<Wish>,
    /// What is told of the lines of one slot.
    reading: Option<JoinHandle<()>>,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Goes,
    Ends,
}

impl Desk {
    fn scene(&self, now: Instant) -> Scene<'_> {
        Scene { facts: &self.facts, ui: &self.ui, theme: self.theme, now }
    }
}

impl Shell {
    fn new(path: PathBuf, tell: Sender<News>, screen: Screen) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let theme = Theme { colours: Paint::is_wanted() };
        let facts = Facts::new(name, Instant::now());
        let desk = Desk { facts, ui: Ui::default(), theme };
        Self { desk, screen, path, tell, pending: Vec::new(), reading: None }
    }

    /// Shows what comes in, until somebody has seen enough, or there is no terminal any more.
    async fn run(&mut self, mut news: Receiver<News>) -> io::Result<()> {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.screen.show(&self.desk.scene(Instant::now()))?;
            let mut next = tokio::select! {
                _ = ticks.tick() => None,
                first = news.recv() => first,
            };
            // All that is there is drawn at once.
            while let Some(it) = next {
                if self.take(it)? == Next::Ends {
                    return Ok(());
                }
                next = news.try_recv().ok();
            }
        }
    }

    fn take(&mut self, news: News) -> io::Result<Next> {
        let now = Instant::now();
        match news {
            News::Key(key) => return self.press(key),
            News::Resized => {}
            News::Status(status) => self.desk.facts.look(*status, now),
            News::Lost(reason) => self.desk.facts.lose(reason, now),
            News::EventsBegin => self.desk.facts.begin_events(),
            News::Event(event) => self.desk.facts.hear(&event),
            News::Written { slot, told } => self.desk.facts.read(slot, told),
            News::Outcome { is_good, words, wish } => {
                if let Some(at) = self.pending.iter().position(|pending| *pending == wish) {
                    self.pending.remove(at);
                }
                self.desk.ui.say(is_good, printable(&words), now);
            }
        }
        Ok(Next::Goes)
    }

    fn press(&mut self, key: Key) -> io::Result<Next> {
        let scene = self.desk.scene(Instant::now());
        let rows = scene.rows();
        let (entries, sorts) = (entries(&rows), sorts(&rows));
        match self.desk.ui.press(key, &entries, &sorts, Instant::now()) {
            Does::Nothing => {}
            Does::Ask(wish) => self.ask(wish),
            Does::Redraw => self.screen.clear()?,
            Does::Suspend => self.screen.suspend()?,
            Does::Quit => return Ok(Next::Ends),
        }
        self.read_on();
        Ok(Next::Goes)
    }

    /// Has the lines told of the slot whose lines are looked at, and of no other.
    fn read_on(&mut self) {
        let (looked_at, facts) = (self.desk.ui.looks_at_lines_of(), &mut self.desk.facts);
        if looked_at == facts.written.as_ref().map(|written| written.slot) {
            return;
        }
        if let Some(other) = self.reading.take() {
            other.abort();
        }
        facts.written = looked_at.map(Written::of);
        let (path, tell) = (self.path.clone(), self.tell.clone());
        let read = |slot| tokio::spawn(async move { link::read(&path, slot, &tell).await });
        self.reading = looked_at.map(read);
    }

    /// Asks the master for something, but not for what it is about to do already.
    fn ask(&mut self, wish: Wish) {
        let is_repeated = !matches!(wish, Wish::Scale(_)) && self.pending.contains(&wish);
        if is_repeated || self.pending.len() == PENDING {
            return self.desk.ui.say(
                false,
                "what was asked for before is not done yet".to_owned(),
                Instant::now(),
            );
        }
        self.pending.push(wish);
        self.desk.ui.say(true, wish.to_string(), Instant::now());
        let (path, tell) = (self.path.clone(), self.tell.clone());
        tokio::spawn(async move { link::ask(&path, wish, &tell).await });
    }
}

#[cfg(test)]
mod tests;
