//! How far a worker has come: its first word, a server that listens, its checks, and that it is ready.

use recluster_wire::notify::Word;
use serde::{Deserialize, Serialize};

use crate::config::ready::ReadyWhen;
use crate::process::health_check::{self, Checking, Checks};
use crate::upgrade::SaveError;

/// What was seen of a worker so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Its first word.
    pub(crate) online: bool,
    /// A server that listens.
    pub(crate) listening: bool,
    /// Whatever makes it ready.
    pub(crate) ready: bool,
}

/// A worker's way to readiness.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    seen: Seen,
    /// It drains. It is not made ready any more, and need not pass checks.
    is_leaving: bool,
    check: Option<Checking>,
    /// Why its check did not pass the last time, before it ever did.
    check_failure: Option<String>,
}

/// A way that another program goes on with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    seen: Seen,
    is_leaving: bool,
    check: Option<health_check::Left>,
    check_failure: Option<String>,
}

impl Left {
    /// Goes on with it, and with these checks if they are started.
    pub(crate) fn adopt(self) -> (Readiness, Option<health_check::Left>) {
        let Self { seen, is_leaving, check, check_failure } = self;
        (Readiness { seen, is_leaving, check: None, check_failure }, check)
    }
}

/// What follows when a worker did what may make it ready.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing: something else makes it ready, or it is ready, or on its way.
    Nothing,
    /// It is ready.
    Ready,
    /// It is ready when it passes these checks, which are to begin.
    Check(Checks),
}

