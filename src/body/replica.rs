//! The same body once more.

use std::any::Any;

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::{Empty, Full};

use super::Body;

/// A copy of a body that has all its bytes at hand, if it is of a kind that tells: ours, or one of `http-body-util`.
pub(crate) fn replica<B: HttpBody + 'static>(body: &B) -> Option<B> {
    let mut copy = None;
    let (from, into): (&dyn Any, &mut dyn Any) = (body, &mut copy);
    put::<Body>(from, into, Body::try_clone);
    put::<Full<Bytes>>(from, into, |body| Some(body.clone()));
    put::<Empty<Bytes>>(from, into, |_| Some(Empty::new()));
    #[cfg(feature = "axum")]
    put::<axum::body::Body>(from, into, |body| body.is_end_stream().then(axum::body::Body::empty));
    copy
}

fn put<B: 'static>(from: &dyn Any, into: &mut dyn Any, copy: impl FnOnce(&B) -> Option<B>) {
    if let (Some(from), Some(into)) = (from.downcast_ref(), into.downcast_mut()) {
        *into = copy(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::script::{Script, Step};

    #[test]
    fn only_what_is_at_hand_comes_twice() {
        let size = |body: &Body| body.size_hint().exact();
        assert_eq!(replica(&Body::from("text")).as_ref().map(size), Some(Some(4)));
        assert_eq!(replica(&Body::empty()).as_ref().map(size), Some(Some(0)));
        assert!(replica(&Body::new(Script::new([Step::Data("a")]))).is_none());
        assert!(replica(&Full::new(Bytes::from_static(b"text"))).is_some());
        assert!(replica(&Empty::<Bytes>::new()).is_some());
        assert!(replica(&Script::new([])).is_none(), "nobody knows how to make another");
    }

    #[cfg(feature = "axum")]
    #[test]
    fn an_empty_body_of_axum_does() {
        assert!(replica(&axum::body::Body::empty()).is_some());
        assert!(replica(&axum::body::Body::from("text")).is_none());
    }
}
