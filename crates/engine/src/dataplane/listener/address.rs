//! The addresses that workers name, as they write them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An IP address, perhaps with a zone. Names were resolved in the worker.
pub(in crate::dataplane) fn parse_address(text: &str, port: u16) -> io::Result<SocketAddr> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let (ip, zone) = text.split_once('%').ok_or_else(invalid)?;
    let ip = ip.parse::<Ipv6Addr>().map_err(|_| invalid())?;
    Ok(SocketAddrV6::new(ip, port, 0, zone_index(zone).ok_or_else(invalid)?).into())
}

/// The number of a network interface, by its name or its number.
fn zone_index(zone: &str) -> Option<u32> {
    if let Ok(index) = zone.parse() {
        return Some(index);
    }
    let name = Some(zone).filter(|name| !name.contains(['/', '.']))?;
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}
