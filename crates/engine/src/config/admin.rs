//! Where the admin listener is: [`AdminAddress`].

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::config::address::{BindAddress, Kind};
use crate::config::listen::{Listen, ListenError};
use crate::report::worker::is_abstract;

/// An address for the admin listener: what `--admin` takes.
///
/// As a [`Listen`], but a port alone is that of 127.0.0.1, and there are no names and no UDP: `9464`, `127.0.0.1:9464`, `[::1]:9464`,
/// `*:9464`, `unix:/path?mode=660`, `unix:@name`.
///
/// ```
/// # use recluster::AdminAddress;
/// let address: AdminAddress = "9464".parse()?;
/// assert!(!address.is_exposed());
/// assert!("0.0.0.0:9464".parse::<AdminAddress>()?.is_exposed());
/// # Ok::<(), recluster::AdminAddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress(pub(crate) Listen);

/// Why a text is no address for the admin listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminAddressError {
    /// It is none of the forms.
    #[error(
        "'{0}' is no address for the admin listener: write 9464, 127.0.0.1:9464, [::1]:9464, unix:/path or unix:@name"
    )]
    NoAddress(String),
    /// What follows the address is wrong.
    #[error(transparent)]
    Option(ListenError),
}

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        let (address, _) = text.split_once('?').unwrap_or((text, ""));
        let is_port = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_digit());
        let whole = if is_port { format!("127.0.0.1:{text}") } else { text.to_owned() };
        let no_address = || AdminAddressError::NoAddress(text.to_owned());
        let listen: Listen = whole.parse().map_err(|error| match error {
            ListenError::NoAddress(_) | ListenError::BadName(_) => no_address(),
            ListenError::UnknownOption(_) | ListenError::BadOption { .. } => AdminAddressError::Option(error),
        })?;
        let is_stream = match &listen.at {
            BindAddress::Everywhere { kind, .. } | BindAddress::One { kind, .. } => *kind == Kind::Tcp,
            BindAddress::Unix(_) => true,
        };
        if is_stream && listen.name().is_none() { Ok(Self(listen)) } else { Err(no_address()) }
    }
}

impl AdminAddress {
    /// Whether other machines may reach it.
    pub fn is_exposed(&self) -> bool {
        match &self.0.at {
            BindAddress::Everywhere { .. } => true,
            BindAddress::One { address, .. } => !address.ip().to_canonical().is_loopback(),
            BindAddress::Unix(_) => false,
        }
    }

    /// The path of a unix socket, if it is a file.
    pub fn path(&self) -> Option<&Path> {
        match &self.0.at {
            BindAddress::Unix(path) if !is_abstract(path) => Some(path),
            BindAddress::Unix(_) | BindAddress::Everywhere { .. } | BindAddress::One { .. } => None,
        }
    }

    /// Whether it is a unix socket, which no web page reaches.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.0.at, BindAddress::Unix(_))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> AdminAddress {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_alone_is_that_of_this_machine() {
        assert_eq!(address("9464").to_string(), "127.0.0.1:9464");
        assert_eq!(address("9464?backlog=7").0.backlog, 7);
        for text in [
            "9464",
            "127.0.0.1:9464",
            "127.1.2.3:0",
            "localhost:9464",
            "[::1]:9464",
            "[::ffff:127.0.0.1]:1",
            "unix:/a",
        ] {
            assert!(!address(text).is_exposed(), "{text}");
        }
        for text in ["*:9464", "0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "[2001:db8::1]:9464"] {
            assert!(address(text).is_exposed(), "{text}");
        }
        assert_eq!(address("unix:/a?mode=660").0.mode, Some(0o660));
        assert!(address("/a").is_unix() && !address("1").is_unix());
        assert_eq!(
            (address("unix:/a/b?mode=660").path(), address("1").path()),
            (Some(Path::new("/a/b")), None)
        );
        assert_eq!((address("unix:@a").path(), address("unix:@a").is_unix()), (None, true));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "udp:9464", "udp:127.0.0.1:1", "web=9464", "nowhere", "99999", "unix:"] {
            let error = text.parse::<AdminAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}' is no address for the admin listener")), "{error}");
        }
        let error = "9464?mode=660".parse::<AdminAddress>().unwrap_err().to_string();
        assert!(error.starts_with("there is no option 'mode=660'"), "{error}");
    }
}
