//! A status as a table.

use recluster::{LastReload, ListenerStatus, MasterStatus, ReloadStatus, Status, Verdict, WorkerStatus};

use super::columns::{self, Column, Yields, wrapped};
use crate::paint::{Paint, printable};

const COLUMNS: [Column; 12] = [
    column("SLOT", "SLOT", Yields::Never),
    column("WORKER", "ID", Yields::Goes(2)),
    column("PID", "PID", Yields::Never),
    column("GENERATION", "GEN", Yields::Never),
    column("STATE", "STATE", Yields::Never),
    column("UPTIME", "UP", Yields::Goes(4)),
    column("RESTARTS", "RESTARTS", Yields::Goes(5)),
    column("MEMORY", "MEMORY", Yields::Goes(6)),
    column("CPU", "CPU", Yields::Goes(1)),
    column("CONNECTIONS", "CONNS", Yields::Goes(3)),
    column("TIME LEFT", "LEFT", Yields::Never),
    column("SAYS", "SAYS", Yields::Below),
];

/// How many names of variables are shown.
const MOST_NAMES: usize = 12;

/// The column of the state, which has a colour.
const STATE: usize = 4;

/// One line of the table.
type Row = [String; COLUMNS.len()];

const fn column(title: &'static str, short: &'static str, yields: Yields) -> Column {
    Column { title, short, yields }
}

/// The whole status: a line about the cluster, one about where it listens, and a row for each slot and for each
/// worker that is not the active one of its slot.
///
/// With a width, that of a terminal, no line is longer.
pub(super) fn table(name: &str, status: &Status, paint: Paint, width: Option<usize>) -> String {
    let name = printable(name);
    let mut lines: Vec<String> = about(&name, status).iter().flat_map(|line| wrapped(line, width)).collect();
    if let Some(rest) = lines.first().and_then(|line| line.strip_prefix(&name)) {
        let painted = format!("{}{rest}", paint.bold(&name));
        lines.splice(..1, [painted]);
    }
    let colours = |column, cell: String| if column == STATE { colour(&cell, paint) } else { cell };
    let mut rows = columns::lines(&COLUMNS, &rows(status), width, &colours).into_iter();
    let titles = rows.next().map(|titles| paint.bold(&titles));
    lines.push(String::new());
    lines.into_iter().chain(titles).chain(rows).map(|line| line + "\n").collect()
}

/// What is said of the cluster as a whole.
fn about(name: &str, status: &Status) -> Vec<String> {
    let mut lines = vec![format!(
        "{name}: {}, pid {}, generation {}, up {}, {}",
        status.phase,
        status.pid,
        status.generation,
        span(status.uptime_seconds),
        status
            .sticky_by
            .as_ref()
            .map_or_else(|| status.balance.clone(), |by| format!("{} by {by}", status.balance)),
    )];
    let MasterStatus { version, since, upgrades, .. } = &status.master;
    if !version.is_empty() {
        let upgraded = match upgrades {
            0 => String::new(),
            1 => ", upgraded once".to_owned(),
            times => format!(", upgraded {times} times"),
        };
        lines.push(printable(&format!("recluster {version} since {since}{upgraded}")));
    }
    if !status.listeners.is_empty() {
        let listeners = status.listeners.iter().map(|listener| listens_on(listener, &status.balance));
        lines.push(format!("listens on {}", printable(&listeners.collect::<Vec<_>>().join(", "))));
    }
    if let Some(link) = &status.server_link {
        lines.push(printable(&format!("runs {}, by way of {link}", status.server)));
    }
    if !status.env.is_empty() {
        lines.push(printable(&variables(&status.env)));
    }
    if status.stolen > 0 || status.requeued > 0 {
        lines.push(format!("connections moved: {} stolen, {} requeued", status.stolen, status.requeued));
    }
    if let Some(ReloadStatus { generation, serving, of, .. }) = &status.reload {
        lines.push(format!("reloads: {serving} of {of} serve generation {generation}"));
    }
    if let Some(last) = &status.last_reload {
        lines.push(printable(&last_reload(last)));
    }
    lines
}

