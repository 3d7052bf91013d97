//! Two answers to one request, and in what they differ.

use std::{
    hash::Hasher,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, response};
use tokio::time::Instant;
use twox_hash::XxHash64;

use super::{
    Policy,
    handle::{Counts, Difference},
    policy::Compare,
};
use crate::{
    context::RequestId,
    gate::Pass,
    outcome::{Completion, End, Outcome},
    reject::GrpcCode,
};

/// Waits for what became of both, and compares.
struct Comparison {
    what: Compare,
    counts: Arc<Counts>,
    about: About,
    /// What became of the one that ended first; `Some(None)`: it was not seen as a whole.
    first: Mutex<Option<Option<Seen>>>,
}

/// For the log.
struct About {
    mirror: Arc<str>,
    method: Method,
    uri: Uri,
    id: Option<RequestId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Primary,
    Shadow,
}

/// What is compared of an answer.
#[derive(Debug, PartialEq)]
struct Seen {
    status: Option<StatusCode>,
    grpc: Option<GrpcCode>,
    /// The values of each header that is compared.
    headers: Vec<Vec<HeaderValue>>,
    /// `None`: not compared, or not read to its end.
    body: Option<Digest>,
}

/// A length and a hash. It is for telling, not for proving: who would hide a difference from themselves?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest(u64, u64);

/// Looks at one of the two answers, and tells of it at its end.
pub(super) struct Look {
    who: Who,
    comparison: Arc<Comparison>,
    headers: Vec<Vec<HeaderValue>>,
    hash: XxHash64,
    /// How many bytes have come.
    came: u64,
    /// Whether there were no more.
    is_whole: bool,
    /// Whether it will not be read to its end.
    is_cut: bool,
    most: u64,
}

/// Those who look at the answer of the primary and at that of its shadow, if somebody is to.
pub(super) fn looks<B>(policy: &Policy, request: &Request<B>) -> Option<[Completion<Look>; 2]> {
    let what = policy.compare.clone()?;
    let about = About {
        mirror: Arc::clone(&policy.name),
        method: request.method().clone(),
        uri: request.uri().clone(),
        id: request.extensions().get().cloned(),
    };
    let counts = Arc::clone(&policy.counts);
    let comparison = Arc::new(Comparison { what, counts, about, first: Mutex::default() });
    let look = |who| {
        Completion::new(Look {
            who,
            comparison: Arc::clone(&comparison),
            headers: Vec::new(),
            hash: XxHash64::with_seed(0),
            came: 0,
            is_whole: false,
            is_cut: false,
            most: policy.most_response,
        })
    };
    Some([look(Who::Primary), look(Who::Shadow)])
}

impl Look {
    /// More of the body has come. What is longer than a shadow's may be is different in any case.
    pub(super) fn data(&mut self, data: &Bytes) {
        self.came += data.len() as u64;
        if self.comparison.what.body && self.came <= self.most {
            self.hash.write(data);
        }
    }

    /// There is no more.
    pub(super) const fn whole(&mut self) {
        self.is_whole = true;
    }

    /// The rest will not be read.
    pub(super) const fn cut(&mut self) {
        self.is_cut = true;
    }

    fn seen(&mut self, outcome: &Outcome) -> Option<Seen> {
        let unheard = outcome.end == End::Cancelled || self.is_cut;
        // A shadow that failed was dropped, and counts as that.
        let dropped = self.who == Who::Shadow && matches!(outcome.end, End::Failed(_));
        if unheard || dropped {
            return None;
        }
        // A failure that nobody has read to its end is known by its status; its body is not.
        let read = self.is_whole || outcome.is_success() || matches!(outcome.end, End::Failed(_));
        let body = (self.comparison.what.body && read).then(|| Digest(self.came, self.hash.finish()));
        Some(Seen { status: outcome.status, grpc: outcome.grpc, headers: mem::take(&mut self.headers), body })
    }
}

impl Pass for Look {
    fn on_head(&mut self, head: &mut response::Parts) {
        let all = |name| head.headers.get_all(name).iter().cloned().collect();
        self.headers = self.comparison.what.headers.iter().map(all).collect();
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let seen = self.seen(outcome);
        self.comparison.tell(self.who, seen);
    }
}

impl Comparison {
    fn tell(&self, who: Who, seen: Option<Seen>) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(other) = first.take() else {
            *first = Some(seen);
            return;
        };
        drop(first);
        let (Some(seen), Some(other)) = (seen, other) else { return self.counts.cannot_compare() };
        let (primary, shadow) = if who == Who::Primary { (seen, other) } else { (other, seen) };
        let differences = differences(&primary, &shadow);
        self.counts.compare(&differences);
        if !differences.is_empty() && self.what.logs(Instant::now()) {
            self.log(&differences, &primary, &shadow);
        }
    }

    fn log(&self, differences: &[Difference], primary: &Seen, shadow: &Seen) {
        let About { mirror, method, uri, id } = &self.about;
        let kinds: Vec<_> = differences.iter().map(|kind| kind.label()).collect();
        let names = self.what.headers.iter().zip(primary.headers.iter().zip(&shadow.headers));
        let headers: Vec<_> =
            names.filter(|(_, (ours, theirs))| ours != theirs).map(|(name, _)| name.as_str()).collect();
        tracing::info!(
            target: "portcullis::mirror",
            mirror = &**mirror,
            request_id = id.as_ref().map(RequestId::as_str),
            method = method.as_str(),
            path = uri.path(),
            differences = kinds.join(","),
            headers = headers.join(","),
            status = primary.status.map(|status| status.as_u16()),
            mirror_status = shadow.status.map(|status| status.as_u16()),
            grpc_status = primary.grpc.map(GrpcCode::number),
            mirror_grpc_status = shadow.grpc.map(GrpcCode::number),
            "a mirror answers differently",
        );
    }
}

fn differences(primary: &Seen, shadow: &Seen) -> Vec<Difference> {
    let body = primary.body.zip(shadow.body).is_some_and(|(ours, theirs)| ours != theirs);
    let status = (primary.status, primary.grpc) != (shadow.status, shadow.grpc);
    let found = [
        (Difference::Body, body),
        (Difference::Header, primary.headers != shadow.headers),
        (Difference::Status, status),
    ];
    found.into_iter().filter_map(|(kind, differs)| differs.then_some(kind)).collect()
}
