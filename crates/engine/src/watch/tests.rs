//! Real files in real directories: what is seen of them, and what is not.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

use super::*;

/// How long what is to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory, and what is seen of a path in it.
struct Desk {
    place: TempDir,
    path: PathBuf,
    seen: Receiver<Sighting>,
    _watcher: Watcher,
}

fn sink<T: Send + 'static>() -> (Sink<T>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Sink::new(move |report| drop(sender.send(report))), receiver)
}

impl Desk {
    /// Watches this path in a directory that was prepared.
    fn watching(kind: Kind, path: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::watching_all(kind, &[path], prepare)
    }

    fn watching_all(kind: Kind, paths: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let place = tempfile::tempdir().unwrap();
        prepare(place.path());
        let path = place.path().join(paths[0]);
        let (sighting, seen) = sink();
        let own = vec![place.path().join("own.log")];
        let what = paths.iter().map(|path| Watched { path: place.path().join(path), kind }).collect();
        let watcher = Watcher::start(what, &own, &[], sighting, sink().0).unwrap();
        Self { place, path, seen, _watcher: watcher }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write(self.place.path(), name, text);
    }

    /// Waits until a change of this file is seen. What else is seen until then is returned.
    fn sees(&self, name: &str) -> Vec<String> {
        let (wanted, mut others) = (self.at(name), Vec::new());
        loop {
            match self.seen.recv_timeout(PATIENCE) {
                Ok(Sighting::Changed { files, .. }) => {
                    let is_seen = files.contains(&wanted);
                    others.extend(
                        files.into_iter().filter(|file| *file != wanted).map(|file| self.short(&file)),
                    );
                    if is_seen {
                        return others;
                    }
                }
                other => panic!("{name} is not seen to change, but {other:?}, after {others:?}"),
            }
        }
    }

    /// Whatever has happened so far was seen, and it was nothing.
    fn sees_nothing(&self, marker: &str) {
        self.write(marker, "marker");
        assert_eq!(self.sees(marker), [""; 0]);
    }

    fn short(&self, file: &Path) -> String {
        file.strip_prefix(self.place.path()).unwrap().display().to_string()
    }
}

