//! Who is refused is not asked about until its time has come, or until somebody says that it may have.

use std::{slice, sync::Arc, time::Duration};

use http::Response;
use portcullis::{
    admission::{
        Settle,
        rate_limit::{Account, Limit, RateLimit},
    },
    ratio::Ratio,
};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};

use super::{
    ACCOUNT, Distribution, Gate, Infallible, StatusCode, account, answer, gate, instance, limit, of, passes,
    passing, until,
};
use crate::support::redis::Server;

/// A limit of an instance, and its gate.
fn on(there: &Distribution, name: &str, rate: &str) -> (Gate, Limit) {
    let limit = limit(name, rate).distributed(there.clone()).build().unwrap();
    (gate([limit.clone().into()]), limit)
}

/// So many signs of life of all instances.
async fn beats(server: &Server, count: u64) {
    let before = server.calls("zadd");
    until("they were seen again", async || server.calls("zadd") >= before + count).await;
}

/// How often Redis was asked, and how often it was known.
fn counts(limit: &Limit) -> [u64; 2] {
    let handle = limit.distribution().unwrap();
    [handle.by_redis(), handle.by_deny_cache()]
}

#[tokio::test]
async fn who_is_refused_is_not_asked_about_until_its_time() {
    let server = Server::start();
    let there = instance(&server);
    let (long, of_long) = on(&there, "long", "5/year");
    let (short, of_short) = on(&there, "short", "2/3s");
    assert_eq!(passing(slice::from_ref(&long), "a", 6).await, 5);
    let asked = counts(&of_long);
    for round in 1..=4 {
        assert_eq!(passing(slice::from_ref(&long), "a", 10).await, 0);
        assert_eq!(counts(&of_long), [asked[0], asked[1] + 10 * round], "years are longer than a second");
        beats(&server, 1).await;
    }
    assert_eq!(passing(slice::from_ref(&short), "a", 3).await, 2);
    let asked = counts(&of_short);
    until("its time has come", async || passes(&short, "a").await).await;
    assert_eq!(counts(&of_short)[0], asked[0] + 1, "nobody was asked before");
}

/// Who makes an account whole tells all others, and of that limit only.
#[tokio::test]
async fn who_was_made_whole_elsewhere_passes() {
    for server in Server::each() {
        let (here, there) = (instance(&server), instance(&server));
        let ([one, other], [reset, other_limit]) = {
            let ((one, reset), (other, limit)) = (on(&here, "a", "3/year"), on(&here, "b", "3/year"));
            ([one, other], [reset, limit])
        };
        let (far, far_limit) = on(&there, "a", "3/year");
        assert_eq!(passing(&[one, far.clone()], "x", 6).await, 3);
        assert_eq!(passing(slice::from_ref(&other), "x", 6).await, 3);
        until("all have heard it", async || !passes(&far, "x").await && !passes(&other, "x").await).await;
        let before = [counts(&far_limit)[0], counts(&other_limit)[0]];
        beats(&server, 4).await;
        assert!(!passes(&far, "x").await);
        assert_eq!(counts(&far_limit)[0], before[0], "it is not asked");

        let mut x = Account::new().header(ACCOUNT, "x".parse().unwrap());
        assert!(reset.distribution().unwrap().reset(&mut x.head()).await.unwrap());
        until("they are told", async || passes(&far, "x").await).await;
        assert_eq!(counts(&far_limit)[0], before[0] + 1);
        beats(&server, 4).await;
        assert!(!passes(&other, "x").await);
        assert_eq!(counts(&other_limit)[0], before[1], "of the other limit nobody has said anything");
        assert_eq!(passing(slice::from_ref(&far), "x", 4).await, 2);
        let before = counts(&far_limit)[0];
        beats(&server, 4).await;
        assert!(!passes(&far, "x").await);
        assert_eq!(counts(&far_limit)[0], before, "it is told once");
    }
}

/// Who was refused while a request held more than it cost in the end.
#[tokio::test]
async fn who_was_refused_too_much_passes_when_it_is_given_back() {
    let server = Server::start();
    let (here, there) = (instance(&server), instance(&server));
    let dear = limit("a", "10/year").distributed(here).build().unwrap();
    let served = Arc::new(Semaphore::new(0));
    let app = {
        let served = Arc::clone(&served);
        service_fn(move |_| {
            let served = Arc::clone(&served);
            async move {
                served.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        })
    };
    let costs = dear.clone().costing(10).settle(Settle::by_outcome(|_| Some(4)));
    let slow = RateLimit::new(costs).layer().layer(app);
    let (far, far_limit) = on(&there, "a", "10/year");
    let going = tokio::spawn(slow.oneshot(of(b"x")));
    until("it is charged", async || counts(&dear)[0] == 1).await;
    assert!(!passes(&far, "x").await);
    beats(&server, 4).await;
    assert_eq!((passes(&far, "x").await, counts(&far_limit)[0]), (false, 1));
    served.add_permits(1);
    assert_eq!(going.await.unwrap().unwrap().status(), StatusCode::OK);
    until("six have come back", async || passes(&far, "x").await).await;
    assert_eq!(passing(slice::from_ref(&far), "x", 9).await, 5);
}

/// A lease that is given back is somebody else's, also if whoever had it is gone.
#[tokio::test]
async fn what_a_lease_gives_back_passes() {
    let server = Server::start();
    let (here, there) = (instance(&server).lease(Ratio::percent(5)), instance(&server));
    let (near, of_near) = on(&here, "a", "400/year");
    let (far, _) = on(&there, "a", "400/year");
    let handle = of_near.distribution().unwrap();
    let passed = std::cell::Cell::new(0);
    until("some is taken ahead", async || {
        passed.set(passed.get() + usize::from(passes(&near, "x").await));
        handle.by_lease() > 0
    })
    .await;
    let rest = passing(slice::from_ref(&far), "x", 400).await;
    assert!(passed.get() + rest < 400, "what is taken ahead is not there");
    handle.give_back().await;
    // A process that goes down says it before, or nobody would.
    drop((near, of_near, handle, here));
    until("it has come back", async || passes(&far, "x").await).await;
}

/// A server that has lost what it knew is asked again about all.
#[tokio::test]
async fn who_was_refused_by_what_is_lost_passes() {
    let server = Server::start();
    let (one, limit) = on(&instance(&server), "a", "3/year");
    assert_eq!(passing(slice::from_ref(&one), "x", 6).await, 3);
    beats(&server, 2).await;
    let before = counts(&limit)[0];
    assert!(!passes(&one, "x").await);
    assert_eq!(counts(&limit)[0], before);
    server.ask("FLUSHALL");
    until("it is whole", async || passes(&one, "x").await).await;
}

/// Whom nobody tells, as where a key is deleted by hand, asks as often as it is told to.
#[tokio::test]
async fn a_refusal_is_remembered_for_as_long_as_it_may_be() {
    let server = Server::start();
    let never = instance(&server).remember_refusals(Duration::ZERO);
    let (one, limit) = on(&never, "a", "3/year");
    assert_eq!(passing(slice::from_ref(&one), "x", 8).await, 3);
    assert_eq!(counts(&limit), [8, 0]);
    let (other, _) = on(&instance(&server), "a", "3/year");
    assert!(!passes(&other, "x").await);
    server.ask(&format!("DEL {}", account(&server).unwrap()));
    assert!(passes(&one, "x").await, "it asks");
    let refused = answer(&other, "x").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "it does not");
}
