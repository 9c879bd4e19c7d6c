//! The file that is written, and what people are told.

use std::borrow::Cow;
use std::path::Path;

use super::project::{Project, one_line, plain};

/// How long a comment may become: a command may stand there.
const LONGEST: usize = 400;

/// The config file of a project.
pub(super) fn config(project: &Project) -> String {
    let mut lines = vec![
        "# What `recluster` runs in this directory. Every option of `recluster run --help` may stand here by its long name.".to_owned(),
        String::new(),
        format!("# {}{}", plain(&project.kind), project.build.as_ref().map_or(String::new(), |build| format!(": `{}` makes the server", one_line(build, LONGEST)))),
        format!("server = {}", quoted(&project.server)),
    ];
    for (key, values) in [("args", &project.args), ("node-arg", &project.node_args)] {
        if !values.is_empty() {
            lines.push(format!(
                "{key} = [{}]",
                values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ")
            ));
        }
    }
    if project.is_for_node {
        lines.push("node = \"node\"".to_owned());
    }
    lines.extend(project.notes.iter().map(|note| format!("# {}", one_line(note, LONGEST))));
    if let Some(listen) = &project.listen {
        lines.push(format!("listen = {}", quoted(listen)));
    }
    if let Some(ready_when) = project.ready_when {
        lines.push(format!("ready-when = {}", quoted(ready_when)));
    }
    lines.extend([
        String::new(),
        "# One worker for each usable core (default; one with --watch).".to_owned(),
        "# workers = \"max\"".to_owned(),
        String::new(),
        "# How long an old worker may take to finish its requests after a reload (default: 30s, 1h with NODE_ENV=production).".to_owned(),
        "# timeout = \"30s\"".to_owned(),
        String::new(),
        "# A health check that a worker must pass to serve, and to go on.".to_owned(),
        "# ready-check = \"http:/healthz\"".to_owned(),
        String::new(),
        "# For Prometheus, load balancers, and a page in a browser.".to_owned(),
        "# admin = \"127.0.0.1:9464\"".to_owned(),
        String::new(),
        "# Variables for the workers.".to_owned(),
        "[env]".to_owned(),
        match &project.port {
            Some(port) => format!("PORT = {}", quoted(port)),
            None => "# PORT = \"3000\"".to_owned(),
        },
        String::new(),
    ]);
    lines.join("\n")
}

/// What to run, for people.
pub(super) fn next(project: &Project, path: &Path, is_here: bool) -> String {
    let mut lines = vec![format!("{} is written: {}", path.display(), plain(&project.kind)), String::new()];
    if !is_here {
        let directory = path.parent().unwrap_or(path).display().to_string();
        let directory = shlex::try_quote(&directory).map_or_else(|_| directory.clone(), Cow::into_owned);
        lines.push(format!("    cd {directory}"));
    }
    lines.extend(project.build.iter().map(|build| format!("    {}", one_line(build, LONGEST))));
    lines.extend([
        "    recluster check      # would it start?".to_owned(),
        "    recluster run        # in production".to_owned(),
        match &project.watch {
            Some(watch) => {
                let watch = one_line(watch, LONGEST);
                let watch = shlex::try_quote(&watch).map_or_else(|_| watch.clone(), Cow::into_owned);
                format!("    recluster --watch={watch}    # while you write it")
            }
            None => "    recluster --watch    # while you write it".to_owned(),
        },
        String::new(),
    ]);
    lines.join("\n")
}

/// A string of TOML: one of JSON is that as well, but for DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
