//! What the meter prints: tables in markdown, or lines of JSON.

use anyhow::Result;
use recluster_loss::{Kind, Loss, Outcome};
use serde_json::{Value, json};

/// One row for each run, one for each kind of client, and the losses.
pub(crate) fn tables(outcomes: &[Outcome]) {
    println!(
        "| contender | server | reloads | requests | requests/s | sent again | lost | old workers gone after |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for outcome in outcomes {
        println!("{}", row(outcome));
    }
    println!("\nLost of sent, by kind of client:\n");
    kinds(outcomes);
    for outcome in outcomes {
        losses(outcome);
    }
}

fn row(outcome: &Outcome) -> String {
    let Outcome { contender, server, reloads, elapsed, tally, longest_farewell, .. } = outcome;
    let sent = tally.sent();
    let answered: u64 = tally.kinds.values().map(|counts| counts.answered).sum();
    let rate = rate(answered, elapsed.as_secs_f64());
    let (refused, lost, farewell) = (tally.refused(), tally.lost(), longest_farewell.as_secs_f64());
    format!(
        "| {contender} | {server} | {reloads} | {sent} | {rate:.0} | {refused} | **{lost}** | {farewell:.2} s |"
    )
}

#[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
fn rate(answered: u64, seconds: f64) -> f64 {
    answered as f64 / seconds
}

fn kinds(outcomes: &[Outcome]) {
    let heads = outcomes.iter().map(|outcome| format!(" {}, {} |", outcome.contender, outcome.server));
    println!("| clients |{}", heads.collect::<String>());
    println!("| --- |{}", " ---: |".repeat(outcomes.len()));
    for kind in Kind::ALL {
        let counts: Vec<_> = outcomes.iter().map(|outcome| outcome.tally.of(kind)).collect();
        if counts.iter().any(|counts| counts.sent() > 0) {
            let cells = counts.iter().map(|counts| match counts.sent() {
                0 => " — |".to_owned(),
                sent => format!(" {} of {sent} |", counts.lost()),
            });
            println!("| {kind} |{}", cells.collect::<String>());
        }
    }
}

fn losses(outcome: &Outcome) {
    let Outcome { contender, server, killed, excused, scrapes, .. } = outcome;
    if *killed > 0 {
        println!(
            "\n{contender}, {server}: {killed} workers were killed, with {} requests in them.",
            excused.len()
        );
    }
    if *scrapes > 0 {
        println!(
            "\n{contender}, {server}: watched by 50 who followed events, by top and a page; /metrics was scraped {scrapes} times."
        );
    }
    if outcome.tally.lost() > 0 {
        println!("\nWhat {contender} lost with {server}:\n");
        for ((kind, story), count) in outcome.stories() {
            println!("- {count} × {kind}: {story}");
        }
    }
}

/// One line for each run.
pub(crate) fn json(outcomes: &[Outcome]) -> Result<()> {
    for outcome in outcomes {
        println!("{}", serde_json::to_string(&value(outcome))?);
    }
    Ok(())
}

fn value(outcome: &Outcome) -> Value {
    let kinds = outcome.tally.kinds.iter().map(|(kind, counts)| {
        let value = json!({
            "sent": counts.sent(), "answered": counts.answered, "refused": counts.refused, "lost": counts.lost(),
        });
        (kind.name().to_owned(), value)
    });
    json!({
        "contender": outcome.contender.name(),
        "server": outcome.server.name(),
        "reloads": outcome.reloads,
        "seconds": outcome.elapsed.as_secs_f64(),
        "requests": outcome.tally.sent(),
        "refused": outcome.tally.refused(),
        "lost": outcome.tally.lost(),
        "longest_farewell_seconds": outcome.longest_farewell.as_secs_f64(),
        "killed": outcome.killed,
        "scrapes": outcome.scrapes,
        "kinds": kinds.collect::<serde_json::Map<_, _>>(),
        "losses": outcome.tally.losses().map(loss).collect::<Vec<_>>(),
        "excused": outcome.excused.iter().map(loss).collect::<Vec<_>>(),
    })
}

fn loss(loss: &Loss) -> Value {
    json!({
        "kind": loss.kind.name(),
        "seconds": loss.at.as_secs_f64(),
        "what": loss.story(),
        "bytes": loss.bytes,
        "worker": loss.worker,
        "port": loss.port,
    })
}
