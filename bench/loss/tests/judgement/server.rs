//! Servers that do to each connection what the test says, and loads against them.

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use recluster_loss::{Connector, Counts, Endpoint, Kind, Load, Mix, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// The pause of the clients: long enough for the end of a connection to arrive.
pub(crate) const THINK: Duration = Duration::from_millis(50);

/// A server that runs until the test ends.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// `serve` is given each connection, and which one it is, from 0.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = Endpoint::tcp(listener.local_addr().unwrap().port());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, count.fetch_add(1, SeqCst)));
            }
        });
        Self { endpoint, accepted }
    }

    /// How many connections were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// What one client of a kind makes of it in so many requests.
    pub(crate) async fn counts(&self, kind: Kind, requests: u64) -> Counts {
        counts(&self.endpoint, kind, requests).await
    }
}

/// What one client of a kind makes of an endpoint in so many requests.
pub(crate) async fn counts(endpoint: &Endpoint, kind: Kind, requests: u64) -> Counts {
    let load = load(endpoint, kind);
    let enough = async {
        while load.requests() < requests {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, enough).await.expect("the client should make its requests");
    timeout(DEADLINE, load.finish()).await.expect("the client should come to an end").of(kind)
}

/// One client.
pub(crate) fn load(endpoint: &Endpoint, kind: Kind) -> Load {
    let connector = Connector::new(&Settings::identity()).unwrap();
    Load::start(&Mix::nobody().with(kind, 1), std::slice::from_ref(endpoint), &connector, THINK)
}

/// Reads requests without a body, until there are so many. What they are numbered with; fewer when the client is done.
pub(crate) async fn requests(stream: &mut TcpStream, count: usize) -> Vec<String> {
    let mut text = String::new();
    while text.matches("\r\n\r\n").count() < count {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(length) => text += std::str::from_utf8(&bytes[..length]).unwrap(),
        }
    }
    text.lines().filter_map(|line| Some(line.split_once("?n=")?.1.split(' ').next()?.to_owned())).collect()
}

/// Reads one request; its number.
pub(crate) async fn request(stream: &mut TcpStream) -> Option<String> {
    requests(stream, 1).await.into_iter().next()
}

/// Says something, if the client still listens.
pub(crate) async fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
}

/// The right answer, with these header lines.
pub(crate) fn answer(n: &str, headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nX-Worker: 4711\r\nContent-Length: {}\r\n{headers}\r\n{n}", n.len())
}
