//! Words for files that are watched.

use std::env;
use std::path::Path;

use recluster::Event;

/// What is said of such an event; none where it is another one.
pub(super) fn words(event: &Event) -> Option<String> {
    if let Event::FilesChanged { files, more } = event {
        let here = env::current_dir().unwrap_or_default();
        return Some(changed(files, *more, &here));
    }
    if let Event::Held { .. } = event {
        return Some("the next change starts it again".to_owned());
    }
    if let Event::WatchLimited { reason } = event {
        return Some(reason.clone());
    }
    None
}

/// Names below the working directory are told without it.
fn changed(files: &[String], more: usize, here: &Path) -> String {
    let short = |file: &String| {
        let path = Path::new(file).strip_prefix(here).ok();
        path.map_or_else(|| file.clone(), |path| path.display().to_string())
    };
    let names = files.iter().map(short).collect::<Vec<_>>().join(", ");
    match (files.len(), more) {
        (0 | 1, 0) => format!("{names} has changed: reload"),
        (_, 0) => format!("{names} have changed: reload"),
        _ => format!("{names} and {more} more have changed: reload"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_a_person_would_name_them() {
        let files = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let told = |names: &[&str], more| changed(&files(names), more, Path::new("/srv/app"));
        assert_eq!(told(&["/srv/app/src/a.js"], 0), "src/a.js has changed: reload");
        assert_eq!(told(&["/srv/app/a.js", "/etc/b"], 0), "a.js, /etc/b have changed: reload");
        assert_eq!(
            told(&["/srv/app/a.js", "/srv/apple"], 7),
            "a.js, /srv/apple and 7 more have changed: reload"
        );
    }
}
