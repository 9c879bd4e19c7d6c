//! Answering: a thread with a runtime of its own, so that neither the workers nor those who supervise them wait for a client, and one task
//! for each connection.

use std::io;
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
use crate::admin::keeper::Keeper;
use crate::admin::listener::{Admin, Socket};
use crate::admin::page::Page;
use crate::admin::picture::Pictures;
use crate::admin::seats::{Activity, Seats};
use crate::admin::site::Site;
use crate::api::cluster::Cluster;
use crate::guard::{Panicked, Part, guarded_task};
use crate::report::worker::Address;
use crate::sink::Sink;

/// How many connections come in one turn: many that wait to be let in must not take all seats before the first has spoken.
const AT_ONCE: usize = 8;
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
    changes: mpsc::Receiver<Changed>,
    closing: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Admin {
    /// Answers clients about this cluster until it is over, on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the machine refuses a thread or a descriptor.
    pub fn serve(self, cluster: Cluster) -> io::Result<Server> {
        let Self { socket, address, file, hosts, token_file, .. } = self;
        let (closing, closed) = watch::channel(false);
        let (tell, changes) = mpsc::channel(CHANGES);
        let (done, ended) = oneshot::channel();
        let site = Site {
            pictures: Pictures::new(cluster.clone()),
            keeper: Keeper::new(),
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
        thread.spawn(move || {
            match begin_in(socket) {
                Ok((runtime, door)) => {
                    // Who started it waits for this.
                    let _ = say.send(Ok(()));
                    // It ends with the runtime.
                    let keeping = async move { kept.keeper.keep(&kept.pictures, events).await };
                    drop(runtime.spawn(guarded_task(PART, panicked.clone(), keeping)));
                    let answering = answer(door, shared, cluster, &stop);
                    runtime.block_on(guarded_task(PART, panicked, answering));
                }
                Err(error) => drop(say.send(Err(error))),
            }
            drop(file);
            // Whoever waited for it may have gone.
            let _ = done.send(());
        })?;
        heard.recv().map_err(io::Error::other)??;
        Ok(Server { address, changes, closing, ended })
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next change that a client has asked for, for a log; those that are not read in time are dropped. `None` when the server has
    /// ended.
    pub async fn changed(&mut self) -> Option<Changed> {
        self.changes.recv().await
    }

    /// Stops listening, gives clients a moment to read their last answer, and removes the file of a unix socket.
    pub async fn close(self) {
        self.closing.send_replace(true);
        // An error means that it has ended.
        let _ = self.ended.await;
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
                    let client =
                        Conversation::new(stream, from.to_string(), shared.clone(), activity.clone());
                    seats.take(activity, guarded_task(CLIENT, panicked, client.attend()));
                }
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let from = stream.peer_cred().map(|peer| match peer.pid() {
                    Some(pid) => format!("process {pid} of user {}", peer.uid()),
                    None => format!("user {}", peer.uid()),
                });
                if seats.have_room() {
                    let from = from.unwrap_or_default();
                    let client = Conversation::new(stream, from, shared.clone(), activity.clone());
                    seats.take(activity, guarded_task(CLIENT, panicked, client.attend()));
                }
            }
        }
        Ok(())
    }
}

/// Answers until the cluster is over, or it is to close.
async fn answer(door: Door, shared: Shared, cluster: Cluster, closing: &watch::Sender<bool>) {
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
            () = &mut over => break,
        }
    }
    drop(door);
    closing.send_replace(true);
    // One that has given way to others is among them, as an error.
    let _ = timeout(FAREWELL, async { while seats.tasks.join_next().await.is_some() {} }).await;
}
