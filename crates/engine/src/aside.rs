//! What may wait for a disk or another process is done aside, on a thread that lives for it alone. A machine may have no thread to
//! give (`pids.max` of a control group, `ulimit -u`): that is an error as any other. tokio's own threads for this end in a panic then.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The result of what is done aside. It is closed where that has panicked.
pub type Awaited<T> = oneshot::Receiver<T>;

/// Begins to do something aside with what is given. Where there is no thread, that comes back.
///
/// # Errors
///
/// When there is no thread to be had.
pub fn begin_aside<G: Send + 'static, T: Send + 'static>(
    given: G,
    work: impl FnOnce(G) -> T + Send + 'static,
) -> Result<Awaited<T>, (G, io::Error)> {
    let (reply, awaited) = oneshot::channel();
    let place = Arc::new(Mutex::new(Some(given)));
    let taken = Arc::clone(&place);
    let take = |place: &Mutex<Option<G>>| place.lock().unwrap_or_else(PoisonError::into_inner).take();
    // What is done there may make sockets of the runtime, where there is one.
    let runtime = Handle::try_current().ok();
    let begun = thread::Builder::new().name("recluster-aside".to_owned()).spawn(move || {
        let _entered = runtime.as_ref().map(Handle::enter);
        if let Some(given) = take(&taken) {
            // Nobody may wait for it any more.
            let _ = reply.send(work(given));
        }
    });
    match begun {
        Ok(_) => Ok(awaited),
        Err(error) => match take(&place) {
            Some(given) => Err((given, error)),
            // It cannot be: no thread has taken it.
            None => Ok(awaited),
        },
    }
}

/// Does something aside.
///
/// # Errors
///
/// When there is no thread to be had, or it has panicked.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    match begin_aside((), |()| work()) {
        Ok(awaited) => awaited.await.map_err(|_| io::Error::other("it has panicked")),
        Err(((), error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_done_on_another_thread_and_a_panic_is_an_error() {
        let here = thread::current().id();
        assert_ne!(aside(|| thread::current().id()).await.unwrap(), here);
        assert_eq!(begin_aside(7, |given| given + 1).unwrap().await, Ok(8));
        aside(|| panic!("the test has panicked on purpose")).await.unwrap_err();
    }
}
