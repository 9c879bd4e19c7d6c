//! Answering on the control socket. One task accepts clients. Each client has a task of its own, which holds only a handle
//! to the cluster: when it ends, the cluster goes on.

mod following;
mod saying;
mod upgrading;

use std::io::{self, Cursor, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, Chain};
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{sleep, timeout};

use super::asked::Asked;
use super::keeping::{Held, Keeping, Kept};
use super::leaving::{self, Clients, Doing as Stands, Leaver, Left, LeftClient, Listening, Present, Shown};
use super::lines::{Line, Lines};
use super::protocol::{BadRequest, Progress, REPLY_LIMIT, REQUEST_LIMIT, Reply, Request};
use super::recent::{Recent, Recorder, record};
use super::room::Room;
use super::seats::{AT_ONCE, Activity, Doing, Seats};
use super::socket::Socket;
use crate::api::cluster::Cluster;
use crate::config::scale::Scale;
use crate::config::variable::Variables;
use crate::config::which::Which;
use crate::guard::{Part, guarded_task};
use crate::report::configuration::Configuration;
use crate::report::error::{Gone, ReplaceError};
use crate::report::events::Heard;
use crate::report::verdict::{Told, Verdict};
use crate::socket::glance::{Glance, Watched};
use crate::socket::runtime_dir;

/// How long a client may take to send one whole request.
const IDLE: Duration = Duration::from_secs(60);
/// How long clients may take to read their last answer when the master ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// The pause after a failed accept: the machine is short of something, and trying again at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What people are told has panicked: the whole service, or one client's part of it.
const PART: Part = Part::vital("the control socket");
const CLIENT: Part = Part::dispensable("a conversation on the control socket");
/// What one client too many is told.
const TOO_MANY: &str = "too many clients wait at once";
/// How many requests may wait for [`Server::asked`]. It is for the log; requests are answered without it.
const ASKED: usize = 64;

/// A control socket on which requests are answered, until this is dropped. [`Server::close`] ends it in order.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    keeping: Keeping,
    held: Held,
    asked: mpsc::Receiver<News>,
    recent: Recent,
    leaver: Leaver,
    /// The tasks of clients end when this becomes true, or when it is dropped.
    closing: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// What happens at a control socket.
#[derive(Debug)]
#[non_exhaustive]
pub enum News {
    /// A client asks for something.
    Asked(Asked),
    /// Something has become of its path. It is bound anew where its file was removed.
    Kept(Kept),
}

impl Socket {
    /// Answers clients about this cluster, in a task of its own. Must be called in a tokio runtime with IO and time
    /// enabled.
    pub fn serve(self, cluster: Cluster) -> Server {
        let Self { listener, file, left } = self;
        // The program before is not gone back to any more.
        file.keep();
        let (recent, left) = match left {
            Some(Left { recent, clients, outcome }) => (Recent::adopt(recent), Some((clients, outcome))),
            None => (Recent::default(), None),
        };
        let (closing, closed) = watch::channel(false);
        let (tell, asked) = mpsc::channel(ASKED);
        let closed = Closed(closed);
        let panicked = cluster.panicked();
        let recording = record(cluster.subscribe(), recent.clone(), closed.clone().ends());
        tokio::spawn(guarded_task(PART, panicked.clone(), recording));
        let path = file.path().to_owned();
        let (new, listeners) = mpsc::channel(1);
        let (keeping, held, keeper) = Keeping::of(file, Socket::again(path.clone()), new);
        let keeping_it = while_open(closed.clone(), keeper.run());
        tokio::spawn(guarded_task(PART, panicked.clone(), keeping_it));
        let clients = Clients::default();
        let listening: Listening = Arc::new(Mutex::new(Arc::new(listener)));
        let leaver = Leaver {
            listener: Arc::clone(&listening),
            file: held.file(),
            clients: clients.clone(),
            recent: recent.clone(),
        };
        let host = Host { cluster, closed, tell, room: Room::default(), recent: recent.clone(), clients };
        let mut seats = Seats::default();
        let (left, outcome) = left.unwrap_or_else(|| (Vec::new(), Err(String::new())));
        for LeftClient { connection, unread, unsent, closes, doing } in left {
            // One that cannot be gone on with is gone.
            let Ok(stream) = leaving::stream(connection) else { continue };
            let Ok(peer) = stream.peer_cred() else { continue };
            let (conversation, activity, glance) = meet(stream, peer, unread, &host);
            let going_on = conversation.go_on((unsent, closes), doing, outcome.clone());
            seats.take(activity, glance, guarded_task(CLIENT, panicked.clone(), going_on));
        }
        let accepting = accept(listening, listeners, host, seats);
        let accepting = tokio::spawn(guarded_task(PART, panicked, accepting));
        Server { path, keeping, held, asked, recent, leaver, closing, accepting }
    }
}

