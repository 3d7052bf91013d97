use std::{any::Any, error::Error, io};

use crate::{
    body::BoxError,
    reject::{Reason, Rejection},
};

/// What kind of error stood in the place of a response, or of the rest of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The deadline that the caller set passed. Not the server's fault.
    CallerDeadline,
    /// No connection could be made, or a network has lost the way to the peer: a socket that is in use can say so too. Only
    /// [`Rejection::is_unsent`] says that nothing was sent.
    Connect,
    /// A deadline of ours passed.
    Deadline,
    /// Some other error.
    Other,
    /// The peer broke the protocol.
    Protocol,
    /// The request was refused before it was looked at: HTTP/2 `REFUSED_STREAM`, which an upstream of ours tells as a
    /// [`Reset`](Self::Reset) of which it knows that [nobody has looked at it](Rejection::is_unsent), or a layer of ours, such as an
    /// open breaker.
    Refused,
    /// The connection or stream ended early.
    Reset,
}

impl Failure {
    /// What is told of it, in every protocol, log and metric, where no [`Rejection`] says it better.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::CallerDeadline => Reason::CallerDeadline,
            Self::Connect => Reason::ConnectFailed,
            Self::Deadline => Reason::UpstreamTimeout,
            Self::Other => Reason::Internal,
            Self::Protocol => Reason::UpstreamProtocol,
            Self::Refused => Reason::Overloaded,
            Self::Reset => Reason::UpstreamReset,
        }
    }

    /// The kind of an error of any type. No bound is asked of errors, so that layers keep the inner type.
    ///
    /// It looks at a [`Rejection`], an [`io::Error`], an elapsed timer, hyper's errors where the `upstream` or
    /// `transport` feature brings hyper, and at their sources, through a [`BoxError`] too.
    #[must_use]
    pub fn of<E: 'static>(error: &E) -> Self {
        chain_of(error).map_or(Self::Other, Self::of_chain)
    }

    /// The kind of an error and its sources.
    #[must_use]
    pub fn of_chain(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failure) = one(error) {
                return failure;
            }
            next = error.source();
        }
        Self::Other
    }
}

/// The rejection in an error of any type, or among its sources.
pub(crate) fn rejection_in<E: 'static>(error: &E) -> Option<&Rejection> {
    chain_of(error).and_then(Rejection::find)
}

/// Whether a client says that it got no connection, so that nothing was sent: hyper-util's, or a channel of tonic, which
/// says it below its own error. Deeper in the chain the word would be about another call.
#[cfg(feature = "resilience")]
pub(crate) fn is_connect<E: 'static>(error: &E) -> bool {
    let Some(error) = chain_of(error) else { return false };
    of_client(error) || of_channel(error)
}

/// Whether a client says that the peer has not looked at the request. As with [`is_connect`], from the client itself only.
#[cfg(feature = "resilience")]
pub(crate) fn is_refused<E: 'static>(error: &E) -> bool {
    #[cfg(feature = "upstream")]
    if let Some(error) = chain_of(error)
        && is_of_client(error)
    {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref() {
                return is_refused_stream(error);
            }
            next = error.source();
        }
    }
    let _ = error;
    false
}

/// Whether it is the own error of a client that speaks HTTP/2.
#[cfg(all(feature = "resilience", feature = "upstream"))]
fn is_of_client(error: &(dyn Error + 'static)) -> bool {
    #[cfg(all(feature = "tonic", feature = "transport"))]
    if error.is::<tonic::transport::Error>() {
        return true;
    }
    error.is::<hyper_util::client::legacy::Error>() || error.is::<hyper::Error>()
}

#[cfg(feature = "upstream")]
fn of_client(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref().is_some_and(hyper_util::client::legacy::Error::is_connect)
}

#[cfg(all(feature = "resilience", not(feature = "upstream")))]
fn of_client(_: &(dyn Error + 'static)) -> bool {
    false
}

#[cfg(all(feature = "tonic", feature = "transport"))]
fn of_channel(error: &(dyn Error + 'static)) -> bool {
    let channel = error.downcast_ref::<tonic::transport::Error>();
    channel.and_then(Error::source).is_some_and(|source| source.is::<tonic::ConnectError>())
}

#[cfg(all(feature = "resilience", not(all(feature = "tonic", feature = "transport"))))]
fn of_channel(_: &(dyn Error + 'static)) -> bool {
    false
}

/// `error` as a trait object, if it is of a type we know how to look into.
fn chain_of<E: 'static>(error: &E) -> Option<&(dyn Error + 'static)> {
    let any: &dyn Any = error;
    if let Some(boxed) = any.downcast_ref::<BoxError>() {
        return Some(&**boxed);
    }
    macro_rules! known {
        ($($type:ty),* $(,)?) => {
            $(if let Some(error) = any.downcast_ref::<$type>() { return Some(error); })*
        };
    }
    known!(Rejection, io::Error, tokio::time::error::Elapsed);
    #[cfg(any(feature = "upstream", feature = "transport"))]
    known!(hyper::Error);
    #[cfg(feature = "upstream")]
    known!(hyper_util::client::legacy::Error);
    #[cfg(feature = "axum")]
    known!(axum::Error);
    #[cfg(feature = "tonic")]
    known!(tonic::Status);
    // tonic has this type with its transport only.
    #[cfg(all(feature = "tonic", feature = "transport"))]
    known!(tonic::transport::Error);
    None
}

fn one(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(rejection) = error.downcast_ref::<Rejection>() {
        return Some(of_reason(rejection.reason()));
    }
    if error.is::<tokio::time::error::Elapsed>() {
        return Some(Failure::Deadline);
    }
    #[cfg(feature = "upstream")]
    if of_client(error) {
        return Some(Failure::Connect);
    }
    #[cfg(all(feature = "tonic", feature = "transport"))]
    if of_channel(error) {
        return Some(Failure::Connect);
    }
    #[cfg(any(feature = "upstream", feature = "transport"))]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return of_hyper(error);
    }
    #[cfg(feature = "upstream")]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return Some(of_h2(error));
    }
    error.downcast_ref::<io::Error>().map(of_io)
}

#[cfg(feature = "upstream")]
fn of_h2(error: &h2::Error) -> Failure {
    if is_refused_stream(error) {
        Failure::Refused
    } else if error.is_library() && !matches!(error.reason(), Some(h2::Reason::NO_ERROR | h2::Reason::CANCEL))
    {
        // We have reset it, for what the peer did.
        Failure::Protocol
    } else if error.is_io() || error.is_reset() || error.is_go_away() {
        Failure::Reset
    } else {
        Failure::Protocol
    }
}

/// Whether the peer has said that it has not looked at the request (RFC 9113 section 8.7).
#[cfg(feature = "upstream")]
pub(crate) fn is_refused_stream(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
}

fn of_reason(reason: Reason) -> Failure {
    match reason {
        Reason::CallerDeadline => Failure::CallerDeadline,
        Reason::CircuitOpen | Reason::NoEndpoint | Reason::Overloaded | Reason::Unavailable => {
            Failure::Refused
        }
        Reason::ConnectFailed => Failure::Connect,
        Reason::DeadlineExceeded | Reason::UpstreamTimeout => Failure::Deadline,
        Reason::UpstreamProtocol => Failure::Protocol,
        Reason::UpstreamReset => Failure::Reset,
        _ => Failure::Other,
    }
}

fn of_io(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => Failure::Connect,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::NotConnected => Failure::Reset,
        io::ErrorKind::TimedOut => Failure::Deadline,
        io::ErrorKind::InvalidData => Failure::Protocol,
        _ => Failure::Other,
    }
}

