use std::task::Poll;

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::{
    script::{Script, Step},
    *,
};
use crate::{gate::Pass, outcome::Completion};

#[tokio::test]
async fn wrapping_keeps_data_trailers_hints_and_end() {
    let script = || Script::new([Step::Data("ab"), Step::Data("c"), Step::Trailers("0")]);
    for body in [Body::new(script()), Body::new(ResponseBody::<_, ()>::inner(script()))] {
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        let all = body.collect().await.unwrap();
        assert_eq!(all.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(all.to_bytes(), "abc");
    }
    assert!(Body::new(Script::new([])).is_end_stream());
    assert!(ResponseBody::<Script>::full(Bytes::new()).is_end_stream());
    assert_eq!(ResponseBody::<Script>::full("ab".into()).size_hint().exact(), Some(2));
}

#[tokio::test]
async fn errors_pass_through() {
    let body = Body::new(Script::new([Step::Data("a"), Step::Fail]));
    let error = body.collect().await.unwrap_err();
    assert!(error.is::<std::io::Error>());
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Data("ab")),
        Just(Step::Pending),
        Just(Step::Fail),
        Just(Step::Trailers("0")),
        Just(Step::Trailers("14")),
    ];
    prop::collection::vec(step, 0..6)
}

proptest! {
    /// Dropped after any number of polls, an outcome is told exactly once.
    #[test]
    fn an_end_is_told_exactly_once(steps in steps(), polls in 0_usize..8) {
        #[derive(Default)]
        struct Count(std::sync::Arc<std::sync::atomic::AtomicUsize>);
        impl Pass for Count {
            fn on_end(&mut self, _: &crate::outcome::Outcome) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let count = Count::default();
        let told = std::sync::Arc::clone(&count.0);
        let completion = Completion::new(count);
        let mut body = tokio_test::task::spawn(ResponseBody::watched(Script::new(steps), completion));
        for _ in 0..polls {
            let polled = body.enter(|cx, body| body.poll_frame(cx));
            if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                break;
            }
        }
        drop(body);
        prop_assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
