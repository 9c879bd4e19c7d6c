//! Messages that are echoed, or not.

use futures_util::{SinkExt, StreamExt};
use recluster_loss::{Cause, Kind};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::server::Server;

/// Echoes so many messages.
async fn echo(socket: &mut WebSocketStream<TcpStream>, count: usize) {
    for _ in 0..count {
        match socket.next().await {
            Some(Ok(message)) if message.is_text() => socket.send(message).await.unwrap(),
            _ => return,
        }
    }
}

#[tokio::test]
async fn a_message_without_its_echo_is_lost() {
    let server = Server::start(|stream, _| async move {
        let mut socket = accept_async(stream).await.unwrap();
        echo(&mut socket, 1).await;
        drop(socket.next().await);
    })
    .await;
    let counts = server.counts(Kind::WebSocket, 6).await;
    assert!(counts.lost() > 0, "{counts:?}");
    assert!(counts.losses.iter().all(|loss| loss.cause == Cause::Closed), "{counts:?}");
}

#[tokio::test]
async fn a_wrong_echo_is_a_loss() {
    let server = Server::start(|stream, _| async move {
        let mut socket = accept_async(stream).await.unwrap();
        drop(socket.next().await);
        let _ = socket.send("something else".into()).await;
        echo(&mut socket, usize::MAX).await;
    })
    .await;
    let counts = server.counts(Kind::WebSocket, 4).await;
    assert!(counts.losses.iter().any(|loss| loss.cause == Cause::WrongBody), "{counts:?}");
}

#[tokio::test]
async fn who_is_told_of_the_end_closes_and_comes_back() {
    let server = Server::start(|stream, _| async move {
        let mut socket = accept_async(stream).await.unwrap();
        echo(&mut socket, 2).await;
        let _ = socket.send("bye".into()).await;
        echo(&mut socket, usize::MAX).await;
    })
    .await;
    let counts = server.counts(Kind::WebSocket, 9).await;
    assert_eq!(counts.lost(), 0, "{counts:?}");
    assert!(server.accepted() >= 2);
}

#[tokio::test]
async fn no_handshake_is_a_loss() {
    let server = Server::start(|mut stream, _| async move {
        crate::server::request(&mut stream).await;
        crate::server::say(&mut stream, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let counts = server.counts(Kind::WebSocket, 2).await;
    assert_eq!(counts.answered, 0);
    assert_eq!(counts.losses[0].cause, Cause::Status(503));
}
