//! Bursts of requests that are written at once. What stands behind an answer that closes the connection was not
//! processed, as HTTP/1.1 says; it is sent again.

use super::pending::Pending;
use crate::client::Client;
use crate::http1::{Broken, Connection};
use crate::tally::Cause;

/// How many requests are written at once.
const BURST: usize = 4;

pub(super) async fn run(mut client: Client) {
    let mut at_hand = None;
    let mut again: Vec<Pending> = Vec::new();
    while !client.stopped() || !again.is_empty() {
        let Some(connection) = client.connection(at_hand.take()).await else {
            again.drain(..).for_each(|pending| pending.abandoned(&client));
            continue;
        };
        while again.len() < BURST && !client.stopped() {
            again.push(Pending::new(client.small()));
        }
        (at_hand, again) = burst(&client, connection, again).await;
        client.think().await;
    }
}

/// Returns the connection if it can be used again, and what has to be sent again.
async fn burst(
    client: &Client,
    mut connection: Connection,
    mut pending: Vec<Pending>,
) -> (Option<Connection>, Vec<Pending>) {
    let bytes: String = pending.iter().map(|pending| pending.request.head()).collect();
    let mut sent = connection.send(bytes.as_bytes()).await;
    while !pending.is_empty() {
        let result = match std::mem::replace(&mut sent, Ok(())) {
            Ok(()) => connection.answer().await,
            Err(broken) => Err(broken),
        };
        let closes = result.as_ref().is_ok_and(|answer| answer.closes);
        let cause = result.as_ref().map_or_else(|broken| broken.cause.clone(), |_| Cause::WrongBody);
        let answered = pending.remove(0);
        let usable = client.judge(result, &answered.request, &connection);
        if closes {
            return (None, pending.into_iter().filter_map(|pending| pending.refused(client)).collect());
        }
        if !usable {
            // What broke the first of them broke those behind it; behind a wrong answer none can be trusted.
            for _ in pending {
                let broken = Broken { cause: cause.clone(), bytes: 0 };
                client.lost(broken, connection.worker, connection.port());
            }
            return (None, Vec::new());
        }
    }
    (Some(connection), Vec::new())
}
