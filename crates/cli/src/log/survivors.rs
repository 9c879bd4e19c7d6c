//! Words for the workers that a killed master has left.

/// So many of them, the first of which have these pids.
pub(super) fn words(workers: usize, pids: &[u32]) -> String {
    let (its, they) = match workers {
        1 => ("worker", "it answers what it has, and ends"),
        _ => ("workers", "they answer what they have, and end"),
    };
    let others = workers.saturating_sub(pids.len());
    let mut named: Vec<String> = pids.iter().map(u32::to_string).collect();
    named.extend((others > 0).then(|| format!("{others} more")));
    format!(
        "the master before this one was killed and has left {workers} {its} (pid {}): {they}",
        named.join(", ")
    )
}
