//! Sockets before a worker uses them: binding, the files of unix sockets, and the directories of these files.

pub(crate) mod answers;
pub(crate) mod attention;
pub(crate) mod bind;
pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod glance;
pub(crate) mod holder;
pub(crate) mod kept;
pub(crate) mod lend;
pub(crate) mod local;
pub(crate) mod manager;
pub(crate) mod named;
pub(crate) mod place;
pub(crate) mod places;
pub(crate) mod probe;
#[cfg(test)]
pub(crate) mod races;
pub(crate) mod runtime_dir;
pub(crate) mod short_path;
pub(crate) mod watch;
