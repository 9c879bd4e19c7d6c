//! Answering: a thread with a runtime of its own, so that neither the workers nor those who supervise them wait for a client, and one task
//! for each connection.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::{self, Arc};
use std::thread;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::admin::changes::{Changed, Changes};
use crate::admin::conversation::{Conversation, Shared};
use crate::admin::keeper::{self, Keeper};
use crate::admin::leaving::Leaver;
use crate::admin::listener::{Admin, Socket};
use crate::admin::page::Page;
use crate::admin::picture::Pictures;
use crate::admin::site::Site;
use crate::api::cluster::Cluster;
use crate::config::listen::Listen;
use crate::control::keeping::{Bind, Held, Keeping, Kept, PathKeeper};
use crate::control::seats::{AT_ONCE, Activity, Seats};
use crate::guard::{Panicked, Part, guarded_task};
use crate::report::worker::Address;
use crate::sink::Sink;
use crate::socket::bind;
use crate::socket::file::SocketFile;
use crate::socket::glance::Watched;
use crate::upgrade::memory;

/// The pause after a failed accept: the machine is short of something, and trying again at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What people are told has panicked: the whole service, or one client's part of it.
const PART: Part = Part::vital("the admin listener");
const CLIENT: Part = Part::dispensable("a conversation on the admin listener");
/// How long clients may take to read their last answer when the master ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many changes may wait for [`Server::changed`]. It is for the log; requests are answered without it.
const CHANGES: usize = 64;

/// An admin listener that answers, until its cluster is over. Dropping this changes nothing.
#[derive(Debug)]
pub struct Server {
    address: Address,
    /// Of a unix socket that is a file.
    keeping: Option<Keeping>,
    changes: mpsc::Receiver<Changed>,
    closing: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
    leaver: Leaver,
}

/// What happens at an admin listener.
#[derive(Debug)]
#[non_exhaustive]
pub enum News {
    /// A client has asked for a change, which is allowed.
    Changed(Changed),
    /// Something has become of the path of its unix socket. It is bound anew where its file was removed.
    Kept(Kept),
}

impl Admin {
    /// Answers clients about this cluster until it is over, on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the machine refuses a thread or a descriptor.
    pub fn serve(self, cluster: Cluster) -> io::Result<Server> {
        let Self { socket, address, file, listen, hosts, token_file, history, .. } = self;
        let (closing, closed) = watch::channel(false);
        let (tell, changes) = mpsc::channel(CHANGES);
        let (done, ended) = oneshot::channel();
        let site = Site {
            pictures: Pictures::new(cluster.clone()),
            keeper: Keeper::new(history.and_then(lines)),
            page: Page::default(),
            hosts,
            changes: Changes::new(cluster.clone(), token_file, tell),
        };
        let shared = Shared::new(site, closed);
        let (events, kept) = (cluster.subscribe(), Arc::clone(&shared.site));
        let thread = thread::Builder::new().name("recluster-admin".to_owned());
        let stop = closing.clone();
        let (say, heard) = sync::mpsc::channel();
        let panicked = cluster.panicked();
        let (new, listeners) = mpsc::channel(1);
        // The program before is not gone back to any more.
        let file = file.and_then(Arc::into_inner).inspect(SocketFile::keep);
        let (keeping, held, keeper) = apart(file.map(|file| Keeping::of(file, again(listen), new)));
        let leaver = Leaver {
            address: address.clone(),
            socket: Arc::new(sync::Mutex::new(socket.duplicate()?)),
            file: held.as_ref().map(Held::file).unwrap_or_default(),
            site: Arc::downgrade(&shared.site),
        };
        let bound = Arc::clone(&leaver.socket);
        thread.spawn(move || {
            match begin_in(socket) {
                Ok((runtime, door)) => {
                    // Who started it waits for this.
                    let _ = say.send(Ok(()));
                    // It ends with the runtime.
                    let keeping = async move { kept.keeper.keep(&kept.pictures, events).await };
                    drop(runtime.spawn(guarded_task(PART, panicked.clone(), keeping)));
                    if let Some(keeper) = keeper {
                        drop(runtime.spawn(guarded_task(PART, panicked.clone(), keeper.run())));
                    }
                    let answering = answer((door, bound), listeners, shared, cluster, &stop);
                    runtime.block_on(guarded_task(PART, panicked, answering));
                }
                Err(error) => drop(say.send(Err(error))),
            }
            drop(held);
            // Whoever waited for it may have gone.
            let _ = done.send(());
        })?;
        heard.recv().map_err(io::Error::other)??;
        Ok(Server { address, keeping, changes, closing, ended, leaver })
    }
}