impl Readiness {
    /// Leaves it to another program.
    pub(crate) fn save(&self) -> Result<Left, SaveError> {
        Ok(Left {
            seen: self.seen,
            is_leaving: self.is_leaving,
            check: self.check.as_ref().map(Checking::save).transpose()?,
            check_failure: self.check_failure.clone(),
        })
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    pub(crate) fn check_failure(&self) -> Option<&str> {
        self.check_failure.as_deref()
    }

    /// It said its first word; false where it had before.
    pub(crate) fn said_first_word(&mut self) -> bool {
        !std::mem::replace(&mut self.seen.online, true)
    }

    /// A server of it listens.
    pub(crate) fn listens(&mut self) {
        self.seen.listening = true;
    }

    /// It has closed all its servers; false where it drains, and so is expected to.
    pub(crate) fn listens_no_more(&mut self) -> bool {
        self.seen.listening = false;
        !self.is_leaving
    }

    /// What made it ready, or was about to, is undone.
    pub(crate) fn begins_again(&mut self) {
        self.seen.ready = false;
        self.check = None;
    }

    /// It did this. Where there are checks, they decide whether it is ready.
    pub(crate) fn did(&self, what: ReadyWhen, awaited: ReadyWhen, checks: Option<&Checks>) -> Next {
        let is_on_its_way = self.seen.ready || self.is_leaving || self.check.is_some();
        match checks {
            _ if what != awaited || is_on_its_way => Next::Nothing,
            Some(checks) => Next::Check(checks.clone()),
            None => Next::Ready,
        }
    }

    /// Its checks have begun.
    pub(crate) fn is_checked_by(&mut self, checks: Checking) {
        self.check = Some(checks);
    }

    /// Its check did not pass.
    pub(crate) fn check_failed(&mut self, reason: String) {
        self.check_failure = Some(reason);
    }

    /// It is ready; false where it was before, or is leaving.
    pub(crate) fn becomes_ready(&mut self) -> bool {
        if self.is_leaving || std::mem::replace(&mut self.seen.ready, true) {
            return false;
        }
        self.check_failure = None;
        true
    }

    /// It drains from now on.
    pub(crate) fn leaves(&mut self) {
        self.is_leaving = true;
        self.check = None;
    }

    /// Its process has ended.
    pub(crate) fn ends(&mut self) {
        self.check = None;
    }
}

/// What a worker says that it does, after one more word by `sd_notify`.
pub(crate) fn status_after(status: Option<String>, word: &Word) -> Option<String> {
    const RELOADING: &str = "reloading";
    match word {
        Word::Ready => status.filter(|status| status != RELOADING),
        Word::Status(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Word::Reloading => Some(RELOADING.to_owned()),
        Word::Stopping
        | Word::WatchdogBeat
        | Word::WatchdogTrigger
        | Word::WatchdogTimeout(_)
        | Word::FdStore
        | Word::Monotonic(_)
        | Word::FdStoreRemove
        | Word::Barrier
        | Word::MainPid(_)
        | Word::Errno(_)
        | Word::ExtendTimeout(_) => status,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::ready::ReadyCheck;

    fn checks() -> Checks {
        let second = Duration::from_secs(1);
        Checks { check: ReadyCheck::Command("true".to_owned()), every: second, timeout: second }
    }

    #[test]
    fn what_is_awaited_makes_it_ready_and_nothing_else() {
        let readiness = Readiness::default();
        let did = |what| readiness.did(what, ReadyWhen::Listening, None);
        assert!(matches!(did(ReadyWhen::Started), Next::Nothing));
        assert!(matches!(did(ReadyWhen::Ready), Next::Nothing));
        assert!(matches!(did(ReadyWhen::Listening), Next::Ready));
    }

    #[test]
    fn it_is_ready_once() {
        let mut readiness = Readiness::default();
        assert!(readiness.said_first_word() && !readiness.said_first_word());
        readiness.listens();
        assert!(readiness.becomes_ready() && !readiness.becomes_ready());
        assert_eq!(readiness.seen(), Seen { online: true, listening: true, ready: true });
        assert!(matches!(readiness.did(ReadyWhen::Ready, ReadyWhen::Ready, None), Next::Nothing));
    }

    #[test]
    fn one_that_listens_no_more_begins_again() {
        let mut readiness = Readiness::default();
        readiness.listens();
        assert!(readiness.becomes_ready() && readiness.listens_no_more());
        readiness.begins_again();
        assert_eq!(readiness.seen(), Seen::default());
        let did = readiness.did(ReadyWhen::Listening, ReadyWhen::Listening, None);
        assert!(matches!(did, Next::Ready));
        readiness.leaves();
        assert!(!readiness.listens_no_more(), "it is expected to");
    }

    #[test]
    fn a_leaving_worker_is_not_made_ready() {
        let mut readiness = Readiness::default();
        assert!(!readiness.is_leaving());
        readiness.leaves();
        assert!(readiness.is_leaving());
        assert!(matches!(readiness.did(ReadyWhen::Ready, ReadyWhen::Ready, None), Next::Nothing));
        assert!(!readiness.becomes_ready(), "a check that passes too late counts no more");
        assert!(!readiness.seen().ready);
    }

    #[tokio::test]
    async fn checks_decide_where_there_are_any() {
        let mut readiness = Readiness::default();
        let checks = checks();
        let did =
            |readiness: &Readiness| readiness.did(ReadyWhen::Started, ReadyWhen::Started, Some(&checks));
        assert!(matches!(did(&readiness), Next::Check(_)));
        readiness.is_checked_by(Checking::of(checks.clone(), tokio::spawn(std::future::pending())));
        assert!(matches!(did(&readiness), Next::Nothing), "they have begun");
        readiness.check_failed("answered 500".to_owned());
        assert_eq!(readiness.check_failure(), Some("answered 500"));
        assert!(!readiness.seen().ready);
        assert!(readiness.becomes_ready());
        assert_eq!(readiness.check_failure(), None);
    }

    /// Says when it is dropped.
    struct Bell(Option<tokio::sync::oneshot::Sender<()>>);

    impl Drop for Bell {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }

    #[tokio::test]
    async fn checks_end_with_the_worker_or_its_leaving() {
        for end in [Readiness::leaves, Readiness::ends, |readiness: &mut Readiness| {
            drop(std::mem::take(readiness));
        }] {
            let (ring, heard) = tokio::sync::oneshot::channel();
            let bell = Bell(Some(ring));
            let mut readiness = Readiness::default();
            let rings = async move {
                let _bell = bell;
                std::future::pending::<()>().await;
            };
            readiness.is_checked_by(Checking::of(checks(), tokio::spawn(rings)));
            end(&mut readiness);
            heard.await.unwrap();
        }
    }

    #[test]
    fn the_status_is_what_it_said_last() {
        let said = |text: &str| Word::Status(text.to_owned());
        let after = |words: &[Word]| words.iter().fold(None, status_after);
        assert_eq!(after(&[said("warms up"), Word::WatchdogBeat]).as_deref(), Some("warms up"));
        assert_eq!(after(&[said("warms up"), said("")]), None);
        assert_eq!(after(&[Word::Reloading]).as_deref(), Some("reloading"));
        assert_eq!(after(&[Word::Reloading, Word::Ready]), None);
        assert_eq!(after(&[said("busy"), Word::Ready]).as_deref(), Some("busy"));
    }
}
