//! How much memory this process and what it starts may use together.

use std::fs;
use std::path::{Path, PathBuf};

/// The part of a hierarchy of control groups that can be seen here, and where this process is in it.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    mount: PathBuf,
    directory: PathBuf,
    /// The file that has a group's limit.
    file: &'static str,
}

/// In bytes: the memory of the machine, or the least limit of the control groups (version 1 or 2) that this process is in.
pub(crate) fn of_this_process() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let groups = groups(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    groups.iter().flat_map(Group::limits).chain(of_machine(&read("/proc/meminfo"))).min()
}

/// From the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn groups(memberships: &str, mounts: &str) -> Vec<Group> {
    mounts.lines().filter_map(|mount| group(memberships, mount)).collect()
}

fn group(memberships: &str, mount: &str) -> Option<Group> {
    let (of_mount, of_system) = mount.split_once(" - ")?;
    let mut of_mount = of_mount.split(' ').skip(3);
    let (root, mount) = (of_mount.next()?, PathBuf::from(of_mount.next()?));
    let mut of_system = of_system.split(' ');
    let (kind, options) = (of_system.next()?, of_system.nth(1)?);
    let (controller, file) = match kind {
        "cgroup2" => ("", "memory.max"),
        "cgroup" if options.split(',').any(|option| option == "memory") => {
            ("memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let path = memberships.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|it| it == controller).then_some(path)
    })?;
    // A container may see its own group at the place where the mount is.
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    Some(Group { directory: mount.join(below), mount, file })
}

impl Group {
    /// The limits of this group and of those around it, as far as they can be seen.
    fn limits(&self) -> impl Iterator<Item = u64> {
        let seen = self.directory.ancestors().take_while(|directory| directory.starts_with(&self.mount));
        seen.filter_map(|directory| fs::read_to_string(directory.join(self.file)).ok()?.trim().parse().ok())
    }
}

/// From the text of `/proc/meminfo`.
fn of_machine(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(memberships: &str, mount: &str) -> Option<(String, String, &'static str)> {
        let mut groups = groups(memberships, mount);
        assert!(groups.len() <= 1);
        let Group { mount, directory, file } = groups.pop()?;
        Some((mount.to_str()?.to_owned(), directory.to_str()?.to_owned(), file))
    }

    #[test]
    fn where_this_process_is_in_each_hierarchy() {
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
    fn the_least_limit_of_all_groups_around_counts() {
        let mount = tempfile::tempdir().unwrap();
        let directory = mount.path().join("pod/container");
        fs::create_dir_all(&directory).unwrap();
        let write = |at: &Path, text: &str| fs::write(at.join("memory.max"), text).unwrap();
        let limits = || {
            let (mount, directory) = (mount.path().to_owned(), directory.clone());
            Group { mount, directory, file: "memory.max" }.limits().collect::<Vec<_>>()
        };
        assert!(limits().is_empty());
        write(&directory, "max\n");
        write(&mount.path().join("pod"), "1000\n");
        write(mount.path(), "2000\n");
        assert_eq!(limits(), [1000, 2000]);
        write(&directory, "500\n");
        assert_eq!(limits(), [500, 1000, 2000]);
    }

    #[test]
    fn a_machine_has_so_much() {
        assert_eq!(of_machine("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!([of_machine(""), of_machine("MemTotal: much")], [None, None]);
        assert!(of_this_process().is_some_and(|bytes| bytes > 1 << 20));
    }
}