/// The names of the variables that were given to the workers. Never their values.
fn variables(names: &[String]) -> String {
    let shown = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => format!("sets {shown}"),
        more => format!("sets {shown} and {more} more"),
    }
}

/// How the last reload ended, and why where it failed.
pub(crate) fn last_reload(last: &LastReload) -> String {
    let ago = span(last.seconds_ago);
    let generation = last.generation.map_or("a reload".to_owned(), |number| format!("generation {number}"));
    match &last.verdict {
        Verdict::Done => format!("last reload: {generation} came to serve, {ago} ago"),
        Verdict::RolledBack { failure } => {
            format!("last reload: {generation} was rolled back, {ago} ago: {failure}")
        }
        Verdict::StoppedPartWay { replaced, of, failure } => {
            format!("last reload: {generation} was stopped at {replaced} of {of}, {ago} ago: {failure}")
        }
        Verdict::Refused { reason } => format!("last reload: refused, {ago} ago: {reason}"),
        Verdict::Abandoned => format!("last reload: abandoned, {ago} ago: the cluster is to end"),
    }
}

/// An address, and how connections reach workers from there if that is not what was asked for, with the reason.
fn listens_on(listener: &ListenerStatus, wanted: &str) -> String {
    let ListenerStatus { address, balance, reason, .. } = listener;
    match reason {
        _ if balance == wanted => address.clone(),
        None => format!("{address} ({balance})"),
        Some(reason) => format!("{address} ({balance}, since {reason})"),
    }
}

fn rows(status: &Status) -> Vec<Row> {
    let worker = |id: u64| status.workers.iter().find(|worker| worker.id == id);
    let mut rows: Vec<Row> = Vec::new();
    for slot in &status.slots {
        let restarts = slot.restarts.to_string();
        rows.push(match slot.active.and_then(worker) {
            Some(active) => row(active, &restarts, slot.connections),
            None => vacant(slot.slot, &restarts, slot.connections),
        });
    }
    let is_active = |id: u64| status.slots.iter().any(|slot| slot.active == Some(id));
    rows.extend(
        status
            .workers
            .iter()
            .filter(|worker| !is_active(worker.id))
            .map(|worker| row(worker, "", worker.connections)),
    );
    rows
}

fn row(worker: &WorkerStatus, restarts: &str, connections: Option<u64>) -> Row {
    [
        worker.slot.to_string(),
        worker.id.to_string(),
        or_dash(worker.pid.map(|pid| pid.to_string())),
        worker.generation.to_string(),
        worker.state_now().to_owned(),
        span(worker.uptime_seconds),
        restarts.to_owned(),
        or_dash(worker.memory_bytes.map(memory)),
        or_dash(worker.cpu_seconds.map(|seconds| format!("{seconds:.1}s"))),
        or_dash(connections.map(|count| count.to_string())),
        worker.seconds_left.map(span).unwrap_or_default(),
        says(worker),
    ]
}

/// What is not known is a dash.
fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

/// What a worker reports of itself: in its drain, its open connections and requests.
fn says(worker: &WorkerStatus) -> String {
    let held = worker.held.as_ref().map(ToString::to_string);
    held.into_iter().chain(worker.status.clone()).collect::<Vec<_>>().join("; ")
}

/// The row of a slot without an active worker.
fn vacant(slot: u32, restarts: &str, connections: Option<u64>) -> Row {
    let mut row = Row::default().map(|_| "-".to_owned());
    let cells = [
        (0, slot.to_string()),
        (STATE, "vacant".to_owned()),
        (6, restarts.to_owned()),
        (9, or_dash(connections.map(|count| count.to_string()))),
        (10, String::new()),
        (11, String::new()),
    ];
    for (column, cell) in cells {
        if let Some(place) = row.get_mut(column) {
            *place = cell;
        }
    }
    row
}

fn colour(state: &str, paint: Paint) -> String {
    match state.trim_end() {
        "serving" => paint.green(state),
        "vacant" => paint.red(state),
        "starting" | "ready" => paint.yellow(state),
        _ => paint.dim(state),
    }
}

