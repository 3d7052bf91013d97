//! A leaky bucket and limits on Redis in one list.

use std::{num::NonZeroU32, time::Duration};

use futures_util::{FutureExt, future::join_all};
use http::StatusCode;
use portcullis::{
    admission::rate_limit::{Algorithm, Charge, Distribution, Fallback, Limit},
    head::Head,
    redis::Redis,
    trip::State,
};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{answer, gate, instance, limit, of, passes, remaining, until};
use crate::{
    gateway::world::{Gateway, PATIENCE, file, upstream},
    support::redis::{Server, Slow},
};

fn shape(rate: &str) -> Limit {
    let leaky = Algorithm::LeakyBucket { max_wait: PATIENCE };
    limit("shape", rate).algorithm(leaky).build().unwrap()
}

fn here(limit: &Limit) -> u32 {
    limit.handle().peek(&mut Head::of(&mut of(b"a"))).remaining
}

/// All are served, each in its turn.
#[tokio::test]
async fn requests_wait_beside_a_limit_on_redis() {
    for server in Server::each() {
        let (shape, shared) =
            (shape("20/s"), limit("shared", "5/year").distributed(instance(&server)).build().unwrap());
        let list = gate([shape.clone().into(), shared.clone().into()]);
        let handle = shared.distribution().unwrap();
        let began = Instant::now();
        let all = join_all((0..8).map(|_| answer(&list, "a"))).await;
        let passed = all.iter().filter(|answer| answer.status() == StatusCode::OK).count();
        assert_eq!((passed, remaining(&handle, "a").await), (5, 0));
        // The fifth has waited for four others.
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
        assert_eq!(shape.handle().waiting(), 0, "who is refused by Redis is in no line");
    }
}

/// While Redis is asked, and while it waits for its turn: nobody has paid for what it did not get. Nor where who is refused pays: it
/// was not refused.
#[tokio::test]
async fn who_gives_up_anywhere_pays_nothing_anywhere() {
    for server in Server::each() {
        who_gives_up_pays_nothing(&server, false).await;
        who_gives_up_pays_nothing(&server, true).await;
    }
}

