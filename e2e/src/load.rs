//! [`Load`]: clients that ask without end while a test does something to the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crate::eventually;

/// Clients that make one request after the other until told to end.
#[derive(Debug)]
pub struct Load<E> {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Tally<E>>>,
}

/// What the clients saw.
#[derive(Debug)]
pub struct Tally<E> {
    /// Each answer that there was, once.
    pub answers: BTreeSet<String>,
    /// What became of the requests without an answer.
    pub lost: Vec<E>,
    /// How many requests there were.
    pub requests: usize,
}

impl<E> Default for Tally<E> {
    fn default() -> Self {
        Self { answers: BTreeSet::new(), lost: Vec::new(), requests: 0 }
    }
}

impl<E: Send + 'static> Load<E> {
    /// Begins with so many clients. `ask` makes one request, and returns what of its answer is worth remembering.
    pub fn begin(clients: usize, ask: impl Fn() -> Result<String, E> + Clone + Send + 'static) -> Self {
        let (over, asked) = (Arc::default(), Arc::default());
        let clients = (0..clients).map(|_| client(ask.clone(), &over, &asked)).collect();
        Self { over, asked, clients }
    }

    /// Waits until there were so many more requests.
    pub fn go_on(&self, requests: usize) {
        let goal = self.asked.load(Ordering::SeqCst) + requests;
        eventually("the load goes on", || self.asked.load(Ordering::SeqCst) >= goal);
    }

    /// Ends it.
    pub fn end(self) -> Tally<E> {
        self.over.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for client in self.clients {
            let tally = client.join().expect("a client does not panic");
            all.answers.extend(tally.answers);
            all.lost.extend(tally.lost);
            all.requests += tally.requests;
        }
        all
    }
}

fn client<E: Send + 'static>(
    ask: impl Fn() -> Result<String, E> + Send + 'static,
    over: &Arc<AtomicBool>,
    asked: &Arc<AtomicUsize>,
) -> JoinHandle<Tally<E>> {
    let (over, asked) = (Arc::clone(over), Arc::clone(asked));
    thread::spawn(move || {
        let mut tally = Tally::default();
        while !over.load(Ordering::SeqCst) {
            match ask() {
                Ok(answer) => _ = tally.answers.insert(answer),
                Err(error) => tally.lost.push(error),
            }
            tally.requests += 1;
            asked.fetch_add(1, Ordering::SeqCst);
        }
        tally
    })
}
