//! The control groups (version 1 and 2) that account for memory, as far as they can be seen from here.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// A hierarchy of control groups that can account for memory, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    version: Version,
    /// Which group is seen at the place of the mount.
    root: PathBuf,
    mount: PathBuf,
}

/// The version of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    mount: PathBuf,
    directory: PathBuf,
    /// The file that has a group's limit.
    limit: &'static str,
    /// The files that have the number of its processes which the kernel has killed for want of memory, best first.
    kills: &'static [&'static str],
}

/// Those that this process can see.
pub(crate) fn here() -> Vec<Hierarchy> {
    hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// To which groups a process belongs. None where that cannot be known: of one that has ended, version 1 says no more.
pub(crate) fn of(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default()
}

/// To which groups this process belongs.
pub(crate) fn own() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// From the text of `/proc/self/mountinfo`.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    mounts.lines().filter_map(hierarchy).collect()
}

fn hierarchy(mount: &str) -> Option<Hierarchy> {
    let (of_mount, of_system) = mount.split_once(" - ")?;
    let mut of_mount = of_mount.split(' ').skip(3);
    let (root, mount) = (PathBuf::from(of_mount.next()?), PathBuf::from(of_mount.next()?));
    let mut of_system = of_system.split(' ');
    let (kind, options) = (of_system.next()?, of_system.nth(1)?);
    let version = match kind {
        "cgroup2" => Version::Two,
        "cgroup" if options.split(',').any(|option| option == "memory") => Version::One,
        _ => return None,
    };
    Some(Hierarchy { version, root, mount })
}

impl Hierarchy {
    /// The group of a process, from the text of its `/proc/PID/cgroup`.
    pub(crate) fn group(&self, memberships: &str) -> Option<Group> {
        let controller = match self.version {
            Version::One => "memory",
            Version::Two => "",
        };
        let path = memberships.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|it| it == controller).then_some(path)
        })?;
        // A container may see its own group at the place where the mount is.
        let below = Path::new(path).strip_prefix(&self.root).unwrap_or(Path::new(""));
        let (limit, kills): (_, &[_]) = match self.version {
            Version::One => ("memory.limit_in_bytes", &["memory.oom_control"]),
            // What is local is not what groups below it have met with.
            Version::Two => ("memory.max", &["memory.events.local", "memory.events"]),
        };
        Some(Group { directory: self.mount.join(below), mount: self.mount.clone(), limit, kills })
    }

    /// The group at this directory, if it is one of this hierarchy.
    pub(crate) fn group_at(&self, directory: &Path) -> Option<Group> {
        let below = directory.strip_prefix(&self.mount).ok()?;
        let path = self.root.join(below);
        // Both versions have it behind the name of what accounts for memory.
        self.group(&format!("0:memory,:{}", path.display()))
    }
}

impl Group {
    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The limits of this group and of those around it, in bytes, as far as they can be seen.
    pub(crate) fn limits(&self) -> impl Iterator<Item = u64> {
        let seen = self.directory.ancestors().take_while(|directory| directory.starts_with(&self.mount));
        seen.filter_map(|directory| fs::read_to_string(directory.join(self.limit)).ok()?.trim().parse().ok())
    }

    /// How many of its processes the kernel has killed for want of memory, of this group or of the machine. None where the group
    /// does not account for memory, or is gone.
    pub(crate) fn kills(&self) -> Option<u64> {
        self.kills.iter().find_map(|file| {
            let text = fs::read_to_string(self.directory.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A group of version 2 at a directory that stands for its own.
    pub(in crate::process) fn group_at(mount: &Path, below: &str) -> Group {
        let version = Version::Two;
        let hierarchy = Hierarchy { version, root: "/".into(), mount: mount.to_owned() };
        hierarchy.group(&format!("0::/{below}\n")).unwrap()
    }

    /// Hierarchies of version 2 that are mounted there.
    pub(in crate::process) fn unified_at(mount: &Path) -> Vec<Hierarchy> {
        vec![Hierarchy { version: Version::Two, root: "/".into(), mount: mount.to_owned() }]
    }

    fn one(memberships: &str, mount: &str) -> Option<(String, String, &'static str)> {
        let mut hierarchies = hierarchies(mount);
        assert!(hierarchies.len() <= 1);
        let Group { mount, directory, limit, .. } = hierarchies.pop()?.group(memberships)?;
        Some((mount.to_str()?.to_owned(), directory.to_str()?.to_owned(), limit))
    }

    #[test]
    fn where_a_process_is_in_each_hierarchy() {
        let found = |mount: &str, directory: &str, file| Some((mount.to_owned(), directory.to_owned(), file));
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(
            one("0::/system.slice/shop.service\n", unified),
            found("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/shop.service", "memory.max")
        );
        assert_eq!(one("0::/\n", unified), found("/sys/fs/cgroup", "/sys/fs/cgroup/", "memory.max"));
        let of_docker = "40 30 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let limit = "memory.limit_in_bytes";
        let inside = found("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/", limit);
        assert_eq!(one("4:cpu:/\n9:memory:/docker/abc\n", of_docker), inside);
        assert_eq!(one("9:memory:/elsewhere\n", of_docker), inside, "what is outside cannot be seen");
        let deeper = found("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/deep", limit);
        assert_eq!(one("9:hugetlb,memory:/docker/abc/deep\n", of_docker), deeper);
        assert_eq!(one("9:cpu:/\n", "40 30 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(one("0::/\n", "31 23 0:28 / /tmp rw - tmpfs tmpfs rw"), None);
        assert_eq!(one("", unified), None);
        assert_eq!(one("nonsense", "nonsense - "), None);
    }

    #[test]
    fn the_limits_of_all_groups_around_are_seen() {
        let mount = tempfile::tempdir().unwrap();
        let directory = mount.path().join("pod/container");
        fs::create_dir_all(&directory).unwrap();
        let write = |at: &Path, text: &str| fs::write(at.join("memory.max"), text).unwrap();
        let limits = || group_at(mount.path(), "pod/container").limits().collect::<Vec<_>>();
        assert!(limits().is_empty());
        write(&directory, "max\n");
        write(&mount.path().join("pod"), "1000\n");
        write(mount.path(), "2000\n");
        assert_eq!(limits(), [1000, 2000]);
        write(&directory, "500\n");
        assert_eq!(limits(), [500, 1000, 2000]);
    }

    #[test]
    fn kills_are_those_of_the_group_itself_where_the_kernel_says_so() {
        let mount = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(mount.path().join(file), text).unwrap();
        let unified = group_at(mount.path(), "");
        assert_eq!(unified.kills(), None);
        write("memory.events", "low 0\nhigh 9\nmax 40\noom 3\noom_kill 2\noom_group_kill 1\n");
        assert_eq!(unified.kills(), Some(2));
        write("memory.events.local", "oom 3\noom_kill 1\n");
        assert_eq!(unified.kills(), Some(1));
        let old = Hierarchy { version: Version::One, root: "/".into(), mount: mount.path().to_owned() };
        let old = old.group("7:memory:/\n").unwrap();
        assert_eq!(old.kills(), None);
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n");
        assert_eq!(old.kills(), Some(7));
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
        assert_eq!(old.kills(), None, "kernels before 4.13 do not count them");
    }
}
