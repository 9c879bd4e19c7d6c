//! A server of hyper alone, with a loop of its own.
//!
//!     cargo run -p recluster-examples --bin hyper
//!     cargo build -p recluster-examples && recluster -w 2 -l http=127.0.0.1:8080 target/debug/hyper
//!     curl http://127.0.0.1:8080/

use std::{convert::Infallible, env, future::ready, io, pin::pin, process, time::Duration};

use hyper::{Response, header::CONNECTION, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};

/// How long clients that keep their connections have to hear that they are to leave.
const LINGER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> io::Result<()> {
    let shutdown = recluster_worker::shutdown()?;
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = recluster_worker::listen(&format!("http=127.0.0.1:{port}"))?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    println!("{} listens on http://{}", process::id(), listener.local_addr()?);

    recluster_worker::ready()?;
    let connections = GracefulShutdown::new();
    let mut requested = pin!(shutdown.clone().requested());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = &mut requested => break,
        };
        let leaving = shutdown.clone();
        let service = service_fn(move |_| ready(Ok::<_, Infallible>(answer(leaving.is_requested()))));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
    drop(listener);
    tokio::time::sleep(LINGER).await;
    connections.shutdown().await;
    println!("{} has cleaned up", process::id());
    Ok(())
}

/// The last answer on a connection says that it is.
fn answer(last: bool) -> Response<String> {
    let slot = recluster_worker::worker_id().map(|slot| slot.to_string()).unwrap_or_default();
    let generation = recluster_worker::generation().map(|count| count.to_string()).unwrap_or_default();
    let pid = process::id();
    let body = format!("{{\"worker\":\"{slot}\",\"pid\":{pid},\"generation\":\"{generation}\"}}\n");
    let response = if last { Response::builder().header(CONNECTION, "close") } else { Response::builder() };
    response.body(body).expect("a valid header")
}
