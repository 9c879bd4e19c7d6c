//! What a control socket leaves to the program after this one: the socket, what has happened lately, and its clients with what they wait
//! for. Each conversation shows at all times where it stands, so that nobody has to be asked.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use super::recent::{self, Recent, SavedRecent};
use super::telling::Telling;
use crate::process::ring;
use crate::process::successor::Upgraded;
use crate::socket::file::{SavedFile, SocketFile};
use crate::socket::glance::Watched;
use crate::upgrade::store::{Store, Stored, Taken};
use crate::upgrade::{AdoptError, Inheritance, SaveError, Saving};

const PART: &str = "control";
const SOCKET: &str = "control/socket";
/// The purpose of the memory with what clients have said, and with what they are to be told.
const WORDS: &str = "control/words";

/// What came of an upgrade, as whoever has asked for it is told.
pub type Outcome = Result<Upgraded, String>;

/// Where a conversation stands.
#[derive(Debug)]
pub(super) struct Stand {
    stream: Watched<UnixStream>,
    /// What was read and is no whole request yet.
    pub(super) unread: Vec<u8>,
    /// What is to be written before anything else.
    pub(super) unsent: Vec<u8>,
    /// It is over when that is written.
    pub(super) closes: bool,
    pub(super) doing: Doing,
}

/// What a client waits for.
#[derive(Debug)]
pub(super) enum Doing {
    /// It may ask for something.
    Listens,
    /// An answer is being made, and only this program can go on with that.
    Asks,
    /// It waits for an upgrade, and what comes of it.
    Upgrade,
    /// It follows events.
    Events(recent::Place),
    /// It follows the lines of workers, and is being told some.
    Logs(Box<ring::Place>, Option<Telling>),
}

/// Where a conversation stands, for itself and for whoever saves it.
#[derive(Clone, Debug)]
pub(super) struct Shown(Arc<Mutex<Stand>>);

/// All conversations. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients(Arc<Mutex<(u64, BTreeMap<u64, Shown>)>>);

/// One of them, for as long as it goes on.
#[derive(Debug)]
pub(super) struct Present {
    number: u64,
    clients: Clients,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.clients.lock().1.remove(&self.number);
    }
}

