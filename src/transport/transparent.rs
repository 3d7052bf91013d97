//! Connections that were meant for somebody else, and redirected to us.

use std::{io, net::SocketAddr};

use socket2::Socket;
use tokio::net::TcpStream;

use crate::identity::OriginalDestination;

/// Where a connection was meant to go that has come to the listener at `own`. `None`: it was meant for that.
#[cfg(target_os = "linux")]
pub(super) fn original_destination(stream: &TcpStream, own: SocketAddr) -> Option<OriginalDestination> {
    let local = stream.local_addr().ok()?;
    let socket = socket2::SockRef::from(stream);
    let told = match local.ip().to_canonical().is_ipv4() {
        true => socket.original_dst_v4(),
        false => socket.original_dst_v6(),
    };
    meant(told.ok().and_then(|told| told.as_socket()), local, own).map(OriginalDestination::new)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn original_destination(_: &TcpStream, _: SocketAddr) -> Option<OriginalDestination> {
    None
}

/// What the system remembers of a redirected connection (`REDIRECT`), if it is another address than it has come to. Else the
/// connection kept its address (`TPROXY`), unless that is the listener's own.
#[cfg(any(target_os = "linux", test))]
fn meant(told: Option<SocketAddr>, local: SocketAddr, own: SocketAddr) -> Option<SocketAddr> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (local, own) = (canonical(local), canonical(own));
    if let Some(told) = told.map(canonical).filter(|told| *told != local) {
        return Some(told);
    }
    let is_own = local.port() == own.port() && (own.ip().is_unspecified() || own.ip() == local.ip());
    (!is_own).then_some(local)
}

/// Has a listening socket take what is redirected to it.
///
/// # Errors
///
/// On systems that do not tell where a connection was meant to go.
#[cfg(target_os = "linux")]
pub(super) fn capture(socket: &Socket) -> io::Result<()> {
    // For TPROXY; REDIRECT needs no such right.
    let set = match socket.local_addr()?.is_ipv6() {
        true => socket.set_ip_transparent_v6(true),
        false => socket.set_ip_transparent_v4(true),
    };
    if let Err(error) = set {
        tracing::debug!(%error, "connections can be redirected by REDIRECT, and not by TPROXY");
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn capture(_: &Socket) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "transparent listeners are for Linux: this system does not tell where connections were meant to go",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_meant_is_told() {
        for (told, local, own, expected) in [
            // REDIRECT
            (Some("192.0.2.7:5432"), "127.0.0.1:15001", "127.0.0.1:15001", Some("192.0.2.7:5432")),
            (Some("192.0.2.7:15001"), "10.0.0.1:15001", "0.0.0.0:15001", Some("192.0.2.7:15001")),
            (Some("[2001:db8::7]:80"), "[::1]:15001", "[::]:15001", Some("[2001:db8::7]:80")),
            // TPROXY, with and without a memory of connections
            (None, "192.0.2.7:5432", "0.0.0.0:15001", Some("192.0.2.7:5432")),
            (Some("192.0.2.7:5432"), "192.0.2.7:5432", "0.0.0.0:15001", Some("192.0.2.7:5432")),
            (None, "192.0.2.7:15001", "127.0.0.1:15001", Some("192.0.2.7:15001")),
            // To the listener itself
            (None, "10.0.0.1:15001", "0.0.0.0:15001", None),
            (Some("10.0.0.1:15001"), "10.0.0.1:15001", "0.0.0.0:15001", None),
            (None, "[::ffff:10.0.0.1]:15001", "[::ffff:10.0.0.1]:15001", None),
            (Some("10.0.0.1:15001"), "[::ffff:10.0.0.1]:15001", "[::]:15001", None),
        ] {
            let address = |text: &str| text.parse::<SocketAddr>().unwrap();
            let found = meant(told.map(address), address(local), address(own));
            assert_eq!(found, expected.map(address), "{told:?} {local} {own}");
        }
    }
}
