//! Header fields that are for one hop only (RFC 9110 section 7.6.1).

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, CONNECTION, TE, UPGRADE},
};

use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    reject::{Answer, Reason, Rejection},
};

/// How many fields a `Connection` field can name. A head has at most about as many.
const MAX_NAMED: usize = 100;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Those who read `_` as `-` would take them for a message's framing.
const UNDERSCORED_LENGTH: HeaderName = HeaderName::from_static("content_length");
const UNDERSCORED_CODING: HeaderName = HeaderName::from_static("transfer_encoding");

/// Fields that end at each hop, named or not.
static HOP_BY_HOP: [HeaderName; 11] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    header::TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    UNDERSCORED_LENGTH,
    UNDERSCORED_CODING,
];

/// Fields that stay, even if a `Connection` field names them: a stranger must not be able to remove what frames or
/// describes a message, or what a proxy before us or a layer of ours has said about it.
static PROTECTED: [HeaderName; 14] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::SET_COOKIE,
    header::TRAILER,
    header::VIA,
    header::WWW_AUTHENTICATE,
];

/// Fields whose names begin so are protected too.
const PROTECTED_PREFIXES: [&str; 5] = ["x-forwarded-", "x-real-ip", "x-request-id", "trace", "grpc-"];

/// What of the fields that were removed is still needed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The protocols that the sender would switch to.
    pub(super) upgrade: Option<HeaderValue>,
    /// Whether the sender takes trailers (`TE: trailers`).
    pub(super) trailers: bool,
}

/// Removes the fields of the hop that a message has come over, and those that its `Connection` field names.
pub(super) fn strip(headers: &mut HeaderMap) -> Result<Kept, Rejection> {
    if !has_any(headers) {
        return Ok(Kept::default());
    }
    let mut kept = Kept { trailers: takes_trailers(headers), upgrade: None };
    if headers.contains_key(CONNECTION) {
        let named = Named::of(headers)?;
        if named.upgrade {
            kept.upgrade = headers.get(UPGRADE).filter(|value| is_tunnel_protocol(value)).cloned();
        }
        for name in named.fields {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    Ok(kept)
}

/// Refuses each transfer coding but chunked, once: what one party takes for the end of a message others do not, then (RFC 9112
/// section 6.3). What comes after it on its connection is not believed.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut codings = list(headers, &header::TRANSFER_ENCODING);
    let chunked = codings.next().is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    match chunked && codings.next().is_none() {
        true => Ok(()),
        false => Err(Rejection::new(Reason::NotImplemented)
            .detail("no transfer coding but chunked is offered")
            .header(CONNECTION, HeaderValue::from_static("close"))),
    }
}

/// Whether there are fields of the hop at all. One look over the names there are costs less than a search for each of
/// those that seldom are.
pub(super) fn has_any(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        matches!(
            name.as_str(),
            "connection"
                | "content_length"
                | "http2-settings"
                | "keep-alive"
                | "proxy-authenticate"
                | "proxy-authorization"
                | "proxy-connection"
                | "te"
                | "transfer-encoding"
                | "transfer_encoding"
                | "upgrade"
        )
    })
}

/// What the `Connection` fields name.
#[derive(Default)]
struct Named {
    upgrade: bool,
    fields: Vec<HeaderName>,
}

impl Named {
    fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut named = Self::default();
        for option in list(headers, &CONNECTION) {
            if option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive") {
                continue;
            }
            if option.eq_ignore_ascii_case(b"upgrade") {
                named.upgrade = true;
                continue;
            }
            match HeaderName::from_bytes(option) {
                Ok(name) if !is_protected(&name) => named.fields.push(name),
                _ => {}
            }
            if named.fields.len() > MAX_NAMED {
                return Err(Rejection::new(Reason::BadRequest).detail("too many connection options"));
            }
        }
        Ok(named)
    }
}

