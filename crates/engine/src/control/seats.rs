//! Those who are connected, to the control socket or the admin listener: a few. Who comes when all seats are taken has the one of whoever
//! was there longest for nothing. A client whose request has come is not one of these, also if nobody has had the time to read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::task::{AbortHandle, JoinSet, yield_now};

use crate::socket::glance::Glance;

/// How many connections there may be at once.
pub(super) const SEATS: usize = 128;
/// How many clients should come in one turn: many that wait to be let in must not take all seats before the first is heard.
pub(crate) const AT_ONCE: usize = 8;

/// For how many turns of all others the next client waits to be let in while nobody can give way: as a rule one is enough to read what those
/// who came last have asked, and another to answer it.
const TURNS: usize = 64;

/// What a client does at the moment. Those that do the first two give way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Doing {
    /// It has asked for nothing, or for something that is not read yet.
    Nothing,
    /// It has sent a part of a request, or what nobody wants to hear; or it does not read what it follows.
    Stalled,
    /// It has an answer that it may not have read yet. Some let these give way later.
    Reading,
    /// Its answer is on its way. It does not give way.
    Waiting,
}

/// What a client does, for itself and for its seat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<AtomicU8>);

impl Activity {
    pub(crate) fn is(&self, doing: Doing) {
        self.0.store(doing as u8, Ordering::Relaxed);
    }

    /// A part of a request has come, or what nobody wants to hear: that is nothing new of one that waits for an answer.
    pub(crate) fn stalls(&self) {
        let unless_it_waits = |doing| (doing != Doing::Waiting as u8).then_some(Doing::Stalled as u8);
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, unless_it_waits);
    }

    fn was(&self, doing: Doing) -> bool {
        self.0.load(Ordering::Relaxed) == doing as u8
    }
}

/// The seats that are taken.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    pub(crate) tasks: JoinSet<()>,
    /// In the order in which they came.
    taken: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    task: AbortHandle,
    activity: Activity,
    glance: Glance,
}

impl Seat {
    /// Whether the client loses nothing by it that it has asked for and has not been sent.
    fn can_give_way(&self) -> bool {
        let does = |doing| self.activity.was(doing);
        does(Doing::Stalled) || does(Doing::Reading) || (does(Doing::Nothing) && !self.glance.unread())
    }
}

impl Seats {
    /// Gives those who are there some turns, while all seats are taken and the next client would be sent away, or take the seat of one that
    /// has asked.
    pub(crate) async fn hear(&mut self) {
        for _ in 0..TURNS {
            if self.are_free() || self.taken.iter().any(Seat::can_give_way) {
                return;
            }
            yield_now().await;
        }
    }

    /// Whether there are seats that nobody has.
    fn are_free(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.taken.retain(|seat| !seat.task.is_finished());
        self.taken.len() < SEATS
    }

    /// Makes room for one more, if anybody can give way.
    pub(crate) fn have_room(&mut self) -> bool {
        if self.are_free() {
            return true;
        }
        let asks_for_nothing = |seat: &Seat| {
            seat.activity.was(Doing::Stalled) || (seat.activity.was(Doing::Nothing) && seat.glance.closes())
        };
        let does = |doing| self.taken.iter().position(|seat| seat.activity.was(doing));
        let goes = self.taken.iter().position(asks_for_nothing);
        // All have asked for something: the oldest of those who are not read yet goes, and never one that waits for its answer.
        let Some(goes) = goes.or_else(|| does(Doing::Reading)).or_else(|| does(Doing::Nothing)) else {
            return false;
        };
        self.taken.remove(goes).task.abort();
        true
    }

