//! The proven order of layers, and the reason of each position, most of them from the layers' own documentation.
//!
//! ```
//! use portcullis::stack::order;
//!
//! let places: Vec<&str> = order::gateway().iter().map(|place| place.name()).collect();
//! let at = |name| places.iter().position(|place| *place == name);
//! assert!(at("authentication") < at("authorization"));
//! println!("{}", order::gateway());
//! ```
use std::fmt;

/// An order of layers, outermost first. It shows as text, one layer after the other with its reason.
#[derive(Debug, Clone, Copy)]
pub struct Order(&'static [Place]);

/// A place in an order.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    name: &'static str,
    why: Why,
}

#[derive(Debug, Clone, Copy)]
enum Why {
    /// The section "Position" of the documentation in this source.
    Documented(&'static str),
    Said(&'static str),
}

impl Order {
    /// The places, outermost first.
    pub fn iter(&self) -> impl Iterator<Item = &'static Place> + use<> {
        self.0.iter()
    }
}

impl Place {
    /// What stands here.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Why it stands here, in one paragraph.
    #[must_use]
    pub fn reason(&self) -> String {
        match self.why {
            Why::Documented(source) => position(source),
            Why::Said(reason) => reason.to_owned(),
        }
    }
}

/// The order of a [gateway](super::gateway).
#[must_use]
pub const fn gateway() -> Order {
    Order(GATEWAY)
}

/// The order of a [mesh client](super::mesh::Client), and of its [layer](super::mesh::ClientLayer) between the outermost and
/// the innermost place.
#[must_use]
pub const fn mesh_client() -> Order {
    Order(MESH_CLIENT)
}

/// The order of a [mesh server](super::mesh::ServerLayer).
#[must_use]
pub const fn mesh_server() -> Order {
    Order(MESH_SERVER)
}

const fn documented(name: &'static str, source: &'static str) -> Place {
    Place { name, why: Why::Documented(source) }
}

const fn said(name: &'static str, reason: &'static str) -> Place {
    Place { name, why: Why::Said(reason) }
}

const RESCUE: Place = documented("rescue from errors and panics", include_str!("../reject/rescue.rs"));
const ANSWERED: Place = said(
    "failures become answers",
    "Inside of everything that looks at answers: request id, logs, metrics, CORS and response headers see what failed \
     further inside like any other answer. The outermost rescue is for what is left.",
);
const CLIENT_ADDRESS: Place = said(
    "the client's address",
    "Outside of everything that logs, counts or limits by address. It is the connection's peer, or whom a trusted \
     proxy speaks for.",
);
const REQUEST_ID: Place = documented("request id", include_str!("../telemetry/request_id/mod.rs"));
const SPAN: Place = documented("span", include_str!("../telemetry/span/mod.rs"));
const ACCESS_LOG: Place = documented("access log", include_str!("../telemetry/access_log/mod.rs"));
#[cfg(feature = "prometheus")]
const METRICS: Place = documented("metrics", include_str!("../telemetry/metrics/mod.rs"));
#[cfg(not(feature = "prometheus"))]
const METRICS: Place = said("metrics", "They come with the feature `prometheus`.");
const SHED: Place = documented("overload", include_str!("../admission/shed/mod.rs"));
const AUTHENTICATION: Place = documented("authentication", include_str!("../authn/mod.rs"));
const AUTHORIZATION: Place = documented("authorization", include_str!("../admission/authz/mod.rs"));
const AUTHORIZERS: Place = documented("authorizers", include_str!("../admission/ext_authz/mod.rs"));
const OUTBOUND: Place = documented("credentials of our own", include_str!("../authn/outbound/mod.rs"));
const TIMEOUT: Place = documented("timeout of the request", include_str!("../resilience/timeout/mod.rs"));

const MIRROR: Place = documented("mirror", include_str!("../routing/mirror/mod.rs"));
const DEADLINE_READ: Place = said(
    "deadline of the caller",
    "Before everything that waits, for credentials, decisions and places in queues: all of it is the caller's time. And \
     outside of the timeout of the request, which it can shorten.",
);
const DEADLINE_TOLD: Place = said(
    "deadline told to the server",
    "Inside of retries, of the timeout of an attempt, and of what waits in front of the server, so that each attempt \
     tells what is left by then.",
);
const RETRY: Place = documented("retry", include_str!("../resilience/retry/mod.rs"));
const FAULT: Place = documented("faults", include_str!("../resilience/fault/mod.rs"));
const HEDGE: Place = documented("hedge", include_str!("../resilience/hedge/mod.rs"));
const ATTEMPT: Place =
    said("timeout of an attempt", "Inside of what may try again, outside of balancing and connecting.");

const GATEWAY: &[Place] = &[
    RESCUE,
    CLIENT_ADDRESS,
    REQUEST_ID,
    SPAN,
    ACCESS_LOG,
    METRICS,
    documented("usage", include_str!("../telemetry/usage/mod.rs")),
    SHED,
    said(
        "hop-by-hop fields removed",
        "Outside of every layer that adds fields of its own: a client could name them in `Connection` and have them \
         removed. Inside of logs and metrics, which see its refusals.",
    ),
    said(
        "asserted headers removed",
        "What only this gateway may say to upstreams, and from peers that are no trusted proxies what says how a \
         request came, is gone before anything reads or sets it; on every listener, whatever the rule. Here, too, a \
         stranger's request is refused for whose host the connection's certificate is not.",
    ),
    documented("host and path in one form", include_str!("../matching/mod.rs")),
    documented("addresses of the listener", include_str!("../admission/address/mod.rs")),
    said(
        "limits of the listener",
        "Before any rule is known, so that what ends as 401 or 404 is counted too.",
    ),
    documented("the rule, matched once", include_str!("../routing/router/mod.rs")),
    DEADLINE_READ,
    said(
        "the rule's own paths",
        "The listener lets through what any rule allows; what this one does not is refused as soon as it is known.",
    ),
    said("response headers", "Outside of all that may answer, so that refusals have them too."),
    said(
        "CORS",
        "Outside of authentication, because a preflight has no credentials, and so that a page can read why it was \
         refused.",
    ),
    said(
        "addresses of the rule",
        "Inside of CORS, so that a page can read why it was refused; else as early as can be.",
    ),
    said(
        "guard against other sites",
        "Inside of CORS, so that a page can read why it was refused; outside of authentication, since its question is \
         not who asks but from where.",
    ),
    said(
        "overload, by the rule's priority",
        "As soon as the rule has said how important its requests are; inside of authentication where the caller's plan \
         says it.",
    ),
    documented("limits that need no identity", include_str!("../admission/rate_limit/mod.rs")),
    AUTHENTICATION,
    AUTHORIZERS,
    AUTHORIZATION,
    said(
        "limits that need the identity",
        "A rule's list of limits is one decision, all or nothing, at the latest position that any of them needs: here \
         if one counts callers, else outside of authentication.",
    ),
    documented("quotas", include_str!("../admission/quota/mod.rs")),
    said(
        "credentials removed",
        "Inside of everything that verifies them. Also those of providers that this rule does not ask: an upstream \
         sees no credential that was meant for the gateway.",
    ),
    said("your own gates", "Inside of everything that decides who may ask, so that they can rely on it."),
    documented("fallback", include_str!("../resilience/fallback/mod.rs")),
    said(
        "circuit breaker of the rule",
        "Outside of limits on what is in flight, so that who is refused takes no place, and of all attempts: it judges what \
         the rule answers.",
    ),
    IN_FLIGHT,
    said(
        "filters of the request",
        "Nearest to the upstream: everything outside sees the request as it was matched.",
    ),
    SESSION,
    FAULT,
    ANSWERED,
    TIMEOUT,
    MIRROR,
    SPLIT,
    documented("canary", include_str!("../routing/canary/mod.rs")),
    RETRY,
    HEDGE,
    ATTEMPT,
    BREAKER,
    OF_UPSTREAM,
    DEADLINE_TOLD,
    OUTBOUND,
    PROXY,
];

const OF_UPSTREAM: Place = said(
    "requests in flight to the upstream, its success rate",
    "Around each attempt, so that all who call an upstream count together, and each attempt counts.",
);
const SESSION: Place = said(
    "where the session is",
    "Inside of filters, which may change what it is told in; outside of the split, since a session goes before weights.",
);
const BREAKER: Place = documented("circuit breaker", include_str!("../resilience/breaker/mod.rs"));
const IN_FLIGHT: Place = documented("requests in flight", include_str!("../admission/concurrency/mod.rs"));
const SUCCESS_RATE: Place = said(
    "success rate",
    "Innermost of what refuses: only what is tried, and fails, counts. A refusal of a limit is no failure.",
);

const SPLIT: Place = documented("split", include_str!("../routing/split/mod.rs"));
const PROXY: Place = said(
    "proxy: balance, connections",
    "Innermost: it picks the endpoint, says how the request came, and sends it.",
);

const MESH_CLIENT: &[Place] = &[
    said(
        "failures become answers",
        "Outermost in a `Client`, so that a caller's error is an answer in its protocol: tonic's clients read the status. A \
         `ClientLayer` alone leaves errors as they are.",
    ),
    said(
        "request id, trace",
        "Outermost, so that all tries of one call carry the id and the trace of the request it is made for.",
    ),
    METRICS,
    said(
        "deadline of the call",
        "Its own, and that of the request that it is made for: outside of the timeout, which narrows it.",
    ),
    TIMEOUT,
    SESSION,
    FAULT,
    MIRROR,
    SPLIT,
    RETRY,
    HEDGE,
    ATTEMPT,
    IN_FLIGHT,
    SUCCESS_RATE,
    OUTBOUND,
    BREAKER,
    OF_UPSTREAM,
    DEADLINE_TOLD,
    said(
        "attempt metrics",
        "Inside of retries, hedges, breakers and limits: each attempt that goes to the upstream counts by its own outcome, also \
         one whose failure was mended; what was refused before does not.",
    ),
    PROXY,
    said(
        "TLS connector",
        "Below HTTP: who the server is, and in mutual TLS who we are, is known before anything of a request is sent. One \
         connection serves many attempts.",
    ),
];

const MESH_SERVER: &[Place] = &[
    RESCUE,
    CLIENT_ADDRESS,
    REQUEST_ID,
    SPAN,
    ACCESS_LOG,
    METRICS,
    SHED,
    ANSWERED,
    DEADLINE_READ,
    TIMEOUT,
    AUTHENTICATION,
    said(
        "overload, by the caller's plan",
        "Here, and not outermost, where the plan says how important a request is.",
    ),
    AUTHORIZATION,
    said("limits", "Inside of authorization: who may not ask uses up nothing. They can count callers."),
    IN_FLIGHT,
    SUCCESS_RATE,
    documented("context", include_str!("../context/mod.rs")),
];

/// The text between `# Position` and the next heading, without the marks of links.
fn position(source: &str) -> String {
    let mut lines = source.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("//!").or_else(|| line.strip_prefix("///"))
    });
    let _ = lines.find(|line| line.trim() == "# Position");
    let text: Vec<&str> = lines.take_while(|line| !line.starts_with(" #")).map(str::trim).collect();
    unlinked(text.join(" ").trim())
}