fn is_protected(name: &HeaderName) -> bool {
    PROTECTED.contains(name) || PROTECTED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Whether these protocols are ones that a tunnel can carry. HTTP itself and TLS are not: who switches to `h2c`
/// behind a gateway speaks to the upstream past all its policies.
fn is_tunnel_protocol(value: &HeaderValue) -> bool {
    let mut protocols = elements(value.as_bytes()).peekable();
    protocols.peek().is_some()
        && protocols.all(|protocol| {
            let name = protocol.split(|&b| b == b'/').next().unwrap_or_default();
            ![b"h2c".as_slice(), b"h2", b"http", b"tls"].iter().any(|bad| name.eq_ignore_ascii_case(bad))
        })
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    list(headers, &TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// The elements of a list field, over all its lines.
pub(super) fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(|value| elements(value.as_bytes()))
}

pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Removes from trailers what must not stand there (RFC 9110 section 6.5.1): what belongs to the hop, frames or
/// routes the message, or says who sent it.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    for name in HOP_BY_HOP.iter().chain(&PROTECTED) {
        trailers.remove(name);
    }
    while let Some(name) = trailers.keys().find(|name| tells_the_way(name)).cloned() {
        trailers.remove(name);
    }
}

/// Whether the name is one of a proxy's words about a request, with `_` as `-`: an upstream may read it so.
fn tells_the_way(name: &HeaderName) -> bool {
    let begins = |prefix: &str| {
        let name = name.as_str().bytes().map(|b| if b == b'_' { b'-' } else { b });
        name.take(prefix.len()).eq(prefix.bytes())
    };
    ["client-cert", "x-forwarded-", "x-real-ip", "x-request-id"].into_iter().any(begins)
}

/// A gate for the edge: it removes the fields that are for one hop only, before any layer adds fields of its own.
///
/// A client can name any field in `Connection`, and an intermediary has to remove it. If that is done last, the
/// client chooses which of the fields that the gateway has added the upstream gets to see (as in CVE-2022-1388 and
/// CVE-2022-31813). So it is done first: put this gate outside of every layer that sets request headers. A
/// [`Proxy`](super::Proxy) does it too, for what is left by then, and never removes a field that frames the message
/// or says who sent it.
///
/// What is left is in one form: `te: trailers` if the client takes trailers, and `connection: upgrade` with
/// `upgrade` if it asks for another protocol, other than HTTP and TLS, over HTTP/1.1.
///
/// ```
/// use http::Request;
/// use portcullis::{gate::Gate, head::Head, upstream::HopByHop};
///
/// let mut request = Request::get("/")
///     .header("connection", "x-user, keep-alive")
///     .header("keep-alive", "timeout=5")
///     .header("x-user", "root")
///     .body(())?;
/// assert!(HopByHop.check(&mut Head::of(&mut request)).is_ok());
/// assert!(request.headers().is_empty());
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct HopByHop;

impl HopByHop {
    /// A layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    /// Whether no request has this field inside of it, whatever came in.
    #[cfg(feature = "config")]
    pub(crate) fn always_removes(name: &HeaderName) -> bool {
        HOP_BY_HOP.contains(name) && ![CONNECTION, TE, header::TRANSFER_ENCODING, UPGRADE].contains(name)
    }
}

