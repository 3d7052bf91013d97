//! How long a request has waited for what is decided elsewhere: limits of a listener, limits of a rule and quotas are asked one
//! after the other, and no request waits for the sum of their deadlines.

use std::time::Duration;

use crate::head::Head;

/// In the request's extensions, from the first decision that was waited for.
#[derive(Debug, Clone, Copy)]
struct Waited(Duration);

pub(super) fn waited(head: &Head<'_>) -> Duration {
    head.extensions().get().map_or(Duration::ZERO, |Waited(time)| *time)
}

/// It has waited for so long again.
pub(super) fn wait(head: &mut Head<'_>, time: Duration) {
    let all = waited(head).saturating_add(time);
    head.extensions_mut().insert(Waited(all));
}