/// `[text](target)` as `text`.
fn unlinked(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(open) = rest.find('[') {
        let Some(close) = rest[open..].find(']').map(|close| open + close) else { break };
        plain.push_str(&rest[..open]);
        plain.push_str(&rest[open + 1..close]);
        rest = &rest[close + 1..];
        if let Some(end) = rest.strip_prefix('(').and_then(|target| target.find(')')) {
            rest = &rest[end + 2..];
        }
    }
    plain + rest
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            writeln!(f, "{gap}{}. {}", index + 1, place.name)?;
            wrapped(f, &place.reason())?;
        }
        Ok(())
    }
}

/// Writes text in lines of at most 100 characters.
fn wrapped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count() + 1;
        if width == 0 || width + length > 100 {
            f.write_str(if width == 0 { "  " } else { "\n  " })?;
            width = 2;
        }
        write!(f, " {word}")?;
        width += length;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_reason() {
        for order in [gateway(), mesh_client(), mesh_server()] {
            for place in order.iter() {
                assert!(place.reason().len() > 20, "{}: {}", place.name(), place.reason());
                assert!(!place.reason().contains("]("), "{}: {}", place.name(), place.reason());
            }
        }
    }

    /// `docs/order.md` is what the orders say. `BLESS=1` writes it anew.
    #[test]
    fn the_documentation_is_current() {
        let text = format!(
            "# The order of the layers\n\nOutermost first, each with its reason. Written by `explain()`; \
             `gateway explain` prints the first.\n\nBuilders in `portcullis::stack` keep these orders however their \
             methods are called.\n\n## Gateway\n\n{}\n## Mesh client\n\n{}\n## Mesh server\n\n{}",
            gateway(),
            mesh_client(),
            mesh_server()
        );
        crate::stack::bless("docs/order.md", &text);
    }

    #[test]
    fn links_become_their_text() {
        assert_eq!(unlinked("a [`B`](crate::b) c [`D`] e"), "a `B` c `D` e");
        assert_eq!(unlinked("[x"), "[x");
    }
}
