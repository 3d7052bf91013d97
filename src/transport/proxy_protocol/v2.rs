use std::net::{IpAddr, SocketAddr};

use super::{MalformedProxyHeader, ProxyHeader};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header taken. The format could announce 64 KiB; addresses and the usual extensions take 300 bytes.
pub(super) const MAX_LENGTH: usize = 2048;

const FIXED: usize = 16;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, MalformedProxyHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let [.., version_command, family_transport, high, low] = *fixed;
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED + announced;
    if version_command >> 4 != 2 {
        return Err(MalformedProxyHeader::Syntax);
    }
    if length > MAX_LENGTH {
        return Err(MalformedProxyHeader::TooLong);
    }
    let Some(payload) = rest.get(..announced) else {
        return Ok(None);
    };
    match (version_command & 0xf, family_transport >> 4, family_transport & 0xf) {
        (1, 1, 1) => addresses::<4>(payload, length).map(Some),
        (1, 2, 1) => addresses::<16>(payload, length).map(Some),
        // LOCAL, and what tells no TCP address.
        (0, ..) | (1, 0..=3, 0..=2) => Ok(Some(ProxyHeader::unknown(length))),
        _ => Err(MalformedProxyHeader::Syntax),
    }
}

/// Two addresses of `N` bytes, then two ports; what follows are extensions.
fn addresses<const N: usize>(payload: &[u8], length: usize) -> Result<ProxyHeader, MalformedProxyHeader>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = payload.split_first_chunk::<N>().ok_or(MalformedProxyHeader::Syntax)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(MalformedProxyHeader::Syntax)?;
    let (&[a, b, c, d], _) = rest.split_first_chunk::<4>().ok_or(MalformedProxyHeader::Syntax)?;
    let socket = |address: [u8; N], port: [u8; 2]| SocketAddr::new(address.into(), u16::from_be_bytes(port));
    Ok(ProxyHeader {
        source: Some(socket(*source, [a, b])),
        destination: Some(socket(*destination, [c, d])),
        length,
    })
}
