//! What the addresses of listeners tell of who is reached.
use std::net::SocketAddr;

/// Whether connecting to `address` reaches a listener that is bound to `own`, as far as the two addresses tell.
pub(crate) fn reaches(own: SocketAddr, address: SocketAddr) -> bool {
    let (own_ip, ip) = (own.ip().to_canonical(), address.ip().to_canonical());
    own.port() == address.port()
        && (own_ip == ip
            || own_ip.is_unspecified() && (ip.is_loopback() || ip.is_unspecified())
            || ip.is_unspecified() && own_ip.is_loopback())
}

/// Whether two listeners cannot both be bound. Port 0 is another port each time.
#[cfg(feature = "stack")]
pub(crate) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    let same_family = one_ip.is_ipv4() == other_ip.is_ipv4();
    // That of all addresses of IPv6 takes those of IPv4 as well, unless the system says otherwise.
    let takes_all = |ip: std::net::IpAddr| ip.is_unspecified() && (same_family || ip.is_ipv6());
    one.port() != 0
        && one.port() == other.port()
        && (one_ip == other_ip || takes_all(one_ip) || takes_all(other_ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_known_under_its_other_names() {
        for (own, address, reached) in [
            ("127.0.0.1:9901", "127.0.0.1:9901", true),
            ("127.0.0.1:9901", "127.0.0.1:9902", false),
            ("127.0.0.1:9901", "[::ffff:127.0.0.1]:9901", true),
            ("127.0.0.1:9901", "0.0.0.0:9901", true),
            ("127.0.0.1:9901", "127.0.0.2:9901", false),
            ("127.0.0.1:9901", "192.0.2.1:9901", false),
            ("0.0.0.0:9901", "127.0.0.2:9901", true),
            ("[::]:9901", "127.0.0.1:9901", true),
            ("[::]:9901", "[::1]:9901", true),
            ("0.0.0.0:9901", "192.0.2.1:9901", false),
        ] {
            assert_eq!(reaches(own.parse().unwrap(), address.parse().unwrap()), reached, "{own} {address}");
        }
    }

    #[cfg(feature = "stack")]
    #[test]
    fn two_that_cannot_be_bound_are_known() {
        for (one, other, collides) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((collide(one, other), collide(other, one)), (collides, collides), "{one} {other}");
        }
    }
}
