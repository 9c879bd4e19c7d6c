//! The fields by which a worker describes a socket, in `queryServer` and in `listening`.

use std::str::FromStr;

use serde_json::value::RawValue;

use super::fields::{Field, Fields, number, string, truthy};
use super::message::{Fault, FromWorker, Listening, Malformed, QueryServer, SocketKind, UnansweredQuery};
use crate::Json;

/// The longest address of a socket, in bytes: that of an abstract unix socket, which Node writes as the
/// working directory (`PATH_MAX`, 4096) and then the name (108).
pub const MAX_ADDRESS: usize = 4096 + 108;
/// How much a worker may have the primary keep for a server, in bytes.
const MAX_DATA: usize = 2 << 10;

/// A request for a socket; if malformed, with what it takes to refuse it.
pub(super) fn query_server(seq: u64, fields: &Fields<'_>) -> FromWorker {
    match valid_query(seq, fields) {
        Ok(query) => FromWorker::QueryServer(query),
        Err(fault) => {
            let unanswered = Some(UnansweredQuery { seq, data: data(fields).unwrap_or_default() });
            FromWorker::Malformed(Malformed { fault, unanswered })
        }
    }
}

pub(super) fn listening(fields: &Fields<'_>) -> Result<Listening, Fault> {
    let kind = socket_kind(fields.address_type)?;
    Ok(Listening {
        address: address(fields.address, kind)?,
        port: port(fields.port, kind)?,
        kind,
        fd: fd(fields.fd)?,
    })
}

fn valid_query(seq: u64, fields: &Fields<'_>) -> Result<QueryServer, Fault> {
    let Listening { address, port, kind, fd } = listening(fields)?;
    if fd.is_none() && kind.is_none() {
        return Err(Fault::Field("addressType"));
    }
    if fd.is_none() && kind == Some(SocketKind::Unix) && address.is_none() {
        return Err(Fault::Field("address"));
    }
    Ok(QueryServer {
        seq,
        index: number(fields.index).ok_or(Fault::Field("index"))?,
        address,
        port,
        kind,
        fd,
        flags: flags(fields.flags)?,
        backlog: backlog(fields.backlog),
        readable_all: truthy(fields.readable_all),
        writable_all: truthy(fields.writable_all),
        data: data(fields)?,
    })
}

/// What the primary keeps for all workers of a server: in Node, the keys of TLS session tickets, 48 bytes.
fn data(fields: &Fields<'_>) -> Result<Option<Json>, Fault> {
    match fields.data {
        Some(data) if data.get().len() > MAX_DATA => Err(Fault::Field("data")),
        data => Ok(data.map(|data| Json::of_valid(data.get()))),
    }
}

fn socket_kind(field: Field<'_>) -> Result<Option<SocketKind>, Fault> {
    let Some(kind) = field else { return Ok(None) };
    Ok(Some(match kind.get() {
        "4" => SocketKind::Tcp4,
        "6" => SocketKind::Tcp6,
        "-1" => SocketKind::Unix,
        r#""udp4""# => SocketKind::Udp4,
        r#""udp6""# => SocketKind::Udp6,
        _ => return Err(Fault::Field("addressType")),
    }))
}

/// The address without the working directory that Node puts before the NUL of an abstract unix name.
/// Any other NUL would end the address early in the kernel, and so name another socket than the one asked for.
fn address(field: Field<'_>, kind: Option<SocketKind>) -> Result<Option<String>, Fault> {
    const ABSURD: Fault = Fault::Field("address");
    if field.is_none() {
        return Ok(None);
    }
    let address = string(field, MAX_ADDRESS).filter(|address| !address.is_empty()).ok_or(ABSURD)?;
    let Some(nul) = address.find('\0') else {
        return Ok(Some(address));
    };
    let (directory, name) = address.split_at(nul);
    let abstract_name = directory.is_empty() || directory.ends_with('/');
    if kind == Some(SocketKind::Unix) && abstract_name { Ok(Some(name.to_owned())) } else { Err(ABSURD) }
}

/// TCP always names a port, and only a unix socket writes -1. A `dgram` socket passes on what its user
/// gave to `bind`: nothing, an empty string, which is the same to Node, or the digits of a variable.
fn port(field: Field<'_>, kind: Option<SocketKind>) -> Result<Option<u16>, Fault> {
    const ABSURD: Fault = Fault::Field("port");
    let tcp = matches!(kind, Some(SocketKind::Tcp4 | SocketKind::Tcp6));
    let unix = matches!(kind, None | Some(SocketKind::Unix));
    match field.map(RawValue::get) {
        None | Some(r#""""#) if !tcp => Ok(None),
        Some("-1") if unix => Ok(None),
        _ => number_in_string(field).map(Some).ok_or(ABSURD),
    }
}

fn fd(field: Field<'_>) -> Result<Option<u32>, Fault> {
    if field.is_none_or(|fd| fd.get() == "-1") {
        return Ok(None);
    }
    let fd = number::<i32>(field).and_then(|fd| u32::try_from(fd).ok());
    fd.map(Some).ok_or(Fault::Field("fd"))
}

fn flags(field: Field<'_>) -> Result<u32, Fault> {
    if field.is_none() { Ok(0) } else { number(field).ok_or(Fault::Field("flags")) }
}

/// The user's `backlog` comes as it was written; all that is not a number above 0 means the default.
fn backlog(field: Field<'_>) -> Option<u32> {
    number_in_string(field).filter(|&length| length > 0)
}

/// A number where JavaScript's users may have written its digits in a string.
fn number_in_string<N: FromStr>(field: Field<'_>) -> Option<N> {
    field?.get().trim_matches('"').parse().ok()
}