/// A span of time in its two greatest units.
fn span(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a float saturates"
    )]
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

fn memory(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    let tenths = bytes.saturating_mul(10) / MIB;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> Status {
        let worker = |id: u64, slot: u32, generation: u64, state: &str, left: Option<f64>| {
            json!({
                "id": id, "slot": slot, "generation": generation, "pid": 4700 + id, "state": state,
                "seconds_left": left, "uptime_seconds": 7265.2, "memory_bytes": 47_395_635, "cpu_seconds": 12.34,
                "connections": 7
            })
        };
        let slot = |slot: u32, active: Option<u64>, restarts: u64| json!({"slot": slot, "active": active, "restarts": restarts, "connections": 1007});
        let json = json!({
            "pid": 4700, "phase": "running", "generation": 2, "uptime_seconds": 93_784.0, "balance": "round-robin",
            "reload": {"generation": 3, "serving": 1, "of": 2},
            "slots": [slot(0, Some(5), 0), slot(1, None, 12)],
            "workers": [worker(1, 0, 1, "draining", Some(25.0)), worker(5, 0, 2, "serving", None), worker(6, 1, 3, "starting", Some(59.6))],
            "stolen": 3, "requeued": 1,
            "server": "/srv/releases/2/server.js", "server_link": "/srv/current/server.js",
            "env": (1..=14).map(|number| format!("NAME{number}")).collect::<Vec<_>>(),
            "listeners": [
                {"address": "127.0.0.1:8080", "balance": "round-robin"},
                {"address": "unix:/run/\u{1b}app", "balance": "shared", "reason": "its program accepts by itself"}
            ]
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_cluster_in_the_middle_of_everything() {
        insta::assert_snapshot!(table("shop", &status(), Paint::new(false), None));
    }

    #[test]
    fn a_cluster_at_rest_has_fewer_lines() {
        let mut status = status();
        (status.reload, status.listeners) = (None, Vec::new());
        status.slots.truncate(1);
        status.workers.retain(|worker| worker.state == "serving");
        insta::assert_snapshot!(table("shop", &status, Paint::new(false), None));
    }

    /// A cluster with an old worker that says much.
    fn busy() -> Status {
        let mut status = status();
        let failure = json!({
            "worker": {"id": 4, "slot": 1, "generation": 2, "pid": 4704}, "reason": "exited with status 1 before it served",
            "failures": 3, "stderr": [], "hint": null
        });
        let last =
            json!({"generation": 2, "seconds_ago": 95.0, "verdict": "rolled_back", "failure": failure});
        status.last_reload = serde_json::from_value(last).unwrap();
        status.slots[1].connections = None;
        status.workers[0].status = Some("5 open connections, 2 requests in progress".to_owned());
        status
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        for width in [40, 60, 80, 100, 120, 160] {
            let table = table("shop", &busy(), Paint::new(false), Some(width));
            let longest = table.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= width, "{longest} > {width}\n{table}");
        }
        insta::assert_snapshot!(table("shop", &busy(), Paint::new(false), Some(80)), @r"
        shop: running, pid 4700, generation 2, up 1d 2h, round-robin
        listens on 127.0.0.1:8080, unix:/run/�app (shared, since its program accepts by
          itself)
        runs /srv/releases/2/server.js, by way of /srv/current/server.js
        sets NAME1, NAME2, NAME3, NAME4, NAME5, NAME6, NAME7, NAME8, NAME9, NAME10,
          NAME11, NAME12 and 2 more
        connections moved: 3 stolen, 1 requeued
        reloads: 1 of 2 serve generation 3
        last reload: generation 2 was rolled back, 1m 35s ago: worker 4 (slot 1, pid
          4704) exited with status 1 before it served, failure 3 of its slot

        SLOT  ID  PID   GEN  STATE     UP     RESTARTS  MEMORY    CPU    CONNS  LEFT
        0     5   4705  2    serving   2h 1m  0         45.1 MiB  12.3s  1007
        1     -   -     -    vacant    -      12        -         -      -
        0     1   4701  1    draining  2h 1m            45.1 MiB  12.3s  7      25s
              5 open connections, 2 requests in progress
        1     6   4706  3    starting  2h 1m            45.1 MiB  12.3s  7      1m 0s
        ");
        insta::assert_snapshot!(table("shop", &busy(), Paint::new(false), Some(100)), @r"
        shop: running, pid 4700, generation 2, up 1d 2h, round-robin
        listens on 127.0.0.1:8080, unix:/run/�app (shared, since its program accepts by itself)
        runs /srv/releases/2/server.js, by way of /srv/current/server.js
        sets NAME1, NAME2, NAME3, NAME4, NAME5, NAME6, NAME7, NAME8, NAME9, NAME10, NAME11, NAME12 and 2
          more
        connections moved: 3 stolen, 1 requeued
        reloads: 1 of 2 serve generation 3
        last reload: generation 2 was rolled back, 1m 35s ago: worker 4 (slot 1, pid 4704) exited with
          status 1 before it served, failure 3 of its slot

        SLOT  ID  PID   GEN  STATE     UP     RESTARTS  MEMORY    CPU    CONNS  LEFT
        0     5   4705  2    serving   2h 1m  0         45.1 MiB  12.3s  1007
        1     -   -     -    vacant    -      12        -         -      -
        0     1   4701  1    draining  2h 1m            45.1 MiB  12.3s  7      25s
              5 open connections, 2 requests in progress
        1     6   4706  3    starting  2h 1m            45.1 MiB  12.3s  7      1m 0s
        ");
    }

    #[test]
    fn how_the_last_reload_ended() {
        let failure = json!({
            "worker": {"id": 4, "slot": 1, "generation": 2, "pid": 4704}, "reason": "exited", "failures": 1, "stderr": [],
            "hint": null
        });
        let verdicts = [
            json!({"generation": 2, "seconds_ago": 5.0, "verdict": "done"}),
            json!({"generation": 2, "seconds_ago": 5.0, "verdict": "rolled_back", "failure": failure}),
            json!({"generation": 2, "seconds_ago": 5.0, "verdict": "stopped_part_way", "replaced": 1, "of": 2, "failure": failure}),
            json!({"generation": null, "seconds_ago": 5.0, "verdict": "refused", "reason": "recluster.toml:1:1: unknown key 'x'"}),
            json!({"generation": null, "seconds_ago": 5.0, "verdict": "abandoned"}),
        ];
        let lines = verdicts.map(|verdict| last_reload(&serde_json::from_value(verdict).unwrap()));
        insta::assert_snapshot!(lines.join("\n"), @r"
        last reload: generation 2 came to serve, 5s ago
        last reload: generation 2 was rolled back, 5s ago: worker 4 (slot 1, pid 4704) exited
        last reload: generation 2 was stopped at 1 of 2, 5s ago: worker 4 (slot 1, pid 4704) exited
        last reload: refused, 5s ago: recluster.toml:1:1: unknown key 'x'
        last reload: abandoned, 5s ago: the cluster is to end
        ");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let plain = table("shop", &status(), Paint::new(false), None);
        let coloured = table("shop", &status(), Paint::new(true), None);
        let mut without = String::new();
        let mut pieces = coloured.split("\x1b[");
        without += pieces.next().unwrap();
        for piece in pieces {
            without += piece.split_once('m').unwrap().1;
        }
        assert_ne!(coloured, plain);
        assert_eq!(without, plain);
    }

    #[test]
    fn spans_have_two_units() {
        let golden = [
            (0.4, "0s"),
            (59.0, "59s"),
            (61.0, "1m 1s"),
            (3599.9, "1h 0m"),
            (90_061.0, "1d 1h"),
            (-1.0, "0s"),
        ];
        for (seconds, text) in golden {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(span(f64::NAN), "0s");
    }

    #[test]
    fn memory_is_in_mebibytes() {
        assert_eq!(memory(0), "0.0 MiB");
        assert_eq!(memory(1024 * 1024 * 3 / 2), "1.5 MiB");
        assert!(memory(u64::MAX).ends_with(" MiB"));
    }
}
