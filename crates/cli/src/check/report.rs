//! The findings of `check`, as a table and as JSON.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::findings::Findings;
use crate::config::{Origin, Setting, changes_at_reload};
use crate::error::Error;
use crate::paint::printable;

/// The titles of the columns.
const TITLES: [&str; 4] = ["SETTING", "FROM", "CHANGES AT", "VALUE"];
/// What stands for a value that may be a secret.
const HIDDEN: &str = "(not shown)";

/// One line of the table.
type Row = [String; TITLES.len()];

/// What would run, a table of the settings, and what is worth knowing.
pub(super) fn text(findings: &Findings<'_>) -> String {
    let mut text =
        facts(findings).iter().map(|(what, is)| line(&format!("{what:8}{is}"))).collect::<String>();
    text.push('\n');
    text += &table(findings);
    text.push('\n');
    for note in &findings.notes {
        text += &line(&format!("note: {note}"));
    }
    if findings.problems.is_empty() {
        text += if findings.is_running { "it would reload\n" } else { "it would start\n" };
    }
    text
}

/// The same for programs.
pub(super) fn json(findings: &Findings<'_>) -> Value {
    let node = findings.node.as_ref();
    let settings = findings.settings;
    json!({
        "ok": findings.problems.is_empty(),
        "server": findings.server,
        "runs": findings.runs.as_ref().map(|runs| json!({"under": runs.under, "how": runs.how})),
        "node": node.map(|node| json!({"path": node.binary, "version": node.version})),
        "config": settings.file,
        "name": findings.wanted.name.as_str(),
        "control": findings.wanted.control,
        "running": findings.is_running,
        "settings": settings.list.iter().map(setting_as_json).collect::<Vec<_>>(),
        "notes": findings.notes,
        "problems": findings.problems.iter().map(problem_as_json).collect::<Vec<_>>(),
    })
}

/// What would run, as far as it was found.
fn facts(findings: &Findings<'_>) -> Vec<(&'static str, String)> {
    let server = findings.server.as_ref().map(|path| path.display().to_string());
    let node = findings.node.as_ref().map(|node| {
        let version = node.version.as_deref().unwrap_or("of an unknown version");
        format!("{}, {version}", node.binary.display())
    });
    let config = Some(shown(findings.settings.file.as_ref()));
    let runs = findings.runs.as_ref().map(|runs| runs.how.clone());
    let facts = [("server", server), ("runs", runs), ("node", node), ("config", config)];
    facts.into_iter().filter_map(|(what, is)| Some((what, is?))).collect()
}

fn table(findings: &Findings<'_>) -> String {
    let titles = TITLES.map(str::to_owned);
    let rows: Vec<Row> = [titles]
        .into_iter()
        .chain(findings.settings.list.iter().map(|setting| row(setting, findings)))
        .collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: [usize; TITLES.len()] = std::array::from_fn(|column| width(column).unwrap_or(0));
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            line(&cells.collect::<Vec<_>>().join("  "))
        })
        .collect()
}

fn row(setting: &Setting, findings: &Findings<'_>) -> Row {
    let when = if changes_at_reload(&setting.key) { "reload" } else { "restart" };
    let value = value_as_text(setting, findings);
    [setting.key.clone(), setting.origin.to_string(), when.to_owned(), value].map(|cell| printable(&cell))
}

fn value_as_text(setting: &Setting, findings: &Findings<'_>) -> String {
    match (&setting.origin, setting.key.as_str()) {
        _ if setting.is_private() => HIDDEN.to_owned(),
        (Origin::Default(_), "name") => findings.wanted.name.to_string(),
        (Origin::Default(_), "control") => shown(findings.wanted.control.as_ref()),
        (Origin::Default(Some(words)), _) => words.clone(),
        _ if setting.values.is_empty() => "none".to_owned(),
        _ => setting.values.iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(" "),
    }
}

fn setting_as_json(setting: &Setting) -> Value {
    let values = setting.values.iter().map(|value| value.to_string_lossy());
    let from = match &setting.origin {
        Origin::CommandLine => json!({"from": "command line"}),
        Origin::Environment(name) => json!({"from": "environment", "variable": name}),
        Origin::File(place) => json!({"from": "file", "path": place.path, "line": place.line}),
        Origin::Default(words) => json!({"from": "default", "words": words}),
    };
    json!({
        "name": setting.key,
        "values": (!setting.is_private()).then(|| values.collect::<Vec<_>>()),
        "origin": from,
        "changes_at_reload": changes_at_reload(&setting.key),
    })
}

fn problem_as_json(problem: &Error) -> Value {
    json!({"reason": problem.to_string(), "hint": problem.hint()})
}

fn shown(path: Option<&PathBuf>) -> String {
    path.map_or("none".to_owned(), |path| path.display().to_string())
}

fn line(text: &str) -> String {
    printable(text).trim_end().to_owned() + "\n"
}
