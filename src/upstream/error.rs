//! Which of our words an error is.

use std::error::Error;

use crate::{
    outcome::{is_bad_chunk, is_refused_stream},
    reject::{Reason, Rejection},
};

/// An error in a request's body: the client's, or a word of a layer that watches bodies.
pub(super) fn of_client(error: &(dyn Error + 'static)) -> Rejection {
    if let Some(rejection) = Rejection::find(error) {
        return rejection.clone();
    }
    let timed_out = sources(error).any(|error| {
        error.is::<tokio::time::error::Elapsed>()
            || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
    });
    let reason = if timed_out { Reason::RequestTimeout } else { Reason::BadRequest };
    Rejection::new(reason).detail("the request's body broke off")
}

/// An error on a connection to an upstream, after it was made.
pub(super) fn of_upstream(error: hyper::Error) -> Rejection {
    let protocol = error.is_parse() || is_bad_chunk(&error) || h2_error(&error).is_some_and(breaks_protocol);
    let reason = if protocol { Reason::UpstreamProtocol } else { Reason::UpstreamReset };
    let unsent = is_refused(&error);
    let rejection = Rejection::new(reason).source(error);
    if unsent { rejection.unsent() } else { rejection }
}

/// Whether the upstream has said that it has not looked at the request (RFC 9113 section 8.7).
pub(super) fn is_refused(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(is_refused_stream)
}

/// Whether one HTTP/2 stream failed, and not its connection.
pub(super) fn is_stream_error(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(h2::Error::is_reset)
}

fn breaks_protocol(error: &h2::Error) -> bool {
    !error.is_remote() && !error.is_io() && error.reason().is_some()
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    sources(error).find_map(|error| error.downcast_ref())
}

fn sources<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
