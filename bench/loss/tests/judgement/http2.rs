//! HTTP/2, by the server half of the library whose client half the meter uses.

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, server};
use http::Request;
use recluster_loss::{Cause, Counts, Endpoint, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

type Http2 = Connection<TcpStream, Bytes>;
type Stream = (Request<RecvStream>, SendResponse<Bytes>);

/// What a client makes of a server in so many requests.
async fn counts<F>(requests: u64, serve: impl Fn(Http2, usize) -> F + Copy + Send + Sync + 'static) -> Counts
where
    F: Future<Output = ()> + Send,
{
    let server = Server::start(move |stream, which| async move {
        serve(server::handshake(stream).await.unwrap(), which).await;
    })
    .await;
    let endpoint = Endpoint { h2: true, ..server.endpoint.clone() };
    crate::server::counts(&endpoint, Kind::Http2, requests).await
}

/// Answers rightly.
async fn answer((request, mut respond): Stream) {
    let query = request.uri().query().unwrap_or_default().trim_start_matches("n=").to_owned();
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let mut received = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        received.extend_from_slice(&data);
    }
    let text = match path.as_str() {
        "/slow" => (0..10).fold(String::new(), |text, i| text + &format!("{query}: {i} of 10\n")),
        "/post" => format!("{} {:x}", received.len(), fnv1a(&received)),
        _ => query,
    };
    let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
    stream.send_data(text.into(), true).unwrap();
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

async fn answer_all(mut connection: Http2) {
    while let Some(Ok(stream)) = connection.accept().await {
        tokio::spawn(answer(stream));
    }
}

#[tokio::test]
async fn whole_answers_are_no_losses() {
    let counts = counts(20, |connection, _| answer_all(connection)).await;
    assert_eq!((counts.lost(), counts.refused), (0, 0), "{counts:?}");
}

#[tokio::test]
async fn a_refused_stream_is_opened_again() {
    let counts = counts(20, |mut connection, which| async move {
        if which == 0 {
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_reset(Reason::REFUSED_STREAM);
        }
        answer_all(connection).await;
    })
    .await;
    assert_eq!((counts.lost(), counts.refused), (0, 1), "{counts:?}");
}

/// SETTINGS, and a GOAWAY without an error that says that no stream was processed.
const NOTHING_PROCESSED: [u8; 26] =
    [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test]
async fn a_stream_behind_a_goaway_is_opened_again() {
    let server = Server::start(|mut stream, which| async move {
        if which == 0 {
            stream.readable().await.unwrap();
            stream.write_all(&NOTHING_PROCESSED).await.unwrap();
            // Until the client has gone.
            while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {}
        } else {
            answer_all(server::handshake(stream).await.unwrap()).await;
        }
    })
    .await;
    let endpoint = Endpoint { h2: true, ..server.endpoint.clone() };
    let counts = crate::server::counts(&endpoint, Kind::Http2, 20).await;
    assert_eq!(counts.lost(), 0, "{counts:?}");
    assert!(server.accepted() >= 2 && counts.answered >= 12, "{counts:?}");
}

#[tokio::test]
async fn a_stream_that_is_reset_for_another_reason_is_lost() {
    let counts = counts(4, |mut connection, _| async move {
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    })
    .await;
    assert_eq!((counts.answered, counts.refused), (0, 0), "{counts:?}");
    assert!(counts.losses.iter().all(|loss| matches!(loss.cause, Cause::StreamReset(_))), "{counts:?}");
}

#[tokio::test]
async fn a_connection_that_ends_without_a_word_loses_its_streams() {
    let counts = counts(4, |mut connection, _| async move {
        drop(connection.accept().await);
    })
    .await;
    assert_eq!((counts.answered, counts.refused), (0, 0), "{counts:?}");
    assert!(counts.lost() >= 4);
}

#[tokio::test]
async fn a_goaway_because_of_an_error_loses_its_streams() {
    let counts = counts(4, |mut connection, _| async move {
        let stream = connection.accept().await;
        connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
        drop(stream);
        while connection.accept().await.is_some() {}
    })
    .await;
    assert_eq!(counts.answered, 0, "{counts:?}");
    assert!(counts.lost() > 0, "{counts:?}");
}