    pub(crate) fn take(
        &mut self,
        activity: Activity,
        glance: Glance,
        client: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(client);
        self.taken.push(Seat { task, activity, glance });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::os::unix::net::UnixStream as StdUnixStream;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;
    use crate::socket::glance::Watched;

    /// A client that has come, does this, and stays.
    fn comes(seats: &mut Seats, doing: Doing) -> (Activity, StdUnixStream) {
        let (here, there) = StdUnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        there.set_nonblocking(true).unwrap();
        let (watched, glance) = Watched::new(UnixStream::from_std(here).unwrap());
        let activity = Activity::default();
        activity.is(doing);
        seats.take(activity.clone(), glance, async move {
            let _open = watched;
            std::future::pending::<()>().await;
        });
        (activity, there)
    }

    /// All seats, taken by clients that do this.
    fn full(doing: Doing) -> (Seats, Vec<(Activity, StdUnixStream)>) {
        let mut seats = Seats::default();
        let mut clients = Vec::new();
        for _ in 0..SEATS {
            assert!(seats.have_room());
            clients.push(comes(&mut seats, doing));
        }
        (seats, clients)
    }

    /// Whether the master has hung up.
    fn is_closed(mut client: &StdUnixStream) -> bool {
        match client.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    #[tokio::test]
    async fn who_waits_for_an_answer_keeps_the_seat() {
        let (mut seats, clients) = full(Doing::Waiting);
        assert!(!seats.have_room());
        clients[1].0.is(Doing::Reading);
        clients[2].0.is(Doing::Nothing);
        assert!(seats.have_room());
        let _waits = comes(&mut seats, Doing::Waiting);
        assert!(seats.have_room(), "then the one that does not read");
        assert!(seats.have_room(), "it has gone");
        let _waits = comes(&mut seats, Doing::Waiting);
        assert!(!seats.have_room());
    }

    /// However many have come and gone, and whatever they did.
    #[tokio::test]
    async fn who_has_left_has_no_seat() {
        let mut seats = Seats::default();
        for _ in 0..3 * SEATS {
            assert!(seats.have_room());
            let (activity, glance) = (Activity::default(), Watched::new(UnixStream::pair().unwrap().0).1);
            activity.is(Doing::Waiting);
            seats.take(activity, glance, std::future::ready(()));
            yield_now().await;
        }
    }

    /// A client whose request is read when its turn comes, and answered in the turn after that.
    fn asks(seats: &mut Seats) -> StdUnixStream {
        let (here, mut there) = StdUnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let (mut watched, glance) = Watched::new(UnixStream::from_std(here).unwrap());
        let activity = Activity::default();
        there.write_all(b"?").unwrap();
        seats.take(activity.clone(), glance, async move {
            watched.read_exact(&mut [0]).await.unwrap();
            activity.is(Doing::Waiting);
            yield_now().await;
            watched.write_all(b"!").await.unwrap();
        });
        there
    }

    #[tokio::test]
    async fn more_than_there_are_seats_who_ask_at_once_are_all_answered() {
        let mut seats = Seats::default();
        let mut clients = Vec::new();
        for _ in 0..3 * SEATS {
            seats.hear().await;
            assert!(seats.have_room());
            clients.push(asks(&mut seats));
        }
        while seats.tasks.join_next().await.is_some() {}
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "!");
        }
    }

    #[tokio::test]
    async fn nobody_is_waited_for_without_end() {
        let (mut seats, _clients) = full(Doing::Waiting);
        seats.hear().await;
        assert!(!seats.have_room());
    }

    #[tokio::test]
    async fn who_has_asked_keeps_the_seat_though_nobody_has_read_it_yet() {
        let (mut seats, mut clients) = full(Doing::Nothing);
        let (asked, silent) = clients.split_at_mut(SEATS - 2);
        for (_, client) in &mut *asked {
            client.write_all(b"a request").unwrap();
        }
        for (_, client) in &mut *silent {
            assert!(seats.have_room());
            assert!(client.write_all(b"a request").is_err(), "it is told that it was not heard");
            let _silent_as_well = comes(&mut seats, Doing::Waiting);
        }
        asked[5].0.is(Doing::Stalled);
        asked[7].0.is(Doing::Reading);
        for gone in [5, 7, 0, 1] {
            assert!(seats.have_room());
            while !is_closed(&asked[gone].1) {
                yield_now().await;
            }
            let _waits = comes(&mut seats, Doing::Waiting);
        }
    }
}