impl Gate for HopByHop {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if !has_any(head.headers()) {
            return Ok(());
        }
        check_coding(head.headers())?;
        // The framing of the message must still be seen by whoever sends it on.
        let coding = head.headers().get(header::TRANSFER_ENCODING).cloned();
        let version = head.version();
        let headers = head.headers_mut();
        let kept = strip(headers)?;
        if let Some(coding) = coding {
            headers.insert(header::TRANSFER_ENCODING, coding);
        }
        if kept.trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(upgrade) = kept.upgrade.filter(|_| version == Version::HTTP_11) {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, upgrade);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    #[test]
    fn removes_the_fields_of_the_hop_and_what_they_name() {
        let mut map = headers(&[
            ("connection", "close, X-Hop , ,keep-alive"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("x-end", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("te", "gzip, trailers;q=0.5"),
            ("transfer-encoding", "chunked"),
            ("Transfer_Encoding", "chunked"),
            ("Content_Length", "7"),
            ("trailer", "x-sum"),
        ]);
        assert_eq!(strip(&mut map).unwrap(), Kept::default());
        assert_eq!(map, headers(&[("x-end", "1"), ("trailer", "x-sum")]));
    }

    #[test]
    fn each_field_of_the_hop_is_seen() {
        for name in &HOP_BY_HOP {
            assert!(has_any(&headers(&[("host", "a"), (name.as_str(), "1")])), "{name}");
        }
        assert!(!has_any(&headers(&[("host", "a"), ("x-connection", "1")])));
    }

    #[test]
    fn protected_fields_stay() {
        let fields = [
            ("host", "a"),
            ("content-length", "1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("traceparent", "00-"),
        ];
        let mut map = headers(&fields);
        for (name, _) in fields {
            map.append(CONNECTION, name.parse().unwrap());
        }
        strip(&mut map).unwrap();
        assert_eq!(map, headers(&fields));
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_another_protocol_than_http() {
        let upgrade = |connection: &str, upgrade: &str| {
            let kept = strip(&mut headers(&[("connection", connection), ("upgrade", upgrade)])).unwrap();
            kept.upgrade.is_some()
        };
        assert!(upgrade("keep-alive, Upgrade", "websocket"));
        assert!(!upgrade("keep-alive", "websocket"));
        for http in ["h2c", "H2C", "HTTP/2.0", "TLS/1.2", "websocket, h2c", ""] {
            assert!(!upgrade("upgrade", http), "{http}");
        }
        assert!(!upgrade("upgrade, http2-settings", "h2c"));
    }

    #[test]
    fn trailers_say_nothing_about_the_way() {
        let mut trailers = headers(&[
            ("x-forwarded-for", "1"),
            ("X_Forwarded-Proto", "1"),
            ("x_real_ip", "1"),
            ("x_forwarded_client_cert", "Hash=1"),
            ("client_cert", ":AA==:"),
            ("client-cert-chain", ":AA==:"),
            ("x-request-id", "1"),
            ("forwarded", "for=1"),
            ("authorization", "Bearer x"),
            ("x-sum", "42"),
            ("grpc-status", "0"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(trailers, headers(&[("x-sum", "42"), ("grpc-status", "0")]));
    }

    #[test]
    fn a_flood_of_names_is_refused() {
        let names: Vec<_> = (0..=MAX_NAMED).map(|n| format!("x-{n}")).collect();
        let refused = strip(&mut headers(&[("connection", &names.join(","))])).unwrap_err();
        assert_eq!(refused.reason(), Reason::BadRequest);
    }

    #[test]
    fn the_gate_leaves_one_form() {
        let check = |version, fields: &[(&str, &str)]| {
            let mut request = http::Request::new(());
            *request.version_mut() = version;
            *request.headers_mut() = headers(fields);
            assert!(HopByHop.check(&mut Head::of(&mut request)).is_ok());
            request.into_parts().0.headers
        };
        let asked =
            [("connection", "Upgrade, te, x-a"), ("upgrade", "websocket"), ("te", "trailers"), ("x-a", "1")];
        let left = [("te", "trailers"), ("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(check(Version::HTTP_11, &asked), headers(&left));
        assert_eq!(check(Version::HTTP_10, &asked), headers(&left[..1]));
        assert_eq!(check(Version::HTTP_11, &left), headers(&left), "twice is as once");
    }

    proptest! {
        #[test]
        fn whatever_is_named_nothing_of_the_hop_stays(connection in "[ ,a-z-]{0,60}", names in prop::collection::vec("[a-z-]{1,8}", 0..8)) {
            let mut map = headers(&[("connection", &connection), ("keep-alive", "1"), ("te", "x"), ("host", "a")]);
            for name in &names {
                if let Ok(name) = name.parse::<HeaderName>() {
                    map.append(name, HeaderValue::from_static("1"));
                }
            }
            strip(&mut map).unwrap();
            prop_assert!(map.contains_key("host"));
            prop_assert!(HOP_BY_HOP.iter().all(|name| !map.contains_key(name)));
            for named in elements(connection.as_bytes()).filter_map(|name| HeaderName::from_bytes(name).ok()) {
                let gone = !map.contains_key(&named) || is_protected(&named) || named == "close" || named == "upgrade";
                prop_assert!(gone, "{}", named);
            }
        }
    }
}
