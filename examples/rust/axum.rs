//! An axum server that shuts down gracefully.
//!
//!     cargo run -p recluster-examples --bin axum
//!     cargo build -p recluster-examples && recluster -w 2 -l http=127.0.0.1:8080 target/debug/axum
//!     curl http://127.0.0.1:8080/

use std::{env, future, io, net::SocketAddr, process, time::Duration};

use axum::{Router, http::header::CONNECTION, middleware::map_response, routing::get, serve::Listener};
use tokio::net::{TcpListener, TcpStream};

/// How long clients that keep their connections have to hear that they are to leave.
const LINGER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> io::Result<()> {
    let shutdown = recluster_worker::shutdown()?;
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = recluster_worker::listen(&format!("http=127.0.0.1:{port}"))?;
    let listener = Until(shutdown.clone(), TcpListener::from_std(listener)?);
    println!("{} listens on http://{}", process::id(), listener.local_addr()?);
    let leaving = shutdown.clone();
    let app = Router::new().route("/", get(async || who_answers()));
    let app = app.layer(map_response(move |answer: axum::response::Response| {
        future::ready((leaving.is_requested().then_some([(CONNECTION, "close")]), answer))
    }));
    recluster_worker::ready()?;
    let lingered = async {
        shutdown.requested().await;
        tokio::time::sleep(LINGER).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(lingered).await?;
    println!("{} has cleaned up", process::id());
    Ok(())
}

/// A listener that accepts nobody once shutdown is requested.
struct Until(recluster_worker::Shutdown, TcpListener);

impl Listener for Until {
    type Io = TcpStream;
    type Addr = SocketAddr;
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        tokio::select! {
            () = self.0.clone().requested() => future::pending().await,
            accepted = Listener::accept(&mut self.1) => accepted,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.1.local_addr()
    }
}

fn who_answers() -> String {
    let slot = recluster_worker::worker_id().map(|slot| slot.to_string()).unwrap_or_default();
    let generation = recluster_worker::generation().map(|count| count.to_string()).unwrap_or_default();
    format!("{{\"worker\":\"{slot}\",\"pid\":{},\"generation\":\"{generation}\"}}\n", process::id())
}
