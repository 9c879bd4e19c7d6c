//! `config`: with which settings a cluster runs, and how those that its file says now differ.

use recluster::configuration::{Change, Difference, Origin, Setting};
use recluster::control::protocol::{Reply, Request};

use super::columns::{Column, Yields, lines};
use super::connect::{connect, unexpected};
use super::output::{print, print_json};
use super::screen::size;
use crate::args::ConfigArgs;
use crate::error::Error;
use crate::exit_code::ExitStatus;
use crate::paint::printable;

/// What stands for values that may be secret.
const HIDDEN: &str = "(not shown)";
/// What stands where there is nothing.
const NONE: &str = "none";
/// What stands for an option that is not said, beside one that is.
const DEFAULT: &str = "default";
/// What stands beside values that look the same, since what differs may be secret.
const HIDDEN_DIFFERENCE: &str = "(differs in what is not shown)";

/// Shows the settings; with `--diff` those that differ.
pub(crate) async fn config(args: ConfigArgs) -> Result<ExitStatus, Error> {
    let ConfigArgs { diff, target } = args;
    let (mut client, _) = connect(&target).await?;
    let reply = client.ask(&Request::Configuration { diff }).await?;
    let Reply::Configuration { file, settings, differences } = &reply else { return Err(unexpected(reply)) };
    let width = size().map(|size| size.width);
    if target.json {
        print_json(&reply)?;
    } else if let Some(differences) = differences {
        print(&differing(differences, width))?;
    } else {
        print(&in_force(file.as_deref(), settings, width))?;
    }
    let differs = differences.as_ref().is_some_and(|differences| !differences.is_empty());
    Ok(if differs { ExitStatus::NotServing } else { ExitStatus::Success })
}

fn in_force(file: Option<&str>, settings: &[Setting], width: Option<usize>) -> String {
    const COLUMNS: [Column; 4] = [
        column("SETTING", Yields::Never),
        column("FROM", Yields::Never),
        column("CHANGES AT", Yields::Goes(0)),
        column("VALUE", Yields::Below),
    ];
    let row = |setting: &Setting| {
        let shown = match (&setting.values, &setting.origin) {
            (Some(values), Origin::Default { words: Some(words) }) if values.is_empty() => words.clone(),
            (values, _) => shown(values.as_deref(), NONE, HIDDEN),
        };
        let origin = in_words(&setting.origin);
        [setting.name.clone(), origin, when(setting.changes_at_reload), shown].map(|cell| printable(&cell))
    };
    let table = table(&COLUMNS, &settings.iter().map(row).collect::<Vec<_>>(), width);
    format!("config  {}\n\n{table}", printable(file.unwrap_or(NONE)))
}

fn differing(differences: &[Difference], width: Option<usize>) -> String {
    const COLUMNS: [Column; 4] = [
        column("SETTING", Yields::Never),
        column("CHANGES AT", Yields::Never),
        column("IN FORCE", Yields::Never),
        column("SAID NOW", Yields::Below),
    ];
    if differences.is_empty() {
        return "nothing differs\n".to_owned();
    }
    let row = |it: &Difference| {
        let is_known = |change: Change, other: Change| if change == other { NONE } else { HIDDEN };
        let old = shown(it.in_force.as_deref(), DEFAULT, is_known(it.change, Change::Added));
        let new = if it.now.is_some() && it.now == it.in_force {
            HIDDEN_DIFFERENCE.to_owned()
        } else {
            shown(it.now.as_deref(), DEFAULT, is_known(it.change, Change::Removed))
        };
        [it.name.clone(), when(it.changes_at_reload), old, new].map(|cell| printable(&cell))
    };
    table(&COLUMNS, &differences.iter().map(row).collect::<Vec<_>>(), width)
}

const fn column(title: &'static str, yields: Yields) -> Column {
    Column { title, short: title, yields }
}

fn table<const N: usize>(columns: &[Column; N], rows: &[[String; N]], width: Option<usize>) -> String {
    let lines = lines(columns, rows, width, &|_, cell| cell);
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n") + "\n"
}

fn when(at_reload: bool) -> String {
    if at_reload { "reload" } else { "restart" }.to_owned()
}

fn shown(values: Option<&[String]>, unsaid: &str, secret: &str) -> String {
    match values {
        None => secret.to_owned(),
        Some([]) => unsaid.to_owned(),
        Some(values) => values.join(" "),
    }
}

fn in_words(origin: &Origin) -> String {
    match origin {
        Origin::CommandLine => "command line".to_owned(),
        Origin::Environment { variable } => variable.clone(),
        Origin::File { path, line } => format!("{path}:{line}"),
        Origin::Default { .. } => "default".to_owned(),
        Origin::Scale => "recluster scale".to_owned(),
        Origin::Reload => "recluster reload --env".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, values: &[&str], origin: Origin) -> Setting {
        Setting::new(name, values.iter().map(ToString::to_string).collect(), origin, name != "listen")
    }

    #[test]
    fn settings_stand_with_their_origins_and_without_secrets_or_escapes() {
        let file = Origin::File { path: "recluster.toml".to_owned(), line: 3 };
        let default = |words: Option<&str>| Origin::Default { words: words.map(str::to_owned) };
        let settings = [
            setting("workers", &["4"], Origin::Scale),
            setting("listen", &["8080", "\u{1b}[2Junix:/x"], Origin::CommandLine),
            setting("timeout", &["3s"], file.clone()),
            setting("backoff", &[], default(Some("off"))),
            setting("rlimit", &[], default(None)),
            setting("env.TOKEN", &["hunter2"], file).shown_as(None),
            setting("env.LEVEL", &[], Origin::Reload).shown_as(None),
        ];
        insta::assert_snapshot!(in_force(Some("/srv/recluster.toml"), &settings, None));
    }

    #[test]
    fn what_differs_stands_beside_what_is_in_force() {
        let difference = |name: &str, change: &str, old: Option<&str>, new: Option<&str>| -> Difference {
            serde_json::from_value(serde_json::json!({
                "name": name, "change": change, "in_force": old.map(|old| [old]), "now": match new { None if name == "timeout" => serde_json::json!([]), new => serde_json::json!(new.map(|new| [new])) },
                "changes_at_reload": name != "listen",
            }))
            .unwrap()
        };
        let differences = [
            difference("workers", "changed", Some("2"), Some("4")),
            difference("listen", "changed", Some("8080"), Some("9090")),
            difference("timeout", "changed", Some("3s"), None),
            difference("on", "changed", Some("crashed=exec:curl …"), Some("crashed=exec:curl …")),
            difference("env.NEW", "added", None, None),
            difference("env.OLD", "removed", None, None),
            difference("env.TOKEN", "changed", None, None),
        ];
        insta::assert_snapshot!(differing(&differences, None));
        assert_eq!(differing(&[], None), "nothing differs\n");
    }
}