async fn who_gives_up_pays_nothing(server: &Server, spends_on_denial: bool) {
    let shape = shape("2/min");
    let few = limit("few", "10/h").build().unwrap();
    let shared = limit(if spends_on_denial { "strict" } else { "shared" }, "10/year");
    let shared = shared.distributed(instance(server)).build().unwrap();
    let handle = shared.distribution().unwrap();
    let others = [few.clone(), shared].map(|limit| Charge::from(limit).spend_on_denial(spends_on_denial));
    let list = gate([shape.clone().into()].into_iter().chain(others));
    assert!(passes(&list, "a").await);
    let whole = (here(&shape), here(&few), remaining(&handle, "a").await);
    assert_eq!((whole.1, whole.2), (9, 9));

    // Redis has been asked, and nobody has heard it.
    for _ in 0..5 {
        assert!(list.clone().oneshot(of(b"a")).now_or_never().is_none());
    }
    // Redis has let it pass, and it is not its turn.
    for _ in 0..5 {
        let before = handle.by_redis();
        let mut waiting = Box::pin(list.clone().oneshot(of(b"a")));
        let is_decided = async {
            while handle.by_redis() == before {
                assert!(waiting.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, is_decided).await.unwrap();
        assert_eq!((shape.handle().waiting(), here(&few)), (1, 8));
        drop(waiting);
        assert_eq!((shape.handle().waiting(), here(&few)), (0, 9));
    }
    until("all is given back there", async || {
        handle.give_back().await;
        remaining(&handle, "a").await == 9
    })
    .await;
    assert!(here(&shape) >= whole.0 && here(&few) == whole.1);
}

/// So it is where Redis does not decide, and each instance pays its share alone.
#[tokio::test]
async fn who_gives_up_is_given_back_the_share_of_its_instance() {
    let redis = Redis::builder("redis://127.0.0.1:1").unwrap().build();
    let there = Distribution::on(redis).deadline(PATIENCE).fallback(Fallback::LocalShare);
    let there = there.at_least(NonZeroU32::new(2).unwrap());
    let shared = limit("shared", "8/year").distributed(there).build().unwrap();
    let handle = shared.distribution().unwrap();
    let alone = gate([shared.clone().into()]);
    let mut served = 0;
    until("it is known", async || {
        answer(&alone, "other").await;
        handle.redis() != State::Closed
    })
    .await;
    let shape = shape("2/min");
    let list = gate([shape.clone().into(), shared.clone().into()]);
    assert!(passes(&list, "a").await);
    served += 1;
    for _ in 0..10 {
        let mut waiting = Box::pin(list.clone().oneshot(of(b"a")));
        let is_waiting = async {
            while shape.handle().waiting() == 0 {
                assert!(waiting.as_mut().now_or_never().is_none());
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, is_waiting).await.unwrap();
        drop(waiting);
        assert_eq!(shape.handle().waiting(), 0);
    }
    while passes(&alone, "a").await {
        served += 1;
    }
    assert_eq!(served, 4, "half of eight");
}

/// Those who stand in a line go on while one of them waits for Redis, and each in its turn.
#[tokio::test]
async fn a_slow_server_holds_up_no_line() {
    let server = Server::start();
    let slow = Slow::to(&server).await;
    let there = Distribution::on(Redis::builder(&slow.url()).unwrap().build()).deadline(PATIENCE);
    let shape = shape("100/s");
    let shared = limit("shared", "100/year").distributed(there).build().unwrap();
    let (list, plain) = (gate([shape.clone().into(), shared.into()]), gate([shape.clone().into()]));
    assert!(passes(&list, "a").await);
    slow.delay(Duration::from_secs(3));
    let asks = {
        let list = list.clone();
        [(); 2].map(|()| {
            tokio::spawn({
                let list = list.clone();
                async move { passes(&list, "a").await }
            })
        })
    };
    until("they have asked, and were in the line", async || shape.handle().admitted() == 3).await;
    let began = Instant::now();
    assert!(passes(&plain, "a").await);
    assert!(
        asks.iter().all(|ask| !ask.is_finished()),
        "who came later was served first, after {:?}",
        began.elapsed()
    );
    slow.delay(Duration::ZERO);
    for ask in asks {
        assert!(ask.await.unwrap());
    }
}

/// At a listener, and in a rule.
#[tokio::test]
async fn a_file_has_both_in_one_list() {
    let server = Server::start();
    let address = upstream("one").await;
    for (listener, rule) in [("rateLimit: [shape, shared],", ""), ("", "rateLimit: [shape, shared]")] {
        let text = file(&format!(
            "redis: {{ shared: {{ url: {:?} }} }}\n\
             rateLimits:\n  \
               shape: {{ key: {{ header: x-account }}, rate: 20/s, algorithm: leakyBucket, maxWait: 30s }}\n  \
               shared: {{ key: {{ header: x-account }}, rate: 6/year, redis: shared, deadline: 20s }}\n\
             upstreams: {{ one: {{ endpoints: [{address}] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ {rule} }}, backendRefs: [{{ name: one }}] }}] }}]\n",
            server.url(),
        ));
        let gateway = Gateway::of(&text.replace("name: public,", &format!("name: public, {listener}"))).await;
        let account = format!("a{}", listener.len());
        let began = Instant::now();
        let all =
            join_all((0..9).map(|_| async { gateway.get("/", &[("x-account", &account)]).await.status }));
        let passed = all.await.into_iter().filter(|status| *status == 200).count();
        assert_eq!(passed, 6, "{listener}{rule}");
        assert!(
            began.elapsed() >= Duration::from_millis(250),
            "the sixth has waited for five: {listener}{rule}"
        );
    }
}
