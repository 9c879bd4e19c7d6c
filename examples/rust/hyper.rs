//! A server of hyper alone, with a loop of its own.
//!
//!     cargo run -p recluster-examples --bin hyper
//!     cargo build -p recluster-examples && recluster -w 2 -l http=127.0.0.1:8080 target/debug/hyper
//!     curl http://127.0.0.1:8080/

use std::{convert::Infallible, env, io, pin::pin, process};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut shutdown = pin!(recluster_worker::shutdown()?.requested());
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = recluster_worker::listen(&format!("http=127.0.0.1:{port}"))?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    println!("{} listens on http://{}", process::id(), listener.local_addr()?);

    recluster_worker::ready()?;
    let connections = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = &mut shutdown => break,
        };
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
    println!("{} has cleaned up", process::id());
    Ok(())
}

async fn answer(_request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let slot = recluster_worker::worker_id().map(|slot| slot.to_string()).unwrap_or_default();
    let generation = recluster_worker::generation().map(|count| count.to_string()).unwrap_or_default();
    let pid = process::id();
    Ok(Response::new(format!("{{\"worker\":\"{slot}\",\"pid\":{pid},\"generation\":\"{generation}\"}}\n")))
}