impl Server {
    /// What happens next, for a log; what is not read in time is dropped. `None` when the server has ended.
    pub async fn told(&mut self) -> Option<News> {
        tokio::select! {
            news = self.asked.recv() => news,
            Some(kept) = self.keeping.told() => Some(News::Kept(kept)),
        }
    }

    /// By which those who ask for events are told of more than the cluster's own.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.recent.clone())
    }

    /// By which it is left to another program that takes this one's place.
    pub fn leaver(&self) -> Leaver {
        self.leaver.clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has its path looked at now, which happens now and then in any case.
    pub fn look(&self) {
        self.keeping.look();
    }

    /// Removes the socket, then gives clients a moment to read their last answer. A client that waits for the end of
    /// the cluster sees its connection close now: the name is free.
    pub async fn close(self) {
        let Self { held, closing, accepting, .. } = self;
        drop(held);
        drop(closing);
        // The task can only have panicked, and then there is no client left to wait for.
        let _ = accepting.await;
    }
}

/// Tells a task that it must end.
#[derive(Clone)]
struct Closed(watch::Receiver<bool>);

impl Closed {
    async fn ends(mut self) {
        self.wait().await;
    }

    async fn wait(&mut self) {
        // An error means that the sender was dropped: the server closes.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// What every client's task needs of the master.
#[derive(Clone)]
struct Host {
    cluster: Cluster,
    closed: Closed,
    tell: mpsc::Sender<News>,
    room: Room,
    recent: Recent,
    clients: Clients,
}

/// Does this until the server closes.
async fn while_open(closed: Closed, work: impl Future<Output = ()>) {
    tokio::select! {
        () = closed.ends() => {}
        () = work => {}
    }
}

async fn accept(
    listening: Listening,
    mut listeners: mpsc::Receiver<UnixListener>,
    mut host: Host,
    mut seats: Seats,
) {
    let mut came = 0_usize;
    let mut listener = Arc::clone(&listening.lock().unwrap_or_else(PoisonError::into_inner));
    loop {
        seats.hear().await;
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    admit(stream, &mut seats, &host);
                    // Those that have come before have their turn, so that one that has asked is known to wait: it is not among
                    // the few that come at once.
                    came += 1;
                    if came.is_multiple_of(AT_ONCE) {
                        yield_now().await;
                    }
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(new) = listeners.recv() => {
                let old = mem::replace(&mut listener, Arc::new(new));
                *listening.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&listener);
                // Those that came by the old path before it was lost.
                while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, old.accept()).await {
                    admit(stream, &mut seats, &host);
                }
            }
            () = host.closed.wait() => break,
        }
    }
    drop((listener, listening));
    // One that has given way to others is among them, as an error.
    let _ = timeout(FAREWELL, async { while seats.tasks.join_next().await.is_some() {} }).await;
}

fn admit(stream: UnixStream, seats: &mut Seats, host: &Host) {
    let trusted = stream.peer_cred().ok().filter(|peer| runtime_dir::is_trusted(peer.uid()));
    let refusal = match trusted {
        None => "only the user that the cluster runs as, and root, may ask",
        Some(peer) if seats.have_room() => return seat(stream, peer, seats, host),
        Some(_) => TOO_MANY,
    };
    if let Ok(line) = (Reply::Refused { reason: refusal.to_owned() }).encode() {
        // A fresh connection takes a line at once; if not, it is closed without one. The runtime does not know yet that it can be written.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write(&line);
        }
    }
}

fn seat(stream: UnixStream, peer: UCred, seats: &mut Seats, host: &Host) {
    let (client, activity, glance) = meet(stream, peer, Vec::new(), host);
    seats.take(activity, glance, guarded_task(CLIENT, host.cluster.panicked(), attend(client)));
}

