//! What the kinds of clients do. Each goes on until the load is to stop, and then ends what it is at.

mod http2;
mod pending;
mod pipelined;
mod websocket;

use std::ops::Range;
use std::time::Duration;

use crate::Kind;
use crate::client::Client;
use crate::request::Request;

/// The pauses of most people, in milliseconds, and of those who read what they got.
const SHORT: Range<u64> = 1..300;
const LONG: Range<u64> = 1000..4000;
/// One pause of so many is long.
const LONG_ONES: u32 = 12;
/// How long a fresh connection may wait for its first request, in milliseconds.
const HELD: Range<u64> = 0..500;

pub(crate) async fn run(client: Client) {
    match client.kind {
        Kind::KeepAlive => keep_alive(client).await,
        Kind::Pausing => pausing(client).await,
        Kind::New => new(client).await,
        Kind::Held => held(client).await,
        Kind::Slow => one_after_another(client, |client| Request::slow(client.number())).await,
        Kind::Upload => one_after_another(client, |client| Request::upload(client.number())).await,
        Kind::Pipelined => pipelined::run(client).await,
        Kind::Http2 => http2::run(client).await,
        Kind::WebSocket => websocket::run(client).await,
    }
}

async fn keep_alive(client: Client) {
    one_after_another(client, Client::small).await;
}

/// Requests on one connection, for as long as the server leaves it open.
async fn one_after_another(mut client: Client, request: fn(&mut Client) -> Request) {
    let mut connection = None;
    while !client.stopped() {
        let request = request(&mut client);
        connection = client.request(connection, &request).await;
        client.think().await;
    }
}

async fn pausing(mut client: Client) {
    let mut connection = None;
    while !client.stopped() {
        let request = client.small();
        connection = client.request(connection, &request).await;
        let range = if client.random.u32(..LONG_ONES) == 0 { LONG } else { SHORT };
        let pause = Duration::from_millis(client.random.u64(range));
        client.pause(pause).await;
    }
}

async fn new(mut client: Client) {
    while !client.stopped() {
        let request = client.single();
        client.request(None, &request).await;
        client.think().await;
    }
}

async fn held(mut client: Client) {
    while !client.stopped() {
        let connection = client.connection(None).await;
        let pause = Duration::from_millis(client.random.u64(HELD));
        client.pause(pause).await;
        if connection.is_some() && !client.stopped() {
            let request = client.small();
            client.request(connection, &request).await;
        }
    }
}
