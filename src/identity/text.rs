#[cfg(any(feature = "telemetry", test))]
use std::net::SocketAddr;
use std::{
    fmt::{self, Write},
    net::{IpAddr, Ipv4Addr},
};

/// An address as text, without an allocation. Each request writes some, and [`fmt::Display`] takes its time.
#[derive(Clone, Copy)]
pub(crate) struct AddressText {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl AddressText {
    /// `[` IPv6 with an IPv4 tail (45), a scope (11) `]:65535`, rounded up.
    const LONGEST: usize = 72;

    pub(crate) fn of_ip(ip: IpAddr) -> Self {
        let mut text = Self { bytes: [0; Self::LONGEST], length: 0 };
        match ip {
            IpAddr::V4(ip) => text.push_v4(ip),
            IpAddr::V6(ip) => text.push_display(ip),
        }
        text
    }

    #[cfg(any(feature = "telemetry", test))]
    pub(crate) fn of_socket(address: SocketAddr) -> Self {
        let SocketAddr::V4(v4) = address else {
            let mut text = Self { bytes: [0; Self::LONGEST], length: 0 };
            text.push_display(address);
            return text;
        };
        let mut text = Self::of_ip(IpAddr::V4(*v4.ip()));
        text.push(b':');
        text.push_number(v4.port());
        text
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    #[cfg(any(feature = "telemetry", test))]
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn push_v4(&mut self, ip: Ipv4Addr) {
        for (at, octet) in ip.octets().into_iter().enumerate() {
            if at > 0 {
                self.push(b'.');
            }
            self.push_number(octet.into());
        }
    }

    fn push_number(&mut self, number: u16) {
        for unit in [10_000, 1_000, 100, 10] {
            if number >= unit {
                self.push(b'0' + (number / unit % 10) as u8);
            }
        }
        self.push(b'0' + (number % 10) as u8);
    }

    fn push_display(&mut self, address: impl fmt::Display) {
        let _ = write!(self, "{address}");
    }
}

impl Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_display_writes(ip in any::<IpAddr>(), port in any::<u16>()) {
            let (text, socket) = (AddressText::of_ip(ip), SocketAddr::new(ip, port));
            prop_assert_eq!(text.as_str(), ip.to_string());
            let text = AddressText::of_socket(socket);
            prop_assert_eq!(text.as_str(), socket.to_string());
        }
    }

    #[test]
    fn the_longest_fits() {
        let v6 = std::net::SocketAddrV6::new(
            "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap(),
            u16::MAX,
            0,
            u32::MAX,
        );
        assert_eq!(AddressText::of_socket(v6.into()).as_str(), v6.to_string());
    }
}
