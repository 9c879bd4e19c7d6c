//! An actix-web server that shuts down gracefully.
//!
//!     cargo run -p recluster-examples --bin actix
//!     cargo build -p recluster-examples && recluster -w 2 -l http=127.0.0.1:8080 target/debug/actix
//!     curl http://127.0.0.1:8080/

use std::{env, io, process};

use actix_web::{App, HttpServer, web};

#[actix_web::main]
async fn main() -> io::Result<()> {
    let shutdown = recluster_worker::shutdown()?;
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = recluster_worker::listen(&format!("http=127.0.0.1:{port}"))?;
    println!("{} listens on http://{}", process::id(), listener.local_addr()?);

    let server = HttpServer::new(|| App::new().route("/", web::get().to(who_answers)))
        .workers(1) // threads of this process: the cluster has processes
        .shutdown_signal(shutdown.requested())
        .listen(listener)?
        .run();
    recluster_worker::ready()?;
    server.await?;
    println!("{} has cleaned up", process::id());
    Ok(())
}

async fn who_answers() -> String {
    let slot = recluster_worker::worker_id().map(|slot| slot.to_string()).unwrap_or_default();
    let generation = recluster_worker::generation().map(|count| count.to_string()).unwrap_or_default();
    format!("{{\"worker\":\"{slot}\",\"pid\":{},\"generation\":\"{generation}\"}}\n", process::id())
}
