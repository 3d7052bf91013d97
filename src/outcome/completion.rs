use std::{fmt, mem};

use http::{HeaderMap, response};

use super::{End, course::Course};
use crate::gate::Pass;

/// Owned by a call's future, then by its response's body: tells a [`Pass`] exactly once how the call ended.
///
/// Dropping it is an end as well. What that end is depends on what was seen before; see the
/// [module docs](crate::outcome).
pub struct Completion<P: Pass>(Option<Open<P>>);

/// A call that has not ended, and who is to be told.
struct Open<P> {
    pass: P,
    course: Course,
    is_told: bool,
}

impl<P: Pass> Completion<P> {
    /// To be told to `pass`, which is dropped at once if it [holds](Pass::holds) nothing.
    #[must_use]
    pub fn new(pass: P) -> Self {
        let open = |pass| Open { pass, course: Course::unheard(), is_told: false };
        Self(pass.holds().then(|| open(pass)))
    }

    /// One that has nobody to tell.
    #[must_use]
    pub const fn spent() -> Self {
        Self(None)
    }

    /// Whether somebody wants to see the response.
    #[must_use]
    pub fn watches(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.pass.watches())
    }

    /// Whether somebody is still to be told, or something is still held.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Who is to be told, until it was.
    #[cfg(feature = "routing")]
    pub(crate) fn pass_mut(&mut self) -> Option<&mut P> {
        self.0.as_mut().map(|open| &mut open.pass)
    }

    /// Leaves a spent one in its place.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Does something inside of the pass's [span](Pass::span). A panic in it is how the call ended.
    pub fn in_scope<T>(&mut self, inside: impl FnOnce() -> T) -> T {
        let fuse = Fuse(self);
        match &fuse.0.0 {
            Some(open) => open.pass.in_scope(inside),
            None => inside(),
        }
    }

    /// The head has come. `bodiless`: no body follows it, whatever its fields say.
    pub fn head(&mut self, head: &mut response::Parts, bodiless: bool) {
        let Some(open) = &mut self.0 else { return };
        open.course.head(head, bodiless);
        open.pass.on_head(head);
    }

    /// So many bytes of body have come.
    pub fn data(&mut self, bytes: usize) {
        if let Some(open) = &mut self.0 {
            open.course.data(bytes);
        }
    }

    /// The trailers have come; they are the end.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        self.end(|course| course.trailers(trailers));
    }

    /// The body has said that it ended.
    pub fn complete(&mut self) {
        self.end(|course| course.complete());
    }

    /// An error has come instead of a response, or instead of the rest of its body.
    pub fn fail<E: 'static>(&mut self, error: &E) {
        self.end(|course| course.fail(error));
    }

    fn end(&mut self, how: impl FnOnce(&mut Course) -> End) {
        let Some(open) = &mut self.0 else { return };
        // Also if it panics over what it is told.
        if !mem::replace(&mut open.is_told, true) {
            let end = how(&mut open.course);
            open.pass.on_end(open.course.end(end));
        }
        self.0 = None;
    }
}

/// Tells of a panic on its way out. Whoever catches it drops the call later, which would look like a cancellation.
struct Fuse<'c, P: Pass>(&'c mut Completion<P>);

impl<P: Pass> Drop for Fuse<'_, P> {
    fn drop(&mut self) {
        if self.0.is_open() && std::thread::panicking() {
            self.0.end(Course::panic);
        }
    }
}

impl<P: Pass> Drop for Completion<P> {
    fn drop(&mut self) {
        self.end(|course| course.dropped());
    }
}

impl<P: Pass> fmt::Debug for Completion<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.0.as_ref().map(|open| open.course.so_far());
        f.debug_struct("Completion").field("outcome", &outcome).finish_non_exhaustive()
    }
}
