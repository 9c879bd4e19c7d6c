//! A status as a table.

use recluster::{ListenerStatus, ReloadStatus, Status, WorkerStatus};

use crate::paint::{Paint, printable};

/// The titles of the columns.
const TITLES: [&str; 12] = [
    "SLOT",
    "WORKER",
    "PID",
    "GENERATION",
    "STATE",
    "UPTIME",
    "RESTARTS",
    "MEMORY",
    "CPU",
    "CONNECTIONS",
    "TIME LEFT",
    "SAYS",
];

/// The column of the state, which has a colour.
const STATE: usize = 4;

/// One line of the table.
type Row = [String; TITLES.len()];

/// The whole status: a line about the cluster, one about where it listens, and a row for each slot and for each
/// worker that is not the active one of its slot.
pub(super) fn table(name: &str, status: &Status, paint: Paint) -> String {
    let mut lines = vec![format!(
        "{}: {}, pid {}, generation {}, up {}, {}",
        paint.bold(&printable(name)),
        status.phase,
        status.pid,
        status.generation,
        span(status.uptime_seconds),
        status
            .sticky_by
            .as_ref()
            .map_or_else(|| status.balance.clone(), |by| format!("{} by {by}", status.balance)),
    )];
    if !status.listeners.is_empty() {
        let listeners = status.listeners.iter().map(|listener| listens_on(listener, &status.balance));
        lines.push(format!("listens on {}", printable(&listeners.collect::<Vec<_>>().join(", "))));
    }
    if status.stolen > 0 || status.requeued > 0 {
        lines.push(format!("connections moved: {} stolen, {} requeued", status.stolen, status.requeued));
    }
    if let Some(ReloadStatus { generation, serving, of, .. }) = &status.reload {
        lines.push(format!("reloads: {serving} of {of} serve generation {generation}"));
    }
    lines.push(String::new());
    lines.join("\n") + "\n" + &rows_as_text(&rows(status), paint)
}

/// An address, and how connections reach workers from there if that is not what was asked for.
fn listens_on(listener: &ListenerStatus, wanted: &str) -> String {
    let ListenerStatus { address, balance, .. } = listener;
    if balance == wanted { address.clone() } else { format!("{address} ({balance})") }
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

fn row(worker: &WorkerStatus, restarts: &str, connections: u64) -> Row {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        worker.slot.to_string(),
        worker.id.to_string(),
        or_dash(worker.pid.map(|pid| pid.to_string())),
        worker.generation.to_string(),
        worker.state.clone(),
        span(worker.uptime_seconds),
        restarts.to_owned(),
        or_dash(worker.memory_bytes.map(memory)),
        or_dash(worker.cpu_seconds.map(|seconds| format!("{seconds:.1}s"))),
        connections.to_string(),
        worker.seconds_left.map(span).unwrap_or_default(),
        says(worker),
    ]
}

/// What a worker reports of itself: in its drain, its open connections and requests.
fn says(worker: &WorkerStatus) -> String {
    let held = worker.held.as_ref().map(ToString::to_string);
    held.into_iter().chain(worker.status.clone()).collect::<Vec<_>>().join("; ")
}

/// The row of a slot without an active worker.
fn vacant(slot: u32, restarts: &str, connections: u64) -> Row {
    let mut row = Row::default().map(|_| "-".to_owned());
    let cells = [
        (0, slot.to_string()),
        (STATE, "vacant".to_owned()),
        (6, restarts.to_owned()),
        (9, connections.to_string()),
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

fn rows_as_text(rows: &[Row], paint: Paint) -> String {
    let titles = TITLES.map(str::to_owned);
    let width = |column: usize| {
        let lengths =
            rows.iter().chain([&titles]).filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        lengths.max().unwrap_or(0)
    };
    let widths: [usize; TITLES.len()] = std::array::from_fn(width);
    let mut text = paint.bold(&joined(&titles, &widths, |_, cell| cell)) + "\n";
    for row in rows {
        let paint_state = |column, cell: String| if column == STATE { colour(&cell, paint) } else { cell };
        text += &joined(row, &widths, paint_state);
        text.push('\n');
    }
    text
}

/// The cells of a row, each as wide as its column; `finish` may add what has no width.
fn joined(row: &Row, widths: &[usize], finish: impl Fn(usize, String) -> String) -> String {
    let cells = row.iter().zip(widths).enumerate();
    let padded = cells.map(|(column, (cell, &width))| finish(column, format!("{cell:width$}")));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
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
            "listeners": [
                {"address": "127.0.0.1:8080", "balance": "round-robin"},
                {"address": "unix:/run/\u{1b}app", "balance": "shared"}
            ]
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_cluster_in_the_middle_of_everything() {
        insta::assert_snapshot!(table("shop", &status(), Paint::new(false)));
    }

    #[test]
    fn a_cluster_at_rest_has_fewer_lines() {
        let mut status = status();
        (status.reload, status.listeners) = (None, Vec::new());
        status.slots.truncate(1);
        status.workers.retain(|worker| worker.state == "serving");
        insta::assert_snapshot!(table("shop", &status, Paint::new(false)));
    }

    #[test]
    fn colours_do_not_move_columns() {
        let plain = table("shop", &status(), Paint::new(false));
        let coloured = table("shop", &status(), Paint::new(true));
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
