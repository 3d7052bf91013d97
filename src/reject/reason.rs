use std::fmt;

use http::StatusCode;

use super::GrpcCode;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident: $status:ident, $grpc:ident, $label:literal, $flag:literal;)*) => {
        /// Why a request was refused, and what each protocol calls it.
        ///
        /// | reason | HTTP | gRPC | metric label | access-log flag |
        /// |---|---|---|---|---|
        $(#[doc = concat!("| `", stringify!($name), "` | `", stringify!($status), "` | `", stringify!($grpc), "` | `", $label, "` | `", $flag, "` |")])*
        ///
        /// Flags are Envoy's response flags where Envoy has one for the same event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The gRPC code.
            #[must_use]
            pub const fn grpc(self) -> GrpcCode {
                match self { $(Self::$name => GrpcCode::$grpc,)* }
            }

            /// The metric label: snake case, stable.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The short flag in access logs.
            #[must_use]
            pub const fn flag(self) -> &'static str {
                match self { $(Self::$name => $flag,)* }
            }
        }
    };
}

reasons! {
    /// Nobody from this address is let in.
    AddressDenied: FORBIDDEN, PERMISSION_DENIED, "address_denied", "AD";
    /// Who is asked for permission elsewhere does not answer.
    AuthorizerUnavailable: SERVICE_UNAVAILABLE, UNAVAILABLE, "authorizer_unavailable", "UAEX";
    /// The head, path, host or framing is malformed.
    BadRequest: BAD_REQUEST, INTERNAL, "bad_request", "DPE";
    /// The body is larger than allowed.
    BodyTooLarge: PAYLOAD_TOO_LARGE, RESOURCE_EXHAUSTED, "body_too_large", "BL";
    /// The time that the caller gave has passed. Not the server's fault.
    CallerDeadline: GATEWAY_TIMEOUT, DEADLINE_EXCEEDED, "caller_deadline", "CD";
    /// A circuit breaker is open.
    CircuitOpen: SERVICE_UNAVAILABLE, UNAVAILABLE, "circuit_open", "UO";
    /// No connection to the upstream could be made.
    ConnectFailed: BAD_GATEWAY, UNAVAILABLE, "connect_failed", "UF";
    /// The time for the whole request has passed.
    DeadlineExceeded: GATEWAY_TIMEOUT, DEADLINE_EXCEEDED, "deadline_exceeded", "DT";
    /// It was made to fail on purpose. The status is the one that was asked for.
    FaultInjected: SERVICE_UNAVAILABLE, UNAVAILABLE, "fault_injected", "FI";
    /// The caller is known and may not do this.
    Forbidden: FORBIDDEN, PERMISSION_DENIED, "forbidden", "AZ";
    /// The head is larger, or has more fields, than allowed.
    HeadTooLarge: REQUEST_HEADER_FIELDS_TOO_LARGE, RESOURCE_EXHAUSTED, "head_too_large", "HL";
    /// The token lacks a scope (RFC 6750 section 3.1).
    InsufficientScope: FORBIDDEN, PERMISSION_DENIED, "insufficient_scope", "AZ";
    /// This gateway failed.
    Internal: INTERNAL_SERVER_ERROR, INTERNAL, "internal", "IE";
    /// The request is well formed and its content is not acceptable.
    InvalidArgument: BAD_REQUEST, INVALID_ARGUMENT, "invalid_argument", "IA";
    /// Credentials were presented and none is valid.
    InvalidCredentials: UNAUTHORIZED, UNAUTHENTICATED, "invalid_credentials", "AN";
    /// The keys that verify credentials are not known yet.
    KeysUnavailable: SERVICE_UNAVAILABLE, UNAVAILABLE, "keys_unavailable", "KU";
    /// The counters of a rate limit or quota cannot be asked now.
    LimitUnavailable: SERVICE_UNAVAILABLE, UNAVAILABLE, "limit_unavailable", "LU";
    /// The host is not served on this connection (RFC 9110 section 15.5.20).
    Misdirected: MISDIRECTED_REQUEST, UNAVAILABLE, "misdirected", "MD";
    /// No credentials were presented.
    MissingCredentials: UNAUTHORIZED, UNAUTHENTICATED, "missing_credentials", "AN";
    /// No endpoint of the upstream can be used.
    NoEndpoint: SERVICE_UNAVAILABLE, UNAVAILABLE, "no_endpoint", "UH";
    /// No route matches host, path, method, header and query.
    NoRoute: NOT_FOUND, UNIMPLEMENTED, "no_route", "NR";
    /// What was asked for is not offered.
    NotImplemented: NOT_IMPLEMENTED, UNIMPLEMENTED, "not_implemented", "NI";
    /// Too much is in flight.
    Overloaded: SERVICE_UNAVAILABLE, UNAVAILABLE, "overloaded", "OM";
    /// Who vouches for the credential cannot be asked now.
    ProviderUnavailable: SERVICE_UNAVAILABLE, UNAVAILABLE, "provider_unavailable", "PU";
    /// A quota is used up.
    QuotaExhausted: TOO_MANY_REQUESTS, RESOURCE_EXHAUSTED, "quota_exhausted", "QE";
    /// A rate limit is reached.
    RateLimited: TOO_MANY_REQUESTS, RESOURCE_EXHAUSTED, "rate_limited", "RL";
    /// The caller took too long to send its request.
    RequestTimeout: REQUEST_TIMEOUT, DEADLINE_EXCEEDED, "request_timeout", "SI";
    /// No token for the upstream could be had.
    TokenUnavailable: SERVICE_UNAVAILABLE, UNAVAILABLE, "token_unavailable", "TU";
    /// This server is going away.
    Unavailable: SERVICE_UNAVAILABLE, UNAVAILABLE, "unavailable", "DR";
    /// The upstream broke the protocol.
    UpstreamProtocol: BAD_GATEWAY, UNAVAILABLE, "upstream_protocol", "UPE";
    /// The upstream ended the connection.
    UpstreamReset: BAD_GATEWAY, UNAVAILABLE, "upstream_reset", "UC";
    /// The upstream did not answer in the time of an attempt.
    UpstreamTimeout: GATEWAY_TIMEOUT, DEADLINE_EXCEEDED, "upstream_timeout", "UT";
}

