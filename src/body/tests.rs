use std::task::Poll;

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::{
    script::{Script, Step},
    *,
};
use crate::{
    gate::Pass,
    outcome::{Completion, End, Failure, Outcome},
    reject::GrpcCode,
};

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
        Just(Step::LastData("c")),
        Just(Step::Pending),
        Just(Step::Fail),
        Just(Step::Trailers("0")),
        Just(Step::Trailers("14")),
        Just(Step::End),
    ];
    prop::collection::vec(step, 0..6)
}

/// What a response says before its body.
#[derive(Debug, Clone, Copy)]
struct Said {
    status: u16,
    length: Option<u64>,
    is_grpc: bool,
    to_head: bool,
}

fn said() -> impl Strategy<Value = Said> {
    let status = prop::sample::select(vec![200, 204, 304, 404, 500]);
    (status, prop::option::of(0_u64..8), any::<bool>(), any::<bool>())
        .prop_map(|(status, length, is_grpc, to_head)| Said { status, length, is_grpc, to_head })
}

impl Said {
    fn head(self) -> http::response::Parts {
        let mut head = http::Response::builder().status(self.status);
        if let Some(length) = self.length {
            head = head.header("content-length", length);
        }
        if self.is_grpc {
            head = head.header("content-type", "application/grpc");
        }
        head.body(()).unwrap().into_parts().0
    }

    /// How many bytes of body it promises.
    fn promise(self) -> Option<u64> {
        if self.to_head || matches!(self.status, 204 | 304) { Some(0) } else { self.length }
    }
}

/// What is to be told of these steps, dropped after so many polls: end, gRPC status, bytes.
fn expected(said: Said, steps: &[Step], polls: usize) -> (End, Option<GrpcCode>, u64) {
    let (mut bytes, mut grpc, mut end) = (0, None, None);
    for poll in 0..polls {
        end = match steps.get(poll) {
            Some(Step::Data(text) | Step::LastData(text)) => {
                bytes += text.len() as u64;
                (poll + 1 == steps.len()).then_some(End::Complete)
            }
            Some(Step::Trailers(status)) => {
                grpc = GrpcCode::of_number(status.parse().unwrap());
                Some(End::Complete)
            }
            Some(Step::Fail) => Some(End::Failed(Failure::Reset)),
            Some(Step::Pending) => None,
            Some(Step::End | Step::Fields(_)) | None => Some(End::Complete),
        };
        if end.is_some() {
            break;
        }
    }
    let short = said.promise().is_some_and(|promise| bytes < promise);
    let whole = said.promise().is_some_and(|promise| bytes >= promise);
    let end = match end {
        Some(End::Complete) if short => End::Failed(Failure::Protocol),
        Some(end) => end,
        None if whole || said.status >= 400 => End::Complete,
        None => End::Cancelled,
    };
    let owes = said.is_grpc && said.status < 300 && end == End::Complete;
    (end, grpc.or(owes.then_some(GrpcCode::UNKNOWN)), bytes)
}

proptest! {
    /// Dropped after any number of polls, what became of it is told exactly once, and rightly.
    #[test]
    fn an_end_is_told_exactly_once(said in said(), steps in steps()) {
        #[derive(Clone, Default)]
        struct Told(std::sync::Arc<std::sync::Mutex<Vec<Outcome>>>);
        impl Pass for Told {
            fn on_end(&mut self, outcome: &Outcome) {
                self.0.lock().unwrap().push(*outcome);
            }
        }
        for polls in 0..=steps.len() + 1 {
            let told = Told::default();
            let mut completion = Completion::new(told.clone());
            completion.head(&mut said.head(), said.to_head);
            let body = ResponseBody::watched(Script::new(steps.clone()), completion);
            let mut body = tokio_test::task::spawn(body);
            for _ in 0..polls {
                let polled = body.enter(|cx, body| body.poll_frame(cx));
                if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                    break;
                }
            }
            drop(body);
            let told = told.0.lock().unwrap();
            let ends: Vec<_> = told.iter().map(|told| (told.end, told.grpc, told.bytes)).collect();
            prop_assert_eq!(ends, [expected(said, &steps, polls)], "{} polls", polls);
        }
    }
}
