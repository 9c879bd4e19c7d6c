//! What becomes of a panic: it is told, with the place where it was, instead of leaving others to wait for ever for the part that has
//! panicked. A part that nothing can do without ends the cluster; any other ends alone.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::env;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Once, OnceLock};
use std::task::Poll;

use crate::sink::Sink;

/// A part of the master, as people are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Nothing goes on without it.
    pub(crate) is_vital: bool,
}

impl Part {
    /// Without it the cluster ends.
    pub(crate) const fn vital(name: &'static str) -> Self {
        Self { name, is_vital: true }
    }

    /// It ends alone: one client's conversation, a hook, what checks one worker.
    pub(crate) const fn dispensable(name: &'static str) -> Self {
        Self { name, is_vital: false }
    }
}

/// A part has panicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked {
    pub(crate) part: Part,
    /// What it has panicked with.
    pub(crate) reason: String,
    /// Where in the source. It is not known where the program around us has a hook of its own for panics.
    pub(crate) place: Option<String>,
    /// The functions that led there, the innermost first: so many as [`MOST_CALLS`].
    pub(crate) calls: Vec<String>,
}

/// How many calls are told of, and how much of the name of each, in bytes.
const MOST_CALLS: usize = 24;
const MOST_OF_NAME: usize = 160;

/// What a program of tests does where a part is at work: it panics. No other program says such a thing.
static TRIAL: OnceLock<fn(&'static str)> = OnceLock::new();

/// Has this done whenever a part is at work that has a name as people are told of it.
#[doc(hidden)]
pub fn try_parts(trial: fn(&'static str)) {
    // There is one.
    let _ = TRIAL.set(trial);
}

/// This part is at work.
pub(crate) fn at_work(part: Part) {
    if let Some(trial) = TRIAL.get() {
        trial(part.name);
    }
}

thread_local! {
    /// What runs on this thread is guarded.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic was.
    static PLACE: RefCell<Option<(Option<String>, Backtrace)>> = const { RefCell::new(None) };
}

/// Does this, or says that it has panicked. What it has changed by then is as it happens to be.
pub(crate) fn attempt<T>(part: Part, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    note_places();
    let outer = IS_GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    done.map_err(|payload| {
        let (place, calls) = PLACE.take().map_or((None, Vec::new()), |(place, calls)| (place, names(&calls)));
        Panicked { part, reason: reason(&*payload), place, calls }
    })
}

/// As [`attempt`], for what is done by and by. When it says that this has panicked, all that it owned is dropped.
pub(crate) fn attempt_task<T>(
    part: Part,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    // In a box: each time that a future is passed on within another it takes its room once more.
    let mut work = Some(Box::pin(work));
    poll_fn(move |context| {
        let Some(running) = &mut work else { return Poll::Pending };
        let done = match attempt(part, || running.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(done)) => Ok(done),
            Err(panicked) => Err(panicked),
        };
        work = None;
        Poll::Ready(done)
    })
}

/// Does what a thread is for, and reports it if that panics.
pub(crate) fn guarded(part: Part, panicked: &Sink<Panicked>, work: impl FnOnce()) {
    if let Err(panic) = attempt(part, work) {
        panicked.send(panic);
    }
}

/// Does what a task is for, and reports it if that panics.
pub(crate) fn guarded_task(
    part: Part,
    panicked: Sink<Panicked>,
    work: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    let work = attempt_task(part, work);
    async move {
        if let Err(panic) = work.await {
            panicked.send(panic);
        }
    }
}

/// The hook for panics is told where they are, what catches them is not. One that is guarded is told by us: the usual words on stderr
/// would wait for whoever does not read it. They are still written for those who want to see the calls that led there.
fn note_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // On a thread that ends there may be nothing left to look at.
            let is_guarded = IS_GUARDED.try_with(Cell::get).unwrap_or(false);
            if is_guarded {
                note(info);
            }
            if !is_guarded || env::var_os("RUST_BACKTRACE").is_some() {
                usual(info);
            }
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    // By what names these calls go is looked up later, where a stack is not about to overflow.
    let calls = Backtrace::force_capture();
    let _ = PLACE.try_with(|last| last.replace(Some((place, calls))));
}

