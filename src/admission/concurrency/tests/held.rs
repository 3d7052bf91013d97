//! How long a place is held, and who gets it next.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_body_has_ended() {
    let limit = fixed(1).retry_after(3 * MS).build().unwrap();
    let app = limit.layer().layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    }));
    let ask = |kind: &'static str| {
        let request = Request::post("/").header("content-type", kind).body(()).unwrap();
        let app = app.clone();
        async move { app.oneshot(request).await.unwrap() }
    };
    let first = ask("text/plain").await;
    assert_eq!(limit.handle().in_flight(), 1);

    let refused = ask("text/plain").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let body: serde_json::Value =
        serde_json::from_slice(&refused.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["reason"], "overloaded");
    let refused = ask("application/grpc").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
    assert_eq!(refused.headers()["grpc-retry-pushback-ms"], "3");
    assert_eq!(limit.handle().refused(), 2);

    assert_eq!(&*first.into_body().collect().await.unwrap().to_bytes(), b"hello");
    assert_eq!(limit.handle().in_flight(), 0);
    drop(ask("text/plain").await);
    assert_eq!(limit.handle().in_flight(), 0, "a body that is dropped has ended");
}

#[tokio::test(start_paused = true)]
async fn nothing_leaks_wherever_a_call_is_dropped() {
    let limit = queued(1, Queue::new(some(5)));
    let never = limit.layer().layer(service_fn(|_: Request<()>| async {
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    }));
    let mut first = Box::pin(never.clone().oneshot(Request::new(())));
    let mut second = Box::pin(never.clone().oneshot(Request::new(())));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
    let handle = limit.handle();
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 1));
    // The place is given to one who does not look any more.
    drop(first);
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 0));
    drop(second);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));

    let _held = held(&limit);
    let (one, mut two) = (waits(&limit), waits(&limit));
    drop(one);
    assert_eq!(handle.waiting(), 1, "who goes away leaves the queue");
    drop(_held);
    assert!(look(&mut two).unwrap().is_ok());
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_place_goes_on_past_those_who_are_gone() {
    let limit = queued(1, Queue::new(some(5)));
    let first = held(&limit);
    let (one, mut two) = (waits(&limit), waits(&limit));
    drop(first);
    assert_eq!(limit.handle().in_flight(), 1, "it was given to the first, who has not looked");
    assert!(look(&mut two).is_none());
    drop(one);
    assert!(look(&mut two).unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_keep_the_limit_and_lose_nothing() {
    for limit in [
        queued(3, Queue::new(some(50))),
        queued(3, Queue::new(some(50)).timeout(Duration::from_micros(200)).order(Order::Newest)),
        fixed(3).by(Key::tuple([])).queue(Queue::new(some(50))).build().unwrap(),
        fixed(3)
            .partitions(
                Partitions::by_header(HeaderName::from_static("x")).share("never", Ratio::percent(10)),
            )
            .queue(Queue::new(some(50)))
            .build()
            .unwrap(),
    ] {
        let (now, served) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let calls = (0..32_u32).map(|caller| {
            let (limit, now, served) = (limit.clone(), Arc::clone(&now), Arc::clone(&served));
            tokio::spawn(async move {
                for turn in 0..200_u32 {
                    let held = match ask(&limit) {
                        Got::Held(held) => Some(held),
                        Got::Waits(wait) if (caller + turn) % 5 == 0 => {
                            // Goes away at some moment.
                            tokio::time::timeout(Duration::from_micros(50), wait)
                                .await
                                .ok()
                                .and_then(|told| told.0.ok())
                        }
                        Got::Waits(wait) => wait.await.0.ok(),
                        Got::Refused => None,
                    };
                    if let Some(held) = held {
                        assert!(now.fetch_add(1, Ordering::SeqCst) < 3, "more in flight than the limit");
                        tokio::task::yield_now().await;
                        now.fetch_sub(1, Ordering::SeqCst);
                        served.fetch_add(1, Ordering::SeqCst);
                        drop(held);
                    }
                }
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let handle = limit.handle();
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
        assert!(served.load(Ordering::SeqCst) > 300, "{served:?}");
    }
}

/// Whatever order they are named in: else two requests could each hold what the other waits for.
#[tokio::test(start_paused = true)]
async fn several_limits_are_taken_in_one_order() {
    let one = NonZeroU32::new(1).unwrap();
    let queued = |name| Concurrency::fixed(name, one).queue(Queue::new(one)).build().unwrap();
    let (a, b) = (queued("a"), queued("b"));
    let own = Concurrency::fixed("c", one).by(Key::ClientAddr).build().unwrap();
    let named = |limits: &[&Concurrency]| {
        Concurrency::in_one_order(limits.iter().map(|limit| (*limit).clone()).collect())
    };
    for limits in [[&a, &b, &own], [&b, &own, &a], [&own, &b, &a]] {
        let names: Vec<_> = named(&limits).iter().map(|limit| limit.name().to_owned()).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }
    let (x, y) = (named(&[&a, &b]), named(&[&b, &a]));
    assert!(x.iter().zip(&y).all(|(x, y)| x.is_same(y)));
}