impl Server {
    /// By which it is left to another program that takes this one's place.
    pub fn leaver(&self) -> Leaver {
        self.leaver.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What happens next, for a log; what is not read in time is dropped. `None` when the server has ended.
    pub async fn told(&mut self) -> Option<News> {
        let kept = async {
            match &mut self.keeping {
                Some(keeping) => keeping.told().await,
                None => None,
            }
        };
        tokio::select! {
            changed = self.changes.recv() => changed.map(News::Changed),
            Some(kept) = kept => Some(News::Kept(kept)),
        }
    }

    /// Has the path of a unix socket looked at now, which happens now and then in any case.
    pub fn look(&self) {
        if let Some(keeping) = &self.keeping {
            keeping.look();
        }
    }

    /// Stops listening, gives clients a moment to read their last answer, and removes the file of a unix socket.
    pub async fn close(self) {
        self.closing.send_replace(true);
        // An error means that it has ended.
        let _ = self.ended.await;
    }
}

/// Binds the same unix socket anew, again and again.
fn again(listen: Listen) -> Bind {
    Arc::new(move || {
        let bound = bind::bind(&listen);
        let bound =
            bound.map_err(|error| bind::obstacle_at(&listen.at).unwrap_or_else(|| error.to_string()))?;
        let file = bound.file.and_then(Arc::into_inner).ok_or("it has no file")?;
        let listener = StdUnixListener::from(bound.socket);
        let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        Ok((listener.map_err(|error| error.to_string())?, file))
    })
}

/// With its lines, what was left of a history. What cannot be read begins anew: that keeps nobody from answering.
fn lines((saved, lines): (keeper::Saved, OwnedFd)) -> Option<(keeper::Saved, Vec<u8>)> {
    Some((saved, memory::read(lines).ok()?))
}

fn apart(kept: Option<(Keeping, Held, PathKeeper)>) -> (Option<Keeping>, Option<Held>, Option<PathKeeper>) {
    match kept {
        Some((keeping, held, keeper)) => (Some(keeping), Some(held), Some(keeper)),
        None => (None, None, None),
    }
}

/// A runtime, and the socket in it.
fn begin_in(socket: Socket) -> io::Result<(Runtime, Door)> {
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let inside = runtime.enter();
    let door = Door::new(socket)?;
    drop(inside);
    Ok((runtime, door))
}

/// Where clients come in.
#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// Lets the next client in.
    async fn open(&self, seats: &mut Seats, shared: &Shared, panicked: Sink<Panicked>) -> io::Result<()> {
        let activity = Activity::default();
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // One that has left again is noticed later.
                let _ = stream.set_nodelay(true);
                if seats.have_room() {
                    let (stream, glance) = Watched::new(stream);
                    let client =
                        Conversation::new(stream, from.to_string(), shared.clone(), activity.clone());
                    seats.take(activity, glance, guarded_task(CLIENT, panicked, client.attend()));
                }
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let from = stream.peer_cred().map(|peer| match peer.pid().filter(|pid| *pid > 0) {
                    Some(pid) => format!("process {pid} of user {}", peer.uid()),
                    None => format!("user {}", peer.uid()),
                });
                if seats.have_room() {
                    let from = from.unwrap_or_default();
                    let (stream, glance) = Watched::new(stream);
                    let client = Conversation::new(stream, from, shared.clone(), activity.clone());
                    seats.take(activity, glance, guarded_task(CLIENT, panicked, client.attend()));
                }
            }
        }
        Ok(())
    }
}

/// Answers until the cluster is over, or it is to close.
async fn answer(
    (mut door, bound): (Door, Arc<sync::Mutex<OwnedFd>>),
    mut listeners: mpsc::Receiver<UnixListener>,
    shared: Shared,
    cluster: Cluster,
    closing: &watch::Sender<bool>,
) {
    let (mut seats, mut came, mut closed) = (Seats::default(), 0_usize, shared.closing.clone());
    let over = async {
        tokio::select! {
            _ = cluster.wait() => {}
            // An error means that nobody can close it any more: the cluster does.
            _ = closed.wait_for(|closing| *closing) => {}
        }
    };
    tokio::pin!(over);
    loop {
        seats.hear().await;
        tokio::select! {
            opened = door.open(&mut seats, &shared, cluster.panicked()) => match opened {
                Ok(()) => {
                    came += 1;
                    if came % AT_ONCE == 0 {
                        yield_now().await;
                    }
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(new) = listeners.recv() => {
                // Without a descriptor to spare the old one is left, and the path is bound anew then.
                if let Ok(new) = new.as_fd().try_clone_to_owned() {
                    *bound.lock().unwrap_or_else(sync::PoisonError::into_inner) = new;
                }
                let old = std::mem::replace(&mut door, Door::Unix(new));
                // Those that came by the old path before it was lost.
                let mut next = async || old.open(&mut seats, &shared, cluster.panicked()).await;
                while let Ok(Ok(())) = timeout(Duration::ZERO, next()).await {}
            }
            () = &mut over => break,
        }
    }
    drop((door, bound));
    closing.send_replace(true);
    // One that has given way to others is among them, as an error.
    let _ = timeout(FAREWELL, async { while seats.tasks.join_next().await.is_some() {} }).await;
}
