//! A server of the standard library alone, with a thread for each connection.
//!
//!     cargo run -p recluster-examples --bin threads
//!     cargo build -p recluster-examples && recluster -w 2 -l http=127.0.0.1:8080 target/debug/threads
//!     curl http://127.0.0.1:8080/

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::{env, process, thread};

fn main() -> io::Result<()> {
    let shutdown = recluster_worker::shutdown()?;
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let listener = recluster_worker::listen(&format!("http=127.0.0.1:{port}"))?;
    println!("{} listens on http://{}", process::id(), listener.local_addr()?);

    recluster_worker::ready()?;
    // The scope ends when every thread in it has: every request that was accepted is answered.
    thread::scope(|scope| {
        for connection in shutdown.incoming(&listener) {
            scope.spawn(|| {
                if let Err(error) = connection.and_then(|stream| answer(&stream)) {
                    eprintln!("a connection failed: {error}");
                }
            });
        }
    });
    println!("{} has cleaned up", process::id());
    Ok(())
}

/// Answers one request, whatever it asks.
fn answer(mut stream: &TcpStream) -> io::Result<()> {
    let mut head = BufReader::new(stream).lines();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = who_answers();
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
    stream.shutdown(Shutdown::Write)
}

fn who_answers() -> String {
    let slot = recluster_worker::worker_id().map(|slot| slot.to_string()).unwrap_or_default();
    let generation = recluster_worker::generation().map(|count| count.to_string()).unwrap_or_default();
    format!("{{\"worker\":\"{slot}\",\"pid\":{},\"generation\":\"{generation}\"}}\n", process::id())
}