/// A conversation with a client of which so much was read already.
fn meet(stream: UnixStream, peer: UCred, read: Vec<u8>, host: &Host) -> (Conversation, Activity, Glance) {
    let activity = Activity::default();
    let (stream, glance) = Watched::new(stream);
    let (shown, present) = host.clients.admit(stream.clone());
    let sharing = (activity.clone(), shown.clone());
    let reader = Cursor::new(read).chain(stream.clone());
    let lines = Lines::sharing(reader, REQUEST_LIMIT, host.room.clone(), sharing);
    let client = Conversation {
        lines,
        writer: stream,
        peer,
        host: host.clone(),
        activity: activity.clone(),
        shown,
        _present: present,
    };
    (client, activity, glance)
}

/// Answers one client until either side closes the connection.
async fn attend(mut client: Conversation) {
    while let Ok(Next::Listen) = client.turn().await {}
}

struct Conversation {
    lines: Lines<Chain<Cursor<Vec<u8>>, Watched<UnixStream>>>,
    writer: Watched<UnixStream>,
    peer: UCred,
    host: Host,
    activity: Activity,
    shown: Shown,
    _present: Present,
}

/// What follows an answer.
enum Next {
    Listen,
    Close,
}

impl Conversation {
    /// Handles one request. An error means that the client is gone.
    async fn turn(&mut self) -> io::Result<Next> {
        self.activity.is(Doing::Nothing);
        self.shown.does(Stands::Listens);
        let line = tokio::select! {
            line = timeout(IDLE, self.lines.next()) => match line {
                Ok(line) => line?,
                Err(_) => return Ok(Next::Close),
            },
            () = self.host.closed.wait() => return Ok(Next::Close),
        };
        self.activity.is(Doing::Waiting);
        self.shown.does(Stands::Asks);
        let request = match line {
            Line::Whole(line) => Request::decode(&line),
            Line::TooLong => Err(BadRequest::TooLong),
            Line::End => return Ok(Next::Close),
        };
        match request {
            Ok(request) => self.answer(request).await,
            Err(error) => self.refuse(error.to_string()).await,
        }
    }

    async fn answer(&mut self, request: Request) -> io::Result<Next> {
        // If the log is not read, the request is answered all the same.
        let _ = self.host.tell.try_send(News::Asked(Asked::new(&request, self.peer)));
        let answer = match request {
            Request::Reload { wait: true, env } => return self.reload(env).await,
            Request::Reload { wait: false, env } => self.begin_reload(env).await,
            Request::Status => return self.status().await,
            Request::Configuration { diff } => return self.configuration(diff).await,
            Request::Events { follow, last } => return self.events(last, follow).await,
            Request::Logs { follow, last, slot } => return self.logs(slot, last, follow).await,
            Request::Replace { which } => return self.replace(which).await,
            Request::ScaleTo { workers } => return self.scale(Scale::To(workers)).await,
            Request::ScaleBy { workers } => return self.scale(Scale::By(workers)).await,
            Request::Upgrade { binary, dry_run, wait } => return self.upgrade(binary, dry_run, wait).await,
            // An error means that the cluster has ended already.
            Request::Stop => {
                let _ = self.host.cluster.request_stop();
                return self.end().await;
            }
            Request::Terminate => {
                let _ = self.host.cluster.request_terminate();
                return self.end().await;
            }
        };
        match answer {
            Ok(reply) => self.say(&reply).await.map(|()| Next::Listen),
            Err(gone) => self.refuse(gone.to_string()).await,
        }
    }

    async fn status(&mut self) -> io::Result<Next> {
        let cluster = &self.host.cluster;
        let taken = self.host.room.status(async || match cluster.status().await {
            Ok(status) => Ok(Reply::Status(Box::new(status)).encode()?),
            Err(gone) => Err(io::Error::other(gone)),
        });
        match taken.await {
            Ok(shared) => {
                let room = self.host.room.clone();
                self.write(shared.line(), |_| room.for_shared(&shared)).await.map(|()| Next::Listen)
            }
            Err(gone) => self.refuse(gone.to_string()).await,
        }
    }

