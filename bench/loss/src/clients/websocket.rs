//! Messages that are echoed on a WebSocket. When the server says "bye", the client ends what it is at, closes and
//! connects again. A socket that ends while no echo is awaited has lost nothing.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::Client;
use crate::endpoint::Protocol;
use crate::http1::{ANSWER_LIMIT, Broken, cause_of};
use crate::stream::Stream;
use crate::tally::Cause;

/// Between an echo and the next message.
const PAUSE: Duration = Duration::from_millis(5);
/// What the server says before it goes.
const FAREWELL: &str = "bye";

/// A socket that was opened.
struct Socket {
    stream: WebSocketStream<Stream>,
    worker: Option<u32>,
    port: Option<u16>,
    leaving: bool,
}

pub(super) async fn run(mut client: Client) {
    while !client.stopped() {
        let Some(mut socket) = open(&mut client).await else {
            continue;
        };
        while !client.stopped() && socket.may_send() {
            let text = client.number().to_string();
            match socket.echo(&text).await {
                Ok(()) => client.answered(),
                Err(cause) => {
                    client.lost(Broken { cause, bytes: 0 }, socket.worker, socket.port);
                    break;
                }
            }
            client.pause(PAUSE).await;
        }
        socket.close().await;
    }
}

/// Connects. The handshake is a request too.
async fn open(client: &mut Client) -> Option<Socket> {
    let stream = client.connect(Protocol::Http1).await?;
    let port = stream.port();
    let cause = match timeout(ANSWER_LIMIT, client_async("ws://localhost/ws", stream)).await {
        Ok(Ok((stream, response))) => {
            client.answered();
            let worker =
                response.headers().get("x-worker").and_then(|value| value.to_str().ok()?.parse().ok());
            return Some(Socket { stream, worker, port, leaving: false });
        }
        Ok(Err(error)) => cause(&error),
        Err(_) => Cause::Silence,
    };
    client.lost(Broken { cause, bytes: 0 }, None, port);
    None
}

impl Socket {
    /// Whether the server neither has closed the socket nor wants to.
    fn may_send(&mut self) -> bool {
        while let Some(heard) = self.stream.next().now_or_never() {
            match heard {
                Some(Ok(Message::Text(text))) if text.as_str() == FAREWELL => self.leaving = true,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(_) | None => self.leaving = true,
            }
            if self.leaving {
                break;
            }
        }
        !self.leaving
    }

    async fn echo(&mut self, text: &str) -> Result<(), Cause> {
        let exchange = async {
            self.stream.send(Message::text(text)).await.map_err(|error| cause(&error))?;
            self.hear(text).await
        };
        timeout(ANSWER_LIMIT, exchange).await.unwrap_or(Err(Cause::Silence))
    }

    async fn hear(&mut self, text: &str) -> Result<(), Cause> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(heard))) if heard.as_str() == text => return Ok(()),
                Some(Ok(Message::Text(heard))) if heard.as_str() == FAREWELL => self.leaving = true,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Err(Cause::Closed),
                Some(Ok(_)) => return Err(Cause::WrongBody),
                Some(Err(error)) => return Err(cause(&error)),
            }
        }
    }

    async fn close(mut self) {
        let farewell = async {
            // The socket is given up: an error on the way is of no account.
            if self.stream.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        drop(timeout(ANSWER_LIMIT, farewell).await);
    }
}

fn cause(error: &tungstenite::Error) -> Cause {
    if let tungstenite::Error::Io(error) = error {
        return cause_of(error);
    }
    if let tungstenite::Error::Http(response) = error {
        return Cause::Status(response.status().as_u16());
    }
    let closed = matches!(
        error,
        tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
                    | tungstenite::error::ProtocolError::HandshakeIncomplete
            )
    );
    if closed { Cause::Closed } else { Cause::Io(error.to_string()) }
}
