//! A server for the tests: it answers every request with the same text.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Who answers, where the answer is a good one.
pub(crate) const PID: u32 = 42;

/// Starts it. The first answer is given when so many connections have come. Behind its answer a connection is kept or closed.
pub(crate) async fn start(after: usize, answer: &str, keeps: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let answer: Arc<str> = answer.into();
    tokio::spawn(async move {
        let (come, seen) = watch::channel(0);
        while let Ok((stream, _)) = listener.accept().await {
            come.send_modify(|number| *number += 1);
            tokio::spawn(serve(stream, Arc::clone(&answer), seen.clone(), after, keeps));
        }
    });
    address
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<str>,
    mut come: watch::Receiver<usize>,
    after: usize,
    keeps: bool,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.expect("a client that sends") == 0 {
            return;
        }
    }
    come.wait_for(|come| *come >= after).await.expect("a server that listens");
    stream.write_all(answer.as_bytes()).await.expect("a client that reads");
    if keeps {
        // Until the client closes it.
        let _ = stream.read(&mut [0]).await;
    }
}