    /// Tells with which settings the cluster runs. The config file may be on a disk that is slow.
    async fn configuration(&mut self, diff: bool) -> io::Result<Next> {
        let Some(_place) = self.host.room.to_wait() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        let told = tokio::select! {
            told = self.host.cluster.configuration(diff) => told,
            left = self.lines.next() => return self.interrupted(left?).await,
        };
        let reply = match told {
            Ok((Configuration { file, settings }, differences)) => {
                Reply::Configuration { file, settings, differences }
            }
            Err(reason) => return self.refuse(reason).await,
        };
        if reply.encode()?.len() > REPLY_LIMIT {
            return self.refuse("the settings are longer than an answer can be".to_owned()).await;
        }
        self.say(&reply).await.map(|()| Next::Listen)
    }

    /// Has one worker replaced, and waits for what becomes of it.
    async fn replace(&mut self, which: Which) -> io::Result<Next> {
        let Some(_place) = self.host.room.to_wait() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        let outcome = tokio::select! {
            outcome = self.host.cluster.renew(which) => outcome,
            left = self.lines.next() => return self.interrupted(left?).await,
        };
        let reply = match outcome {
            Ok(replaced) => Reply::Replaced(replaced),
            Err(ReplaceError::Failed(failure)) => Reply::ReplaceFailed { failure: *failure },
            Err(refusal) => return self.refuse(refusal.to_string()).await,
        };
        self.say(&reply).await.map(|()| Next::Listen)
    }

    async fn scale(&mut self, scale: Scale) -> io::Result<Next> {
        match self.host.cluster.scale(scale).await {
            Ok(workers) => self.say(&Reply::Scaled { workers }).await.map(|()| Next::Listen),
            Err(refusal) => self.refuse(refusal.to_string()).await,
        }
    }

    /// Asks for a reload that is not waited for. One that cannot begin has its verdict at once.
    async fn begin_reload(&self, env: Variables) -> Result<Reply, Gone> {
        Ok(match self.host.cluster.begin_reload_with(env).await? {
            Ok(()) => Reply::Accepted,
            Err(reason) => Reply::Refused { reason },
        })
    }

    /// Asks for a reload and sends its progress, until the verdict is there or the client leaves.
    async fn reload(&mut self, env: Variables) -> io::Result<Next> {
        let Some(_place) = self.host.room.to_wait() else {
            return self.refuse(TOO_MANY.to_owned()).await;
        };
        let mut events = self.host.cluster.subscribe();
        let mut verdict = match self.host.cluster.ask_reload(None, env) {
            Ok(verdict) => verdict,
            Err(Gone) => return self.abandoned().await,
        };
        let mut generation = None;
        loop {
            let reply = tokio::select! {
                // Progress that came before the verdict is sent before it.
                biased;
                Some(heard) = events.next() => {
                    let Some(progress) = progress(heard, &mut generation) else { continue };
                    Reply::Progress(progress)
                }
                verdict = &mut verdict => {
                    // Without a verdict the cluster has ended before it.
                    let Told { verdict, needs_restart } = verdict.unwrap_or(Verdict::Abandoned.into());
                    self.say(&Reply::Verdict { generation, verdict, needs_restart }).await?;
                    return Ok(Next::Listen);
                }
                left = self.lines.next() => return self.interrupted(left?).await,
            };
            self.say(&reply).await?;
        }
    }

    /// The cluster has ended before the reload was asked for.
    async fn abandoned(&mut self) -> io::Result<Next> {
        let needs_restart = Vec::new();
        self.say(&Reply::Verdict { generation: None, verdict: Verdict::Abandoned, needs_restart }).await?;
        Ok(Next::Listen)
    }

    /// Waits for the end of the cluster and reports it. The connection stays open until the control socket is removed.
    async fn end(&mut self) -> io::Result<Next> {
        tokio::select! {
            _ = self.host.cluster.wait() => {}
            left = self.lines.next() => return self.interrupted(left?).await,
        }
        self.say(&Reply::Ended).await?;
        self.host.closed.wait().await;
        Ok(Next::Close)
    }
}

/// What an event means to a client that waits for a reload. `generation` becomes the one that the client waits for:
/// its reload is the newest that has begun since it asked.
pub(crate) fn progress(heard: Heard, generation: &mut Option<u64>) -> Option<Progress> {
    let Heard::Event(event) = heard else { return None };
    let progress = Progress::of(event)?;
    if let Progress::Began { generation: began } = progress {
        *generation = Some(began);
    }
    (Some(progress.generation()) == *generation).then_some(progress)
}
