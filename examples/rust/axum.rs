//! An axum server that shuts down gracefully.
//!
//!     cargo run -p recluster-examples --bin axum
//!     cargo build -p recluster-examples && recluster -w 2 -l http=127.0.0.1:8080 target/debug/axum
//!     curl http://127.0.0.1:8080/

use std::{env, io, process};

use axum::{Router, routing::get};

#[tokio::main]
async fn main() -> io::Result<()> {
    let shutdown = recluster_worker::shutdown()?;
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = recluster_worker::listen(&format!("http=127.0.0.1:{port}"))?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    println!("{} listens on http://{}", process::id(), listener.local_addr()?);

    let app = Router::new().route("/", get(async || who_answers()));
    recluster_worker::ready()?;
    axum::serve(listener, app).with_graceful_shutdown(shutdown.requested()).await?;
    println!("{} has cleaned up", process::id());
    Ok(())
}

fn who_answers() -> String {
    let slot = recluster_worker::worker_id().map(|slot| slot.to_string()).unwrap_or_default();
    let generation = recluster_worker::generation().map(|count| count.to_string()).unwrap_or_default();
    format!("{{\"worker\":\"{slot}\",\"pid\":{},\"generation\":\"{generation}\"}}\n", process::id())
}
