//! HTTP/1.

use recluster_loss::{Cause, Endpoint, Kind, Loss};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::server::{Server, answer, counts, load, request, requests, say};

/// The only kind of loss that a client has against this server.
async fn only_loss<F>(kind: Kind, serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Loss
where
    F: Future<Output = ()> + Send + 'static,
{
    let counts = Server::start(serve).await.counts(kind, 2).await;
    assert_eq!((counts.answered, counts.refused), (0, 0), "{counts:?}");
    let stories: Vec<String> = counts.losses.iter().map(Loss::story).collect();
    assert!(stories.iter().all(|story| *story == stories[0]), "{stories:?}");
    counts.losses.into_iter().next().unwrap()
}

#[tokio::test]
async fn no_answer_is_a_loss() {
    let loss = only_loss(Kind::KeepAlive, |mut stream, _| async move {
        request(&mut stream).await;
    })
    .await;
    assert_eq!((loss.cause, loss.bytes, loss.worker), (Cause::Closed, 0, None));
    assert!(loss.port.is_some());
}

#[tokio::test]
async fn a_reset_is_a_loss() {
    let loss = only_loss(Kind::KeepAlive, |stream, _| async move {
        // What closes with something unread is reset by the kernel.
        stream.readable().await.unwrap();
    })
    .await;
    assert_eq!((loss.cause, loss.bytes), (Cause::Reset, 0));
}

#[tokio::test]
async fn half_a_body_is_a_loss() {
    let loss = only_loss(Kind::KeepAlive, |mut stream, _| async move {
        request(&mut stream).await;
        say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    })
    .await;
    assert_eq!((loss.story().as_str(), loss.bytes), ("answer cut: connection closed", 43));
}

#[tokio::test]
async fn a_stream_without_its_end_is_a_loss() {
    let loss = only_loss(Kind::Slow, |mut stream, _| async move {
        let n = request(&mut stream).await.unwrap_or_default();
        let chunk = format!("{n}: 0 of 10\n");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        say(&mut stream, &format!("{head}{:x}\r\n{chunk}\r\n", chunk.len())).await;
    })
    .await;
    assert_eq!(loss.story(), "answer cut: connection closed");
}

#[tokio::test]
async fn an_answer_to_something_else_is_a_loss() {
    let loss = only_loss(Kind::KeepAlive, |mut stream, _| async move {
        request(&mut stream).await;
        say(&mut stream, &answer("something else", "")).await;
    })
    .await;
    assert_eq!((loss.cause, loss.worker), (Cause::WrongBody, Some(4711)));
}

#[tokio::test]
async fn a_stream_with_a_chunk_missing_is_a_loss() {
    let loss = only_loss(Kind::Slow, |mut stream, _| async move {
        request(&mut stream).await;
        say(&mut stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n").await;
    })
    .await;
    assert_eq!(loss.cause, Cause::WrongBody);
}

#[tokio::test]
async fn an_error_of_the_server_s_is_a_loss() {
    let loss = only_loss(Kind::KeepAlive, |mut stream, _| async move {
        request(&mut stream).await;
        say(&mut stream, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    assert_eq!(loss.cause, Cause::Status(503));
}

#[tokio::test]
async fn what_is_no_http_is_a_loss() {
    let loss = only_loss(Kind::KeepAlive, |mut stream, _| async move {
        request(&mut stream).await;
        say(&mut stream, "SSH-2.0-nothing\r\n\r\n").await;
    })
    .await;
    assert!(matches!(loss.cause, Cause::Garbage(_)), "{loss:?}");
}

#[tokio::test]
async fn an_upload_that_is_cut_off_is_a_loss() {
    let loss = only_loss(Kind::Upload, |mut stream, _| async move {
        request(&mut stream).await;
    })
    .await;
    assert_eq!(loss.cause, Cause::Reset);
}

#[tokio::test]
async fn where_nobody_listens_the_connection_is_lost() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::tcp(listener.local_addr().unwrap().port());
    drop(listener);
    let counts = counts(&endpoint, Kind::New, 2).await;
    assert!(counts.losses.iter().all(|loss| matches!(loss.cause, Cause::Connect(_))), "{counts:?}");
    assert_eq!(counts.sent(), counts.lost());
}

#[tokio::test]
async fn silence_is_a_loss() {
    let (sender, mut connections) = mpsc::channel(1);
    let server = Server::start(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            request(&mut stream).await;
            sender.send(stream).await.unwrap();
        }
    })
    .await;
    let load = load(&server.endpoint, Kind::KeepAlive);
    let _open = connections.recv().await.unwrap();
    tokio::time::pause();
    let counts = load.finish().await.of(Kind::KeepAlive);
    assert_eq!((counts.sent(), counts.lost()), (1, 1));
    assert_eq!(counts.losses[0].cause, Cause::Silence);
}

#[tokio::test]
async fn a_connection_that_is_closed_as_announced_loses_nothing() {
    let server = Server::start(|mut stream, _| async move {
        let n = request(&mut stream).await.unwrap_or_default();
        say(&mut stream, &answer(&n, "Connection: close\r\n")).await;
    })
    .await;
    let counts = server.counts(Kind::KeepAlive, 3).await;
    assert_eq!((counts.lost(), counts.sent()), (0, server.accepted() as u64));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_idle_loses_nothing() {
    let server = Server::start(|mut stream, _| async move {
        let n = request(&mut stream).await.unwrap_or_default();
        say(&mut stream, &answer(&n, "")).await;
    })
    .await;
    let counts = server.counts(Kind::KeepAlive, 3).await;
    assert_eq!((counts.lost(), counts.sent()), (0, server.accepted() as u64));
}

#[tokio::test]
async fn a_fresh_connection_that_was_closed_before_its_request_loses_nothing() {
    let server = Server::start(|mut stream, which| async move {
        if which % 2 == 1 {
            let n = request(&mut stream).await.unwrap_or_default();
            say(&mut stream, &answer(&n, "")).await;
        }
    })
    .await;
    let counts = server.counts(Kind::Held, 2).await;
    assert_eq!(counts.lost(), 0, "{counts:?}");
    assert!(counts.answered >= 2);
}

#[tokio::test]
async fn a_connection_whose_announced_time_is_nearly_over_is_not_used() {
    let server = Server::start(|mut stream, _| async move {
        while let Some(n) = request(&mut stream).await {
            say(&mut stream, &answer(&n, "Keep-Alive: timeout=0\r\n")).await;
        }
    })
    .await;
    let counts = server.counts(Kind::KeepAlive, 3).await;
    assert_eq!((counts.lost(), counts.sent()), (0, server.accepted() as u64));
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let server = Server::start(|mut stream, _| async move {
        while let Some(n) = request(&mut stream).await {
            say(&mut stream, "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n").await;
            say(&mut stream, &answer(&n, "")).await;
        }
    })
    .await;
    let counts = server.counts(Kind::KeepAlive, 3).await;
    assert_eq!((counts.lost(), counts.refused, server.accepted()), (0, 0, 1));
}

#[tokio::test]
async fn requests_behind_an_answer_that_closes_are_refused_and_sent_again() {
    let server = Server::start(|mut stream, which| async move {
        let numbers = requests(&mut stream, 4).await;
        let answered = if which % 2 == 0 { 1 } else { numbers.len() };
        for (place, n) in numbers.iter().enumerate().take(answered) {
            let last = if place + 1 == answered { "Connection: close\r\n" } else { "" };
            say(&mut stream, &answer(n, last)).await;
        }
    })
    .await;
    let counts = server.counts(Kind::Pipelined, 8).await;
    assert_eq!(counts.lost(), 0, "{counts:?}");
    assert_eq!(counts.refused % 3, 0, "{counts:?}");
    assert!(counts.refused > 0 && counts.answered > counts.refused, "{counts:?}");
}

#[tokio::test]
async fn requests_that_were_refused_and_are_not_answered_then_are_lost() {
    let server = Server::start(|mut stream, which| async move {
        let numbers = requests(&mut stream, 4).await;
        if let Some(n) = numbers.first().filter(|_| which == 0) {
            say(&mut stream, &answer(n, "Connection: close\r\n")).await;
        }
    })
    .await;
    let counts = server.counts(Kind::Pipelined, 8).await;
    assert_eq!((counts.answered, counts.refused), (1, 3), "{counts:?}");
    assert!(counts.lost() >= 3, "{counts:?}");
}

#[tokio::test]
async fn requests_behind_an_end_that_was_not_announced_are_lost() {
    let server = Server::start(|mut stream, _| async move {
        let numbers = requests(&mut stream, 4).await;
        if let Some(n) = numbers.first() {
            say(&mut stream, &answer(n, "")).await;
        }
    })
    .await;
    let counts = server.counts(Kind::Pipelined, 4).await;
    assert_eq!(counts.refused, 0);
    assert_eq!(counts.lost(), 3 * counts.answered, "{counts:?}");
}

#[tokio::test]
async fn answers_in_the_wrong_order_are_lost() {
    let server = Server::start(|mut stream, _| async move {
        let numbers = requests(&mut stream, 4).await;
        for n in numbers.iter().rev() {
            say(&mut stream, &answer(n, "")).await;
        }
    })
    .await;
    let counts = server.counts(Kind::Pipelined, 4).await;
    assert_eq!(counts.answered, 0, "{counts:?}");
    assert_eq!(counts.losses[0].cause, Cause::WrongBody);
}

#[tokio::test]
async fn a_burst_comes_to_an_end_where_each_answer_closes() {
    let server = Server::start(|mut stream, _| async move {
        if let Some(n) = requests(&mut stream, 1).await.first() {
            say(&mut stream, &answer(n, "Connection: close\r\n")).await;
        }
    })
    .await;
    let counts = server.counts(Kind::Pipelined, 8).await;
    assert!(counts.losses.is_empty() && counts.answered > 0, "{counts:?}");
}

#[tokio::test]
async fn behind_a_plain_endpoint_any_whole_answer_will_do() {
    let server = Server::start(|mut stream, _| async move {
        let mut head = [0; 4096];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.is_ok_and(|length| length > 0) {
            assert!(head.starts_with(b"GET / HTTP/1.1\r\n"));
            say(&mut stream, &answer("anything", "")).await;
        }
    })
    .await;
    let endpoint = Endpoint { plain: true, ..server.endpoint.clone() };
    for kind in [Kind::KeepAlive, Kind::New, Kind::Held] {
        let counts = counts(&endpoint, kind, 3).await;
        assert!(counts.losses.is_empty() && counts.answered >= 3, "{kind}: {counts:?}");
    }
}

#[tokio::test]
async fn behind_a_plain_endpoint_half_an_answer_is_a_loss() {
    let server = Server::start(|mut stream, _| async move {
        request(&mut stream).await;
        say(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    })
    .await;
    let endpoint = Endpoint { plain: true, ..server.endpoint.clone() };
    let counts = counts(&endpoint, Kind::New, 1).await;
    assert_eq!(counts.answered, 0);
    assert_eq!(counts.losses[0].story(), "answer cut: connection closed");
}
