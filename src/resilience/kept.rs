//! What is kept of a request, so that it can be sent again. Retries and hedges share it.

use http::{Extensions, Method, Request};

use super::timeout::HeadDeadline;
use crate::{context::Deadline, kept::Kept, key::RouteName, trail::Trail};

/// A request's head.
pub(super) struct KeptHead {
    head: Kept,
    /// What other layers have told about it, if that is all: a map takes memory for each of them.
    few: Option<Few>,
    told: Extensions,
}

/// What calls are mostly told.
#[derive(Default)]
struct Few {
    route: Option<RouteName>,
    trail: Option<Trail>,
    deadline: Option<Deadline>,
    head_deadline: Option<HeadDeadline>,
    #[cfg(feature = "tonic")]
    method: Option<tonic::GrpcMethod<'static>>,
}

impl KeptHead {
    #[inline]
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let few = Few::of(request.extensions());
        let told = if few.is_some() { Extensions::new() } else { request.extensions().clone() };
        Self { head: Kept::of(request), few, told }
    }

    pub(super) const fn method(&self) -> &Method {
        self.head.method()
    }

    /// What it is told, to be looked at and changed once it is sent again.
    pub(super) fn extensions_mut(&mut self) -> &mut Extensions {
        if let Some(few) = self.few.take() {
            few.put_into(&mut self.told);
        }
        &mut self.told
    }

    /// The same head once more.
    pub(super) fn again(&mut self) -> Request<()> {
        let mut request = self.head.to_request();
        request.extensions_mut().clone_from(self.extensions_mut());
        request
    }
}

impl Few {
    /// These, if there are no others.
    fn of(extensions: &Extensions) -> Option<Self> {
        if extensions.is_empty() {
            return Some(Self::default());
        }
        let mut found = 0;
        let few = Self {
            route: copy(extensions, &mut found),
            trail: copy(extensions, &mut found),
            deadline: copy(extensions, &mut found),
            head_deadline: copy(extensions, &mut found),
            #[cfg(feature = "tonic")]
            method: copy(extensions, &mut found),
        };
        (found == extensions.len()).then_some(few)
    }

    fn put_into(self, extensions: &mut Extensions) {
        put(extensions, self.route);
        put(extensions, self.trail);
        put(extensions, self.deadline);
        put(extensions, self.head_deadline);
        #[cfg(feature = "tonic")]
        put(extensions, self.method);
    }
}

fn copy<T: Clone + Send + Sync + 'static>(extensions: &Extensions, found: &mut usize) -> Option<T> {
    let told = extensions.get::<T>().cloned();
    *found += usize::from(told.is_some());
    told
}

fn put<T: Clone + Send + Sync + 'static>(extensions: &mut Extensions, told: Option<T>) {
    if let Some(told) = told {
        extensions.insert(told);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    /// What a mesh client tells a call.
    fn told() -> Request<()> {
        let mut request = Request::put("/orders/17").body(()).unwrap();
        let extensions = request.extensions_mut();
        extensions.insert(RouteName("orders".into()));
        extensions.insert(Trail::default());
        extensions.insert(Deadline::after(Instant::now(), Duration::from_secs(1)));
        request
    }

    fn is_told_again(request: &Request<()>, again: &Request<()>) {
        let (first, second) = (request.extensions(), again.extensions());
        assert_eq!(second.len(), first.len());
        assert_eq!(second.get::<RouteName>(), first.get());
        assert_eq!(second.get::<Deadline>(), first.get());
        assert_eq!(second.get::<u8>(), first.get());
        first.get::<Trail>().unwrap().set_decision("a/1".into());
        assert_eq!(second.get::<Trail>().unwrap().decision(), Some("a/1"), "it is the same trail");
    }

    #[test]
    fn what_was_told_is_told_again() {
        let mut request = told();
        is_told_again(&request, &KeptHead::of(&request).again());
        request.extensions_mut().insert(17_u8);
        is_told_again(&request, &KeptHead::of(&request).again());
    }

    #[test]
    fn what_is_added_is_told_too() {
        let request = told();
        let mut kept = KeptHead::of(&request);
        kept.extensions_mut().insert(17_u8);
        let (one, other) = (kept.again(), kept.again());
        assert_eq!((one.extensions().len(), one.extensions().get()), (4, Some(&17_u8)));
        is_told_again(&one, &other);
    }

    #[test]
    fn what_a_client_tells_takes_no_memory() {
        let mut request = told();
        assert_eq!(allocation_counter::measure(|| drop(KeptHead::of(&request))).count_total, 0);
        request.extensions_mut().insert(17_u8);
        assert!(allocation_counter::measure(|| drop(KeptHead::of(&request))).count_total > 0);
    }
}
