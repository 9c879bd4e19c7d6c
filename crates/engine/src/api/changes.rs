//! What the builder has to say of files whose change is a reload.

use std::path::{Path, PathBuf, absolute};

use crate::api::builder::ClusterBuilder;
use crate::config::watched::{Kind, Watched};

/// What names a project of Node's.
const MANIFEST: &str = "package.json";

impl ClusterBuilder {
    /// Reloads when this file, symlink or directory changes: a release that is put in place, a configuration, a certificate. What
    /// changes has a second to settle, and such reloads are ten seconds apart at least. The path need not be there yet. May be said
    /// several times.
    #[must_use]
    pub fn reload_on(self, path: impl AsRef<Path>) -> Self {
        self.watched(path.as_ref(), Kind::Deployed)
    }

    /// For whoever writes the server: reloads when a file changes here, a tenth of a second after the last one was saved, but for what
    /// `.gitignore` names, `node_modules`, `.git` and files of editors. A worker that ends is not started again before that, also at the
    /// first start. With `--inspect` among node's arguments the old worker is gone before the new one is started, so that the debugger's
    /// port stays. May be said several times.
    #[must_use]
    pub fn watch(mut self, path: impl AsRef<Path>) -> Self {
        self.draft.settings.hold = true;
        self.watched(path.as_ref(), Kind::Source)
    }

    /// The same where the server file is: in the directory of the nearest `package.json`, and in that of the file itself, which counts also
    /// where `.gitignore` names it, since compilers write there.
    #[must_use]
    pub fn watch_project(self) -> Self {
        let directory = self.draft.program.directory_of_server().to_owned();
        let project = directory.ancestors().find(|directory| directory.join(MANIFEST).is_file());
        let project = project.filter(|project| **project != *directory).map(Path::to_owned);
        project.into_iter().chain([directory]).fold(self, Self::watch)
    }

    /// Files, and directories with all that is in them, whose change does not count: what the program around the cluster writes.
    #[must_use]
    pub fn never_watched(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.own.extend(paths.into_iter().map(|path| absolute(&path).unwrap_or(path)));
        self
    }

    fn watched(mut self, path: &Path, kind: Kind) -> Self {
        // Where the working directory is gone, the path is watched as it is written.
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        self.watched.push(Watched { path, kind });
        self
    }
}
