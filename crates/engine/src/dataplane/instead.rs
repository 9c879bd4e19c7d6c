//! Why connections reach workers from an address in another way than was asked for, in words for the status.

use std::io;

use super::listener::{Listener, Mode};
use super::messages::Config;
use crate::report::worker::Address;

/// Of a program that is not Node.
pub(crate) const BY_ITSELF: &str = "its program accepts by itself";

/// What a kernel, or who filters its calls, may answer.
const NAMES: [(i32, &str); 8] = [
    (libc::EPERM, "EPERM"),
    (libc::EACCES, "EACCES"),
    (libc::ENOPROTOOPT, "ENOPROTOOPT"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::EINVAL, "EINVAL"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::ENOBUFS, "ENOBUFS"),
];

/// Why it is not what was asked for; none where it is. The address is the one that people know.
pub(super) fn reason(listener: &Listener, address: &Address, config: &Config) -> Option<String> {
    if listener.balance() == config.balance.to_string() {
        return None;
    }
    if let Some(refusal) = &listener.refusal {
        return Some(format!("the kernel refuses the program by which it would choose: {}", name(refusal)));
    }
    let reason = match (address, listener.mode) {
        (Address::Udp(_), _) => "datagrams come to all from one socket",
        (_, Mode::Shared) => BY_ITSELF,
        (Address::Unix(_), _) if config.balance.sticky_by().is_some() => {
            "clients of a unix socket have no address"
        }
        (Address::Unix(_), _) => "the kernel cannot spread the connections of a unix socket",
        _ if !config.workers_accept => "Deno accepts only what it is given",
        (Address::Tcp(_) | Address::Fd(_), _) => "the socket was bound before, and can have none beside it",
    };
    Some(reason.to_owned())
}

/// As people look it up.
fn name(error: &io::Error) -> String {
    let known = NAMES.iter().find(|(number, _)| error.raw_os_error() == Some(*number));
    known.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_name_by_which_it_is_looked_up() {
        assert_eq!(name(&io::Error::from_raw_os_error(libc::EPERM)), "EPERM");
        assert_eq!(name(&io::Error::other("something else")), "something else");
    }
}