/// `None`: hyper says nothing itself, and its source is to be asked.
#[cfg(any(feature = "upstream", feature = "transport"))]
fn of_hyper(error: &hyper::Error) -> Option<Failure> {
    if error.is_timeout() {
        Some(Failure::Deadline)
    } else if error.is_parse() {
        Some(Failure::Protocol)
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Some(Failure::Reset)
    } else if is_bad_chunk(error) {
        Some(Failure::Protocol)
    } else if error.source().is_none() {
        Some(Failure::Other)
    } else {
        None
    }
}

/// What hyper says of chunks that are none.
#[cfg(any(feature = "upstream", feature = "transport"))]
pub(crate) fn is_bad_chunk(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reason and the failure that it is are one word.
    #[test]
    fn there_and_back() {
        use Failure::{CallerDeadline, Connect, Deadline, Other, Protocol, Refused, Reset};
        for failure in [CallerDeadline, Connect, Deadline, Other, Protocol, Refused, Reset] {
            assert_eq!(of_reason(failure.reason()), failure);
        }
    }

    #[cfg(all(feature = "resilience", feature = "upstream"))]
    #[tokio::test]
    async fn a_client_without_a_connection_says_so() {
        use hyper_util::{
            client::legacy::Client,
            rt::{TokioExecutor, TokioIo},
        };
        let unreachable = || io::Error::from(io::ErrorKind::HostUnreachable);
        let connector = tower::service_fn(move |_: http::Uri| {
            std::future::ready(Err::<TokioIo<tokio::net::TcpStream>, _>(unreachable()))
        });
        let client = Client::builder(TokioExecutor::new()).build::<_, crate::body::Body>(connector);
        let error = client.get("http://stock/".parse().unwrap()).await.unwrap_err();
        assert!(is_connect(&error));
        let inner: BoxError = Box::new(io::Error::other(error));
        assert!(!is_connect(&inner), "it speaks of another call");
        let boxed: BoxError = Box::new(client.get("http://stock/".parse().unwrap()).await.unwrap_err());
        assert!(is_connect(&boxed));
        assert!(!is_connect(&unreachable()), "a socket that is in use says so, too");
        assert_eq!(Failure::of(&boxed), Failure::Connect);
    }

    /// All gRPC is POST: what a channel could not connect for would else never be tried again.
    #[cfg(all(feature = "resilience", feature = "tonic", feature = "transport"))]
    #[tokio::test]
    async fn a_channel_without_a_connection_says_so() {
        use tower::{Service, ServiceExt};
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut channel = tonic::transport::Endpoint::new(format!("http://{nobody}")).unwrap().connect_lazy();
        let request = http::Request::post("/stock.Stock/Get").body(tonic::body::Body::empty()).unwrap();
        let error = channel.ready().await.unwrap().call(request).await.unwrap_err();
        assert!(is_connect(&error), "{error:?}");
        assert_eq!(Failure::of(&error), Failure::Connect);
        let boxed: BoxError = Box::new(error);
        assert!(is_connect(&boxed));
        let inner: BoxError = Box::new(io::Error::other(boxed));
        assert!(!is_connect(&inner), "it speaks of another call");
    }

    #[test]
    fn errors_of_any_type_have_a_kind() {
        #[derive(Debug)]
        struct Odd;
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let boxed: BoxError = Box::new(refused());
        let rejected: BoxError = Box::new(Rejection::new(Reason::UpstreamTimeout).source(refused()));
        assert_eq!(Failure::of(&Odd), Failure::Other);
        assert_eq!(Failure::of(&refused()), Failure::Connect);
        assert_eq!(Failure::of(&boxed), Failure::Connect);
        assert_eq!(Failure::of(&rejected), Failure::Deadline, "the outermost word counts");
        assert_eq!(Failure::of(&Rejection::new(Reason::NoEndpoint)), Failure::Refused);
    }
}
