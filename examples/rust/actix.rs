//! An actix-web server that shuts down gracefully.
//!
//!     cargo run -p recluster-examples --bin actix
//!     cargo build -p recluster-examples && recluster -w 2 -l http=127.0.0.1:8080 target/debug/actix
//!     curl http://127.0.0.1:8080/

use std::{env, io, process, time::Duration};

use actix_web::http::ConnectionType;
use actix_web::{App, HttpServer, dev::Service as _, rt, web};

/// How long clients that keep their connections have to hear that they are to leave.
const LINGER: Duration = Duration::from_secs(1);

#[actix_web::main]
async fn main() -> io::Result<()> {
    let shutdown = recluster_worker::shutdown()?;
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = recluster_worker::listen(&format!("http=127.0.0.1:{port}"))?;
    println!("{} listens on http://{}", process::id(), listener.local_addr()?);

    let leaving = shutdown.clone();
    let app = move || {
        let leaving = leaving.clone();
        let app = App::new().route("/", web::get().to(who_answers));
        app.wrap_fn(move |request, service| {
            let (leaving, answer) = (leaving.clone(), service.call(request));
            async move {
                let mut response = answer.await?;
                if leaving.is_requested() {
                    response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
                }
                Ok(response)
            }
        })
    };
    // One thread in each process: the cluster has processes.
    let server = HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run();
    let handle = server.handle();
    rt::spawn(async move {
        shutdown.requested().await;
        handle.pause().await; // it accepts no more
        rt::time::sleep(LINGER).await;
        handle.stop(true).await;
    });
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