fn write(place: &Path, name: &str, text: &str) {
    let path = place.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn project(place: &Path) {
    write(place, "app/server.js", "1");
    write(place, "app/src/a.js", "1");
    write(place, "app/node_modules/express/index.js", "1");
    write(place, "app/.git/HEAD", "1");
    write(place, "app/dist/out.js", "1");
    write(place, "app/.gitignore", "dist/\n*.log\n");
    write(place, "shared/common.js", "1");
    symlink("../shared", place.join("app/shared")).unwrap();
    symlink("..", place.join("app/src/round")).unwrap();
}

fn source() -> Desk {
    Desk::watching(Kind::Source, "app", project)
}

#[test]
fn however_an_editor_saves_a_file_it_has_changed() {
    let desk = source();
    desk.write("app/server.js", "in place");
    desk.sees("app/server.js");
    desk.write("app/server.js.tmp~", "by rename");
    fs::rename(desk.at("app/server.js.tmp~"), desk.at("app/server.js")).unwrap();
    assert_eq!(desk.sees("app/server.js"), [""; 0], "the file that was renamed is the editor's");
    fs::rename(desk.at("app/src/a.js"), desk.at("app/src/a.js~")).unwrap();
    desk.sees("app/src/a.js");
    desk.write("app/src/a.js", "a backup was made before");
    desk.sees("app/src/a.js");
    fs::remove_file(desk.at("app/server.js")).unwrap();
    desk.sees("app/server.js");
    desk.write("app/server.js", "it is back");
    desk.sees("app/server.js");
}

#[test]
fn what_is_no_source_of_the_user_does_not_count() {
    let desk = source();
    for name in [
        "node_modules/express/index.js",
        "node_modules/new/index.js",
        ".git/index.lock",
        "dist/out.js",
        "src/trace.log",
        "src/shop.db-journal",
        "src/.a.js.swp",
        "src/4913",
        "src/a.js~",
        ".#server.js",
    ] {
        desk.write(&format!("app/{name}"), "2");
    }
    fs::read(desk.at("app/server.js")).unwrap();
    fs::set_permissions(desk.at("app/server.js"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    desk.sees_nothing("app/src/marker.js");
}

#[test]
fn what_the_program_itself_writes_does_not_count() {
    let desk = Desk::watching(Kind::Deployed, "", project);
    desk.write("own.log", "2");
    desk.sees_nothing("marker");
}

#[test]
fn directories_that_are_made_later_and_those_behind_symlinks_are_watched() {
    let desk = source();
    desk.write("app/new/deep/b.js", "1");
    desk.sees("app/new/deep/b.js");
    desk.write("app/new/deep/b.js", "2");
    desk.sees("app/new/deep/b.js");
    desk.write("shared/common.js", "2");
    desk.sees("app/shared/common.js");
    fs::remove_dir_all(desk.at("app/new")).unwrap();
    desk.sees("app/new/deep/b.js");
    desk.write("app/new/deep/b.js", "it is back");
    desk.sees("app/new/deep/b.js");
    desk.write("app/new/deep/b.js", "and is seen");
    desk.sees("app/new/deep/b.js");
}

#[test]
fn a_directory_that_is_replaced_by_another_one_is_watched_on() {
    let desk = source();
    for round in ["1", "2", "3"] {
        desk.write("other/a.js", round);
        fs::remove_dir_all(desk.at("app/src")).unwrap();
        fs::rename(desk.at("other"), desk.at("app/src")).unwrap();
        desk.sees("app/src/a.js");
        desk.write("app/src/a.js", "and is seen");
        desk.sees("app/src/a.js");
    }
    fs::rename(desk.at("app"), desk.at("app.old")).unwrap();
    project_again(&desk);
    desk.write("app/src/marker.js", "1");
    desk.sees("app/src/marker.js");
}

fn project_again(desk: &Desk) {
    desk.write("app/server.js", "of another branch");
    desk.sees("app/server.js");
}

#[test]
fn a_config_map_is_swapped_by_a_symlink_beside_it() {
    let mount = |place: &Path| {
        write(place, "etc/..one/app.toml", "1");
        symlink("..one", place.join("etc/..data")).unwrap();
        symlink("..data/app.toml", place.join("etc/app.toml")).unwrap();
    };
    // Of many files that have changed, the first ones are named.
    for (path, named, file) in
        [("etc/app.toml", "etc/app.toml", "etc/app.toml"), ("etc", "etc/..data", "etc/..data/app.toml")]
    {
        let desk = Desk::watching(Kind::Deployed, path, mount);
        desk.write("etc/..two/app.toml", "1");
        symlink("..two", desk.at("etc/..new")).unwrap();
        fs::rename(desk.at("etc/..new"), desk.at("etc/..data")).unwrap();
        desk.sees(named);
        fs::remove_dir_all(desk.at("etc/..one")).unwrap();
        desk.write("etc/..two/app.toml", "written in place");
        desk.sees(file);
    }
}

#[test]
fn a_release_that_a_symlink_leads_to_has_changed_even_where_its_files_have_not() {
    let desk = Desk::watching(Kind::Deployed, "current", |place| {
        write(place, "releases/1/server.js", "1");
        fs::create_dir(place.join("releases/2")).unwrap();
        fs::hard_link(place.join("releases/1/server.js"), place.join("releases/2/server.js")).unwrap();
        symlink("releases/1", place.join("current")).unwrap();
    });
    symlink("releases/2", desk.at("next")).unwrap();
    fs::rename(desk.at("next"), desk.at("current")).unwrap();
    desk.sees("current");
    desk.write("releases/2/server.js", "3");
    desk.sees("current/server.js");
}

#[test]
fn what_the_master_writes_is_no_change_behind_a_symlink_either() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    write(place.path(), "shared/log/it.log", "1");
    write(place.path(), "shared/workers/0.log", "1");
    write(place.path(), "release/server.js", "1");
    symlink("../shared/log", at("release/log")).unwrap();
    symlink("../shared", at("release/shared")).unwrap();
    let watched = Watched { path: at("release"), kind: Kind::Deployed };
    let mut tree = Tree::new(watched, vec![at("shared/../shared/log/it.log"), at("shared/workers")], &[]);
    write(place.path(), "shared/log/it.log", "more");
    write(place.path(), "shared/workers/0.log", "more");
    assert_eq!(tree.look(3), None);
    write(place.path(), "release/server.js", "other");
    let files = vec![at("release/server.js")];
    let seen = tree.look(3);
    let look = tree.last_look();
    assert_eq!(seen, Some(Sighting::Changed { kind: Kind::Deployed, files, more: 0, look }));
}

#[test]
fn what_git_does_not_read_leaves_nothing_out() {
    let desk = Desk::watching(Kind::Source, "shop", |place| {
        write(place, ".gitignore", "*");
        fs::create_dir_all(place.join("shop/.git")).unwrap();
        write(place, "shop/app.js", "1");
    });
    desk.write("shop/app.js", "other");
    desk.sees("shop/app.js");
}

#[test]
fn behind_a_symlink_far_above_the_new_directory_is_watched_and_the_old_one_is_not() {
    let desk = Desk::watching(Kind::Deployed, "current/app/config", |place| {
        write(place, "releases/1/app/config/a.toml", "1");
        write(place, "releases/2/app/config/a.toml", "2");
        symlink("releases/1", place.join("current")).unwrap();
    });
    for release in ["2", "1", "2"] {
        symlink(Path::new("releases").join(release), desk.at("next")).unwrap();
        fs::rename(desk.at("next"), desk.at("current")).unwrap();
        desk.sees("current");
        desk.write(&format!("releases/{release}/app/config/a.toml"), &format!("of {release}, later"));
        desk.sees("current/app/config/a.toml");
    }
}

#[test]
fn a_directory_that_two_paths_lead_to_is_watched_on_where_one_of_them_leads_elsewhere() {
    let desk = Desk::watching_all(Kind::Deployed, &["blue/conf", "green/conf"], |place| {
        write(place, "releases/1/conf/a.toml", "1");
        write(place, "releases/2/conf/a.toml", "2");
        symlink("releases/1", place.join("blue")).unwrap();
        symlink("releases/1", place.join("green")).unwrap();
    });
    // The first may have been seen before the kernel was asked to say so.
    for before in ["once", "twice"] {
        desk.write("releases/1/conf/a.toml", before);
        desk.sees("green/conf/a.toml");
    }
    symlink("releases/2", desk.at("next")).unwrap();
    fs::rename(desk.at("next"), desk.at("blue")).unwrap();
    desk.sees("blue");
    desk.write("releases/2/conf/a.toml", "later");
    desk.sees("blue/conf/a.toml");
    // What the kernel has said of the others may lead to some more looks.
    for round in 0..20 {
        desk.write("releases/1/conf/a.toml", &format!("later, {round}"));
        desk.sees("green/conf/a.toml");
    }
}

#[test]
fn a_path_that_does_not_exist_yet_is_seen_when_it_does_and_its_absence_is_no_change() {
    let desk = Desk::watching(Kind::Deployed, "run/certs/site.pem", |_| {});
    desk.write("run/certs/site.pem", "1");
    desk.sees("run/certs/site.pem");
    fs::remove_dir_all(desk.at("run")).unwrap();
    assert_eq!(desk.path, desk.at("run/certs/site.pem"));
    desk.write("run/certs/site.pem", "2");
    assert_eq!(desk.sees("run/certs/site.pem"), [""; 0]);
}

#[test]
fn files_are_found_by_looking_where_the_kernel_does_not_say_that_they_change() {
    let place = tempfile::tempdir().unwrap();
    project(place.path());
    let watched = Watched { path: place.path().join("app"), kind: Kind::Source };
    let ((sighting, seen), (bell, rings)) = (sink(), wake::bell());
    let mut watch = Watch::new(vec![Tree::new(watched, Vec::new(), &[])], sighting, bell);
    watch.poll("a test says so");
    assert!(
        matches!(seen.try_recv(), Ok(Sighting::Limited { reason }) if reason.ends_with("a test says so"))
    );
    assert_eq!(watch.patience(), Some(POLL));
    watch.look();
    assert!(seen.try_recv().is_err());
    write(place.path(), "app/src/a.js", "other");
    assert!(rings.wait(watch.patience()), "nothing rings, and the thread looks all the same");
    watch.look();
    let sighting = seen.try_recv().unwrap();
    let files = vec![place.path().join("app/src/a.js")];
    let look = watch.trees[0].last_look();
    assert_eq!(sighting, Sighting::Changed { kind: Kind::Source, files, more: 0, look });
}

#[test]
fn the_end_is_heard_also_behind_a_ring_that_waits() {
    let (bell, rings) = wake::bell();
    bell.ring();
    bell.end();
    assert!(!rings.wait(None));
}

#[test]
fn what_changes_between_the_last_look_of_one_program_and_the_first_of_the_next_is_seen_once() {
    for kind in [Kind::Source, Kind::Deployed] {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), "app/server.js", "1");
        let watched = Watched { path: place.path().join("app"), kind };
        let goes_on = |looks: &[LastLook]| Tree::new(watched.clone(), Vec::new(), looks);
        let before = goes_on(&[]).last_look();
        let mut same = goes_on(std::slice::from_ref(&before));
        assert_eq!((same.look(3), same.last_look()), (None, before.clone()));
        write(place.path(), "app/server.js", "another");
        let mut next = goes_on(std::slice::from_ref(&before));
        assert_eq!(next.last_look(), before, "nobody has heard of it yet");
        let Some(Sighting::Changed { files, more: 0, look, .. }) = next.look(3) else { panic!("{kind:?}") };
        assert_eq!(files, std::slice::from_ref(&watched.path));
        assert_eq!(next.look(3), None);
        assert_eq!(goes_on(&[look]).look(3), None);
        let other_manner = LastLook { manner: 0, ..before };
        assert_eq!(goes_on(&[other_manner]).look(3), None, "it cannot be compared");
    }
}