#[cfg(any(feature = "prometheus", feature = "stack"))]
impl Reason {
    /// Why heads become no request. Each has a count, and lines of its own.
    pub(crate) const OF_HEADS: [Self; 4] =
        [Self::BadRequest, Self::HeadTooLarge, Self::Overloaded, Self::RequestTimeout];

    /// Its place among [those](Self::OF_HEADS). What is none of them counts as a bad request.
    pub(crate) fn of_head(self) -> usize {
        Self::OF_HEADS.iter().position(|reason| *reason == self).unwrap_or(0)
    }
}

impl Reason {
    /// Whether it blames the caller, in every protocol: a 4xx status, or the caller's own deadline.
    #[must_use]
    pub fn blames_caller(self) -> bool {
        self == Self::CallerDeadline || self.status().is_client_error()
    }

    /// A title for people: the status's standard phrase.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.status().canonical_reason().unwrap_or("Error")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is a promise to users' dashboards and clients: a change here is a breaking change.
    #[test]
    fn the_table_is_pinned() {
        let table: String = Reason::ALL
            .iter()
            .map(|r| format!("{r:?} {} {} {} {}\n", r.status().as_u16(), r.grpc(), r.label(), r.flag()))
            .collect();
        assert_eq!(table, include_str!("../../tests/data/reasons.txt"));
    }

    #[test]
    fn labels_are_unique_and_sorted() {
        assert!(Reason::ALL.windows(2).all(|w| w[0].label() < w[1].label()));
    }
}