impl Clients {
    /// A conversation on this connection begins.
    pub(super) fn admit(&self, stream: Watched<UnixStream>) -> (Shown, Present) {
        let stand =
            Stand { stream, unread: Vec::new(), unsent: Vec::new(), closes: false, doing: Doing::Listens };
        let shown = Shown(Arc::new(Mutex::new(stand)));
        let mut clients = self.lock();
        clients.0 += 1;
        let number = clients.0;
        clients.1.insert(number, shown.clone());
        (shown, Present { number, clients: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Shown>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    pub(super) fn lock(&self) -> MutexGuard<'_, Stand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its answer is on its way: whoever goes on with the conversation writes the rest of it.
    pub(super) fn is_answered(&self) {
        let mut stand = self.lock();
        if matches!(stand.doing, Doing::Asks) {
            stand.doing = Doing::Listens;
        }
    }

    /// It does this from now on.
    pub(super) fn does(&self, doing: Doing) {
        self.lock().doing = doing;
    }
}

/// A client as it is left.
#[derive(Debug, Serialize, Deserialize)]
struct SavedClient {
    number: u64,
    unread: Stored,
    unsent: Stored,
    closes: bool,
    doing: SavedDoing,
}

/// The same for this program.
#[derive(Debug)]
pub(super) struct LeftClient {
    pub(super) connection: OwnedFd,
    pub(super) unread: Vec<u8>,
    pub(super) unsent: Vec<u8>,
    pub(super) closes: bool,
    pub(super) doing: SavedDoing,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SavedDoing {
    Listens,
    Upgrade,
    Events(recent::SavedPlace),
    Logs(ring::SavedPlace),
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    file: SavedFile,
    recent: SavedRecent,
    clients: Vec<SavedClient>,
}

/// What was left, until it is served again.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) recent: SavedRecent,
    pub(super) clients: Vec<LeftClient>,
    /// What came of the upgrade.
    pub(super) outcome: Outcome,
}

/// A listening socket that may be bound anew.
pub(super) type Listening = Arc<Mutex<Arc<UnixListener>>>;

/// By which a served control socket is left to the program after this one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leaver {
    pub(super) listener: Listening,
    pub(super) file: Weak<Mutex<SocketFile>>,
    pub(super) clients: Clients,
    pub(super) recent: Recent,
}

impl Leaver {
    /// Adds what there is. Changes nothing.
    ///
    /// # Errors
    ///
    /// When a client waits for an answer that only this program can give: that is over soon.
    pub fn save(&self, saving: &mut Saving) -> Result<(), SaveError> {
        let Some(file) = self.file.upgrade() else { return Ok(()) };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner).save();
        let listener = Arc::clone(&self.listener.lock().unwrap_or_else(PoisonError::into_inner));
        saving.pass(&*listener, SOCKET)?;
        let (mut clients, mut store) = (Vec::new(), Store::new(WORDS));
        for (number, shown) in &self.clients.lock().1 {
            let stand = shown.lock();
            saving.pass(stand.stream.as_fd(), client(*number))?;
            clients.push(stand.save(*number, &mut store)?);
        }
        store.pass(saving)?;
        saving.put(PART, &Saved { file, recent: self.recent.save(), clients })
    }
}

impl Stand {
    fn save(&self, number: u64, store: &mut Store) -> Result<SavedClient, SaveError> {
        let mut told = Vec::new();
        let doing = match &self.doing {
            Doing::Listens => SavedDoing::Listens,
            Doing::Asks => {
                return Err(SaveError::Refused(
                    "a client of the control socket waits for an answer".to_owned(),
                ));
            }
            Doing::Upgrade => SavedDoing::Upgrade,
            Doing::Events(place) => SavedDoing::Events(place.save()),
            Doing::Logs(place, telling) => {
                told = telling.as_ref().map(Telling::rest).unwrap_or_default();
                SavedDoing::Logs(place.save())
            }
        };
        let unsent = if told.is_empty() {
            store.add(&self.unsent)
        } else {
            store.add(&[&*self.unsent, &*told].concat())
        };
        Ok(SavedClient {
            number,
            unread: store.add(&self.unread)?,
            unsent: unsent?,
            closes: self.closes,
            doing,
        })
    }
}

fn client(number: u64) -> String {
    format!("control/client/{number}")
}

/// What a program before has left of its control socket, if it had one.
pub(super) fn adopt(
    inheritance: &mut Inheritance,
) -> Result<Option<(OwnedFd, SocketFile, Left)>, AdoptError> {
    let Some(Saved { file, recent, clients }) = inheritance.part(PART)? else { return Ok(None) };
    let socket = inheritance.descriptor(SOCKET)?;
    let (mut left, taken) = (Vec::new(), Taken::of(WORDS, inheritance)?);
    for SavedClient { number, unread, unsent, closes, doing } in clients {
        let connection = inheritance.descriptor(&client(number))?;
        let [unread, unsent] = [taken.bytes(unread)?, taken.bytes(unsent)?];
        left.push(LeftClient { connection, unread, unsent, closes, doing });
    }
    let outcome = Err("it is not known what has come of it".to_owned());
    Ok(Some((socket, SocketFile::inherit(file), Left { recent, clients: left, outcome })))
}

/// Whether what another has left can be read.
///
/// # Errors
///
/// When it cannot.
pub fn look(inheritance: &mut Inheritance) -> Result<(), AdoptError> {
    inheritance.part::<Saved>(PART).map(drop)
}

/// The connection of a client that was left.
pub(super) fn stream(connection: OwnedFd) -> io::Result<UnixStream> {
    let connection = std::os::unix::net::UnixStream::from(connection);
    connection.set_nonblocking(true)?;
    UnixStream::from_std(connection)
}
