//! Which program is to take this one's place, how far that has come, and who has asked for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::process::binary::Program;
use crate::process::successor::{Upgraded, Wanted};

/// What cannot be done at this moment is tried again so soon, and for so long. It is tried less often where it is waited for after that.
const SOON: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_millis(500);

/// What whoever has asked is told.
pub(crate) type Answer = Result<Upgraded, String>;

/// At most one program.
#[derive(Debug, Default)]
pub(crate) struct Succession(Option<Wish>);

#[derive(Debug)]
struct Wish {
    wanted: Wanted,
    reply: oneshot::Sender<Answer>,
    stage: Stage,
    /// Since when this stage cannot be done.
    put_off: Option<Instant>,
    next: Instant,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Others are at work: it is looked for, or rehearses.
    Others,
    Act(Act),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// It is to rehearse with what it would be left.
    Rehearse(Arc<Program>),
    /// This process is to become it.
    Become(Arc<Program>),
}

impl Succession {
    /// This is wanted. If another one is under way, whoever has asked is told so.
    pub(crate) fn begin(&mut self, wanted: Wanted, reply: oneshot::Sender<Answer>, now: Instant) -> bool {
        if self.0.is_some() {
            let _ = reply.send(Err("another upgrade is under way".to_owned()));
            return false;
        }
        self.0 = Some(Wish { wanted, reply, stage: Stage::Others, put_off: None, next: now });
        true
    }

    /// It was found: it is to rehearse.
    pub(crate) fn is_found(&mut self, program: Arc<Program>, now: Instant) {
        self.advance(Act::Rehearse(program), now);
    }

    /// It has rehearsed, and could take over. Where it was only to be tried, that is answered.
    pub(crate) fn has_rehearsed(&mut self, program: Arc<Program>, to: String, from: &str, now: Instant) {
        if self.0.as_ref().is_some_and(|wish| wish.wanted.dry_run) {
            self.answer(Ok(Upgraded { from: from.to_owned(), to, rested: Duration::ZERO }));
        } else {
            self.advance(Act::Become(program), now);
        }
    }

    /// It rehearses.
    pub(crate) fn rehearses(&mut self) {
        if let Some(wish) = &mut self.0 {
            (wish.stage, wish.put_off) = (Stage::Others, None);
        }
    }

    fn advance(&mut self, act: Act, now: Instant) {
        if let Some(wish) = &mut self.0 {
            (wish.stage, wish.put_off, wish.next) = (Stage::Act(act), None, now);
        }
    }

    /// What is to be done now, if anything is.
    pub(crate) fn due(&self, now: Instant) -> Option<Act> {
        match self.0.as_ref().filter(|wish| wish.next <= now)? {
            Wish { stage: Stage::Act(act), .. } => Some(act.clone()),
            Wish { stage: Stage::Others, .. } => None,
        }
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.as_ref().filter(|wish| matches!(wish.stage, Stage::Act(_))).map(|wish| wish.next)
    }

    /// It cannot be done now. It is tried again, or answered: at once if what is in its way may last.
    pub(crate) fn put_off(&mut self, reason: &str, may_last: bool, now: Instant) {
        let Some(wish) = &mut self.0 else { return };
        if wish.reply.is_closed() {
            self.0 = None;
            return;
        }
        let since = *wish.put_off.get_or_insert(now);
        let is_young = !may_last && now.saturating_duration_since(since) < PATIENCE;
        if !is_young && let Stage::Act(Act::Become(program)) = &wish.stage {
            // What it has looked at may be gone by then.
            wish.stage = Stage::Act(Act::Rehearse(Arc::clone(program)));
        }
        wish.next = now + if is_young { SOON } else { LATER };
        if !is_young && !wish.wanted.wait {
            self.answer(Err(format!("it cannot be done now: {reason}")));
        }
    }

    /// That is what becomes of it.
    pub(crate) fn answer(&mut self, answer: Answer) {
        if let Some(wish) = self.0.take() {
            // Whoever has asked may be gone.
            let _ = wish.reply.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(wait: bool) -> Wanted {
        Wanted { binary: None, dry_run: false, wait }
    }

    fn program() -> Arc<Program> {
        Arc::new(Program::of(std::fs::File::open("/dev/null").unwrap().into()))
    }

    #[test]
    fn one_is_under_way_at_a_time_and_what_is_to_be_done_follows() {
        let (mut succession, now) = (Succession::default(), Instant::now());
        let (reply, _answer) = oneshot::channel();
        assert!(succession.begin(wanted(false), reply, now));
        let (reply, mut other) = oneshot::channel();
        assert!(!succession.begin(wanted(false), reply, now));
        assert!(other.try_recv().unwrap().is_err());
        assert!(succession.due(now).is_none() && succession.next().is_none());
        succession.is_found(program(), now);
        assert_eq!(succession.next(), Some(now));
        assert!(matches!(succession.due(now), Some(Act::Rehearse(_))));
        succession.rehearses();
        assert!(succession.due(now).is_none());
        succession.has_rehearsed(program(), "2".to_owned(), "1", now);
        assert!(matches!(succession.due(now), Some(Act::Become(_))));
    }

    #[test]
    fn what_lasts_is_answered_at_once_and_what_passes_is_tried_again() {
        let begin = |wait| {
            let (mut succession, now) = (Succession::default(), Instant::now());
            let (reply, answer) = oneshot::channel();
            succession.begin(wanted(wait), reply, now);
            succession.is_found(program(), now);
            (succession, answer, now)
        };
        let (mut succession, mut answer, now) = begin(false);
        succession.put_off("a reload is going on", true, now);
        assert_eq!(answer.try_recv().unwrap(), Err("it cannot be done now: a reload is going on".to_owned()));
        let (mut succession, mut answer, now) = begin(false);
        succession.put_off("a hook runs", false, now);
        assert!(succession.due(now).is_none() && succession.due(now + SOON).is_some());
        assert_eq!(succession.next(), Some(now + SOON));
        succession.put_off("a hook runs", false, now + PATIENCE);
        assert!(answer.try_recv().unwrap().is_err());
        let (mut succession, mut answer, now) = begin(true);
        succession.put_off("a reload is going on", true, now + PATIENCE);
        assert!(answer.try_recv().is_err() && succession.due(now + PATIENCE + LATER).is_some());
        succession.rehearses();
        succession.has_rehearsed(program(), "2".to_owned(), "1", now);
        succession.put_off("a hook runs", false, now);
        assert!(matches!(succession.due(now + SOON), Some(Act::Become(_))));
        succession.put_off("a hook runs", false, now + PATIENCE);
        let later = succession.due(now + PATIENCE + LATER);
        assert!(matches!(later, Some(Act::Rehearse(_))), "what it has looked at may be gone: {later:?}");
        drop(answer);
        succession.put_off("a reload is going on", true, now);
        assert!(succession.next().is_none(), "nobody waits");
    }
}
