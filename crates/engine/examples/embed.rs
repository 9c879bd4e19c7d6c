//! A cluster inside a program of one's own: starts a Node server, prints what happens, reloads it and stops it.
//!
//! ```text
//! PORT=0 cargo run -p recluster --example embed -- examples/http/server.js
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use recluster::{Cluster, Events, Heard};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Some(server) = std::env::args_os().nth(1) else {
        eprintln!("usage: embed SERVER");
        return Ok(ExitCode::from(2));
    };
    let builder = Cluster::builder(server).workers(2).bake(Duration::from_millis(100));
    // Subscribed before the start, nothing that happens is missed.
    let narrator = tokio::spawn(narrate(builder.subscribe()));
    let cluster = builder.start().await?;

    let outcome = cluster.started().await;
    if outcome.is_ok() {
        match cluster.reload().await {
            Ok(()) => println!("every worker runs the new code"),
            Err(why) => println!("the old workers serve on: {why}"),
        }
        cluster.stop().await?;
    }
    narrator.await?;
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Some(failure)) => Err(format!("it never served: {failure}").into()),
        Err(None) => Err("it was told to end before it served".into()),
    }
}

/// Prints events until the cluster has ended.
async fn narrate(mut events: Events) {
    while let Some(heard) = events.next().await {
        match heard {
            Heard::Event(event) => println!("{event:?}"),
            Heard::Missed(count) => println!("{count} events came too fast to be printed"),
        }
    }
}
