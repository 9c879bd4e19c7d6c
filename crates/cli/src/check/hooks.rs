//! What the shell says of the commands of hooks. None of them is run.

use std::process::Stdio;
use std::time::Duration;

use recluster::Hook;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a shell may take for that.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a word has no meaning for the shell by, beside letters and digits.
const PLAIN: [char; 5] = ['-', '_', '.', '/', '+'];

/// What is wrong with a hook, as far as that can be known before it is needed.
pub(super) async fn look_at(hook: &Hook) -> Option<String> {
    let command = hook.command()?;
    let on = hook.on().name();
    if let Some(reason) = refusal(&["-n", "-c", command]).await {
        return Some(format!("the shell cannot read the command of the hook for {on}: {reason}"));
    }
    let first = command.split_whitespace().next()?;
    let is_plain = first.chars().all(|letter| letter.is_alphanumeric() || PLAIN.contains(&letter));
    // A relative path begins in the directory of the workers.
    if !is_plain || first.contains('/') {
        return None;
    }
    let is_there = ["-c", "command -v -- \"$1\"", "sh", first];
    let missing = refusal(&is_there).await;
    missing.map(|_| format!("the command of the hook for {on} is not found: {first}"))
}

/// What a shell says last, if it refuses these arguments.
async fn refusal(args: &[&str]) -> Option<String> {
    let mut shell = Command::new("/bin/sh");
    shell.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, shell.output()).await.ok()?.ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| said.lines().last().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_that_cannot_work_is_told() {
        let said = async |hook: &str| look_at(&hook.parse().unwrap()).await;
        for right in ["crashed=exec:cat", "crashed=exec:A=1 ./x", "crashed=exec:(cat)", "crashed=http://x/"] {
            assert_eq!(said(right).await, None, "{right}");
        }
        let open = said("started=exec:echo 'x").await.unwrap();
        assert!(open.starts_with("the shell cannot read the command of the hook for started: "), "{open}");
        assert_eq!(
            said("stopped=exec:no-such-program --x").await.unwrap(),
            "the command of the hook for stopped is not found: no-such-program"
        );
    }
}
