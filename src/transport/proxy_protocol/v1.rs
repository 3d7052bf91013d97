use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::{self, FromStr},
};

use super::{MalformedProxyHeader, ProxyHeader};

pub(super) const SIGNATURE: [u8; 6] = *b"PROXY ";

/// The longest line of version 1, with its end.
const MAX_LINE: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, MalformedProxyHeader> {
    let window = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = window.iter().position(|&byte| byte == b'\r') else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(MalformedProxyHeader::TooLong) };
    };
    match window.get(end + 1) {
        None if end + 1 == MAX_LINE => return Err(MalformedProxyHeader::TooLong),
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(MalformedProxyHeader::Syntax),
    }
    let line = window.get(SIGNATURE.len()..end).ok_or(MalformedProxyHeader::Syntax)?;
    let line = str::from_utf8(line).map_err(|_| MalformedProxyHeader::Syntax)?;
    let length = end + 2;
    let mut words = line.split(' ');
    match words.next() {
        Some("UNKNOWN") => Ok(Some(ProxyHeader::unknown(length))),
        Some("TCP4") => addresses::<Ipv4Addr>(words, length).map(Some),
        Some("TCP6") => addresses::<Ipv6Addr>(words, length).map(Some),
        _ => Err(MalformedProxyHeader::Syntax),
    }
}

fn addresses<A: FromStr + Into<IpAddr>>(
    words: str::Split<'_, char>,
    length: usize,
) -> Result<ProxyHeader, MalformedProxyHeader> {
    let words: Vec<&str> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(MalformedProxyHeader::Syntax);
    };
    let socket = |address: &str, digits: &str| -> Result<SocketAddr, MalformedProxyHeader> {
        let address: A = address.parse().map_err(|_| MalformedProxyHeader::Syntax)?;
        Ok(SocketAddr::new(address.into(), port(digits)?))
    };
    Ok(ProxyHeader {
        source: Some(socket(source, source_port)?),
        destination: Some(socket(destination, destination_port)?),
        length,
    })
}

fn port(digits: &str) -> Result<u16, MalformedProxyHeader> {
    let canonical = digits == "0" || digits.starts_with(|first: char| matches!(first, '1'..='9'));
    digits.parse().ok().filter(|_| canonical).ok_or(MalformedProxyHeader::Syntax)
}
