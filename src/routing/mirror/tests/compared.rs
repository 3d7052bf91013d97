//! Answers that are compared.

use super::*;

/// A primary and a mirror that answer this, compared.
async fn compared(primary: fn() -> Response<Body>, mirror: fn() -> Response<Body>) -> MirrorHandle {
    let compare = Compare::status().header("etag".parse().unwrap()).body();
    let policy = Policy::new("m").compare(compare).most_response(100);
    let handle = policy.handle();
    let answer = move |with: fn() -> Response<Body>| {
        service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(with()) })
    };
    let service = MirrorLayer::new(policy, answer(mirror)).layer(answer(primary));
    let response = service.oneshot(Request::new(Body::empty())).await.unwrap();
    let _ = response.into_body().collect().await;
    a_second().await;
    handle
}

fn tagged(tag: &'static str, body: Body) -> Response<Body> {
    Response::builder().header("etag", tag).body(body).unwrap()
}

fn grpc(steps: impl IntoIterator<Item = Step>) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").body(script(steps)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn differences_are_counted_by_kind() {
    use Difference::{Body as Data, Header, Status};
    type Answer = fn() -> Response<Body>;
    let same: Answer = || tagged("a", script([Step::Data("ab"), Step::Data("c")]));
    let cases: [(Answer, Answer, &[Difference]); 9] = [
        (same, || tagged("a", Body::from("abc")), &[]),
        (same, || tagged("b", Body::from("abc")), &[Header]),
        (same, || tagged("a", Body::from("abd")), &[Data]),
        (same, || Response::new(Body::from("abc")), &[Header]),
        (|| status(404), || status(200), &[Status]),
        (|| status(503), || Response::new(Body::from("abc")), &[Data, Status]),
        (|| grpc([Step::Trailers("0")]), || grpc([Step::Trailers("14")]), &[Status]),
        (
            || grpc([Step::Data("a"), Step::Trailers("0")]),
            || grpc([Step::Data("a"), Step::Trailers("0")]),
            &[],
        ),
        (
            || Response::new(script([Step::Data("a"), Step::Fail])),
            || Response::new(Body::from("abc")),
            &[Data],
        ),
    ];
    for (number, (primary, mirror, expected)) in cases.into_iter().enumerate() {
        let handle = compared(primary, mirror).await;
        assert_eq!((handle.compared(), handle.incomparable()), (1, 0), "{number}");
        assert_eq!(handle.different(), u64::from(!expected.is_empty()), "{number}");
        for kind in Difference::ALL {
            assert_eq!(handle.differences(*kind), u64::from(expected.contains(kind)), "{number} {kind:?}");
        }
    }
}

fn status(status: u16) -> Response<Body> {
    Response::builder().status(StatusCode::from_u16(status).unwrap()).body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn differences_are_logged_once_a_second() {
    let (compare, now) = (Compare::status(), tokio::time::Instant::now());
    let logged = [0, 500, 999, 1_000, 1_500, 2_000]
        .map(|millis| compare.clone().logs(now + Duration::from_millis(millis)));
    assert_eq!(logged, [true, false, false, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_is_not_compared() {
    let long = || Response::new(Body::from("l".repeat(101)));
    let broken = || Response::new(script([Step::Data("a"), Step::Fail]));
    for mirror in [long, broken] {
        let handle = compared(|| Response::new(Body::from("a")), mirror).await;
        assert_eq!((handle.compared(), handle.incomparable()), (0, 1));
    }
    // A primary's that is too long for a mirror is different.
    let handle = compared(long, || Response::new(Body::from("l"))).await;
    assert_eq!((handle.compared(), handle.differences(Difference::Body)), (1, 1));

    // The caller goes away in mid-body.
    let policy = Policy::new("m").compare(Compare::status());
    let handle = policy.handle();
    let stream = || Response::new(Body::new(Script::new([Step::Data("a"), Step::Data("b")]).untold()));
    let service = MirrorLayer::new(policy, says!(stream())).layer(says!(stream()));
    let response = service.oneshot(Request::new(Body::empty())).await.unwrap();
    drop(response);
    a_second().await;
    assert_eq!((handle.compared(), handle.incomparable(), handle.completed()), (0, 1, 1));
}