/// What calls are called, but for those of the panic itself and of whoever guards.
fn names(calls: &Backtrace) -> Vec<String> {
    let text = calls.to_string();
    let numbered = |line: &str| {
        let (number, name) = line.trim_start().split_once(": ")?;
        number.parse::<u32>().ok().map(|_| name.to_owned())
    };
    let all: Vec<String> = text.lines().filter_map(numbered).collect();
    // Whoever catches a panic has such a name as well, further out.
    let is_of_panic = |name: &String| {
        !name.contains("catch_unwind") && (name.contains("panicking::") || name.contains("rust_begin_unwind"))
    };
    let first = all.iter().rposition(is_of_panic).map_or(0, |last| last + 1);
    let inside = all.into_iter().skip(first).take_while(|name| !name.contains("recluster::guard::attempt"));
    let of_rust = ["std::", "core::", "<std::", "<core::", "__rust"];
    let inside = inside.filter(|name| !of_rust.iter().any(|start| name.starts_with(start)));
    inside.take(MOST_CALLS).map(|name| end_of(&name).to_owned()).collect()
}

/// So much of a name as is told. What one implementation does is called the same but for the end.
fn end_of(name: &str) -> &str {
    let cut = name.len().saturating_sub(MOST_OF_NAME);
    (cut..name.len()).find_map(|start| name.get(start..)).unwrap_or_default()
}

fn reason(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it does not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;
    use std::sync::{Arc, mpsc};

    use super::*;

    const PART: Part = Part::vital("the part");

    fn heard() -> (Sink<Panicked>, mpsc::Receiver<Panicked>) {
        let (sender, heard) = mpsc::channel();
        (Sink::new(move |panicked| drop(sender.send(panicked))), heard)
    }

    #[test]
    fn a_panic_is_told_with_what_it_says_and_where_it_was() {
        let (sink, heard) = heard();
        let seven = 7;
        guarded(PART, &sink, || panic!("just so"));
        let line = line!() - 1;
        guarded(PART, &sink, || panic!("because of {seven}"));
        guarded(PART, &sink, || panic_any(seven));
        guarded(PART, &sink, || {});
        drop(sink);
        let told: Vec<_> = heard.iter().collect();
        let reasons: Vec<_> = told.iter().map(|panicked| panicked.reason.as_str()).collect();
        assert_eq!(reasons, ["just so", "because of 7", "it does not say why"]);
        let place = told[0].place.as_deref().unwrap();
        assert!(place.contains(&format!("guard.rs:{line}:")), "{place}");
        assert!(told.iter().all(|panicked| panicked.part == PART));
        let calls = &told[0].calls;
        assert!(calls.iter().any(|call| call.contains("a_panic_is_told")), "{calls:?}");
        assert!(
            calls.len() <= MOST_CALLS && !calls.iter().any(|call| call.contains("panicking")),
            "{calls:?}"
        );
    }

    #[test]
    fn of_a_long_name_the_end_is_told() {
        let short = "<a::Type as b::Trait>::method";
        assert_eq!((end_of(short), end_of("")), (short, ""));
        let long = "ä".repeat(MOST_OF_NAME) + "::method";
        assert_eq!(end_of(&long), "ä".repeat((MOST_OF_NAME - 8) / 2) + "::method");
        // Here a character is where it is cut.
        let odd = long + "s";
        assert_eq!(end_of(&odd), "ä".repeat((MOST_OF_NAME - 9) / 2) + "::methods");
    }

    #[test]
    fn what_is_guarded_may_guard_something_itself_and_its_own_place_is_told() {
        let outer = attempt(PART, || {
            attempt(Part::dispensable("inner"), || panic!("inner")).unwrap_err();
            panic!("outer");
        });
        let line = line!() - 2;
        let Panicked { reason, place, .. } = outer.unwrap_err();
        assert_eq!(reason, "outer");
        assert!(place.unwrap().contains(&format!("guard.rs:{line}:")));
        assert_eq!(attempt(PART, || 7), Ok(7));
    }

    #[tokio::test]
    async fn a_task_that_panics_later_has_dropped_what_it_owned_when_that_is_told() {
        let owned = Arc::new(());
        let seen = Arc::downgrade(&owned);
        let (sink, heard) = heard();
        let sink = Sink::new(move |panicked| {
            assert_eq!(seen.strong_count(), 0);
            sink.send(panicked);
        });
        guarded_task(PART, sink, async move {
            tokio::task::yield_now().await;
            assert_eq!(Arc::strong_count(&owned), 0, "the test has panicked on purpose");
        })
        .await;
        let Panicked { part, reason, .. } = heard.try_recv().unwrap();
        assert_eq!(part, PART);
        assert!(reason.contains("the test has panicked on purpose"), "{reason}");
    }
}
