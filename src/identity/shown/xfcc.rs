//! `X-Forwarded-Client-Cert`: elements divided by commas, pairs in them by semicolons, values quoted where they have to be.

use std::borrow::Cow;

use http::HeaderMap;
use rustls::pki_types::CertificateDer;

use super::{InvalidCertificateHeader, client_cert::LONGEST, header::XFCC, pem};
use crate::{
    hex,
    identity::{PeerIdentity, SpiffeId, forwarded, is_dns_name},
    tls,
};

/// More pairs than an element needs.
const MOST_PAIRS: usize = 512;

type Read<T> = Result<T, InvalidCertificateHeader>;

/// What the last element says, which is the nearest proxy's.
///
/// It is looked for from the right, so that a quote which a stranger opened on the left, and never closed, does not swallow
/// what the proxy appended.
pub(super) fn read(headers: &HeaderMap) -> Read<Option<PeerIdentity>> {
    let Some(element) = forwarded::last_unquoted(headers, &XFCC, LONGEST) else {
        let says_nothing = headers.get_all(XFCC).iter().all(|line| line.as_bytes().trim_ascii().is_empty());
        return if says_nothing { Ok(None) } else { Err(InvalidCertificateHeader("it is too long")) };
    };
    let element = std::str::from_utf8(element).map_err(|_| InvalidCertificateHeader("it is no UTF-8"))?;
    Element::parse(element)?.identity().map(Some)
}

/// What an element says of the certificate.
#[derive(Default)]
struct Element<'a> {
    hash: Option<&'a str>,
    cert: Option<&'a str>,
    chain: Option<&'a str>,
    subject: Option<&'a str>,
    uris: Vec<Cow<'a, str>>,
    dns: Vec<Cow<'a, str>>,
}

impl<'a> Element<'a> {
    fn parse(mut text: &'a str) -> Read<Self> {
        let mut element = Self::default();
        for _ in 0..MOST_PAIRS {
            text = text.trim_start_matches([' ', '\t', ';']);
            if text.is_empty() {
                return Ok(element);
            }
            let (key, value, rest) =
                pair(text).ok_or(InvalidCertificateHeader("expected pairs, `Key=value`"))?;
            element.hear(key, value)?;
            text = rest;
        }
        Err(InvalidCertificateHeader("it has too many pairs"))
    }

    fn hear(&mut self, key: &str, value: &'a str) -> Read<()> {
        // Without a value it says that there is none.
        if value.is_empty() {
            return Ok(());
        }
        let once = match key.to_ascii_lowercase().as_str() {
            "hash" => &mut self.hash,
            "cert" => &mut self.cert,
            "chain" => &mut self.chain,
            "subject" => &mut self.subject,
            "uri" => {
                self.uris.push(unescaped(value));
                return Ok(());
            }
            "dns" => {
                self.dns.push(unescaped(value));
                return Ok(());
            }
            // `By`, which is whom it was shown to, and what others may add.
            _ => return Ok(()),
        };
        match once.replace(value) {
            None => Ok(()),
            Some(_) => Err(InvalidCertificateHeader("it says something twice")),
        }
    }

    fn identity(self) -> Read<PeerIdentity> {
        let hash = self
            .hash
            .map(|text| sha256(text).ok_or(InvalidCertificateHeader("`Hash` is no SHA-256")))
            .transpose()?;
        let peer = match (self.certificates()?, hash) {
            (Some(chain), _) => tls::read_certificates(&chain).map_err(InvalidCertificateHeader)?,
            (None, Some(hash)) => self.named(hash)?,
            (None, None) => {
                return Err(InvalidCertificateHeader("it has none of `Hash`, `Cert` and `Chain`"));
            }
        };
        match hash.is_none_or(|hash| hash == *peer.sha256()) {
            true => Ok(peer),
            false => Err(InvalidCertificateHeader("`Hash` is of another certificate")),
        }
    }

    /// The certificates, its own first.
    fn certificates(&self) -> Read<Option<Vec<CertificateDer<'static>>>> {
        let [own, chain] = [self.cert, self.chain].map(|text| text.map(pem::decode).transpose());
        match (own?, chain?) {
            (Some(own), _) if own.len() > 1 => {
                Err(InvalidCertificateHeader("`Cert` is more than one certificate"))
            }
            (Some(own), Some(chain)) if own[0] != chain[0] => {
                Err(InvalidCertificateHeader("`Chain` is of another certificate"))
            }
            (own, chain) => Ok(chain.or(own)),
        }
    }

    /// Without the certificate itself.
    fn named(&self, hash: [u8; 32]) -> Read<PeerIdentity> {
        let mut peer = PeerIdentity::new(hash);
        if let Some(id) = SpiffeId::among(&self.uris).map_err(InvalidCertificateHeader)? {
            peer = peer.with_spiffe_id(id.as_str());
        }
        if let Some(subject) = self.subject {
            peer = peer.with_subject(distinguished(subject));
        }
        if !self.dns.iter().all(|name| is_dns_name(name)) {
            return Err(InvalidCertificateHeader("one of its DNS names is none"));
        }
        let [uris, dns] = [&self.uris, &self.dns].map(|names| names.iter().map(|name| &**name));
        Ok(peer.with_uris(uris).with_dns_names(dns))
    }
}

/// A key and its value without quotes, and what follows them. What is quoted keeps its escapes.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let (key, after) = text.split_once('=')?;
    let after = after.trim_start_matches([' ', '\t']);
    let (value, rest) = match after.strip_prefix('"') {
        Some(quoted) => {
            let end = closing(quoted)?;
            (&quoted[..end], quoted[end + 1..].trim_start_matches([' ', '\t']))
        }
        None => after.split_at(after.find(';').unwrap_or(after.len())),
    };
    let is_quoted = after.starts_with('"');
    let is_right = (rest.is_empty() || rest.starts_with(';')) && (is_quoted || !value.contains('"'));
    is_right.then_some((key.trim(), if is_quoted { value } else { value.trim_end() }, rest))
}

/// Where the quote ends; a backslash takes whatever follows it along.
fn closing(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// The name in a value: what follows a backslash stands for itself.
fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut signs = value.chars();
    let next = || match signs.next() {
        Some('\\') => Some(signs.next().unwrap_or('\\')),
        sign => sign,
    };
    Cow::Owned(std::iter::from_fn(next).collect())
}

/// A distinguished name keeps the escapes of its own (RFC 4514), for which Envoy adds none; but what is not ASCII, which it
/// escapes byte by byte, stands for itself here.
fn distinguished(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, others)) = rest.split_first() {
        let escaped =
            others.get(..2).filter(|_| first == b'\\').and_then(hex::byte).filter(|byte| !byte.is_ascii());
        let taken = match escaped {
            Some(byte) => {
                bytes.push(byte);
                3
            }
            None => {
                let taken = if first == b'\\' { rest.len().min(2) } else { 1 };
                bytes.extend_from_slice(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes = pairs.iter().map(|pair| hex::byte(pair)).collect::<Option<Vec<_>>>()?;
    bytes.try_into().ok()
}
