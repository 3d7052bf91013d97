use std::{fmt, net::IpAddr};

use ipnet::IpNet;

/// Reads networks as block lists are published: one on each line, as `192.0.2.0/24`, `2001:db8::/32` or a single
/// address; what follows a `#` or `;` is left out, and so are empty lines.
///
/// # Errors
///
/// [`InvalidNetworks`], with the first line that holds something else.
pub fn parse_networks(text: &str) -> Result<Vec<IpNet>, InvalidNetworks> {
    let lines = text.lines().zip(1..).map(|(line, number)| (own(line), number));
    let said = lines.filter(|(line, _)| !line.is_empty());
    said.map(|(line, number)| network(line).ok_or(InvalidNetworks { line: number })).collect()
}

fn own(line: &str) -> &str {
    line.split(['#', ';']).next().unwrap_or_default().trim()
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A line is no network. It does not repeat the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidNetworks {
    line: usize,
}

impl InvalidNetworks {
    /// The number of the line, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for InvalidNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected a network such as `10.0.0.0/8`, `fd00::/8` or `192.0.2.7`", self.line)
    }
}

impl std::error::Error for InvalidNetworks {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_published() {
        let text = "# a list\r\n\r\n192.0.2.0/24 ; SBL1\r\n  198.51.100.7\n2001:db8::/32# six\n::1\n";
        let read: Vec<_> = parse_networks(text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32", "::1/128"]);
        assert_eq!(parse_networks(""), Ok(Vec::new()));
        for bad in ["192.0.2.0/33", "192.0.2", "example.org", "192.0.2.1 192.0.2.2", "10.0.0.0-10.0.0.9"] {
            assert_eq!(parse_networks(&format!("# x\n{bad}\n")).unwrap_err().line(), 2, "{bad}");
        }
    }
}
