//! Quotas on Redis, of callers who go away and of servers that answer late.

use std::time::Duration;

use futures_util::FutureExt;
use http::Response;
use portcullis::{
    admission::quota::{Consumption, Quota, QuotaFallback, QuotaStore, Quotas},
    head::Head,
    key::Key,
    redis::Redis,
    time::Period,
};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::{ACCOUNT, Gate, Infallible, Request, StatusCode, answer, of, until};
use crate::{
    gateway::world::PATIENCE,
    support::redis::{Server, Slow},
};

pub(super) fn quota(name: &str, store: QuotaStore) -> Quota {
    Quota::builder(name, 1_000, Period::Year).by(Key::Header(ACCOUNT)).store(store).build().unwrap()
}

fn redis(url: &str) -> Redis {
    Redis::builder(url).unwrap().build()
}

pub(super) fn gate(quotas: impl IntoIterator<Item = Quota>) -> Gate {
    behind(Quotas::from_iter(quotas))
}

pub(super) fn behind(quotas: Quotas) -> Gate {
    let app = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    BoxCloneSyncService::new(quotas.layer().layer(app).map_response(|response| response.map(drop)))
}

pub(super) async fn used(quota: &Quota, account: &str) -> u64 {
    let told = quota.handle().consumption(&Head::of(&mut of(account.as_bytes())));
    let Consumption { used, .. } = told.await.unwrap();
    used
}

/// Whoever sends requests and takes them back burns nobody's account.
#[tokio::test]
async fn who_goes_away_pays_nothing() {
    for server in Server::each() {
        let there = quota("there", QuotaStore::redis(redis(&server.url())).deadline(PATIENCE));
        let here = quota("here", QuotaStore::memory());
        let gate = gate([here.clone(), there.clone()]);
        assert_eq!(answer(&gate, "a").await.status(), StatusCode::OK);
        let before = server.calls("evalsha");
        for _ in 0..100 {
            // It is sent, and nobody is there who hears the answer.
            assert!(gate.clone().oneshot(of(b"a")).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        until("all of them were charged", async || server.calls("evalsha") >= before + 100).await;
        there.handle().flush().await.unwrap();
        assert_eq!((used(&there, "a").await, used(&here, "a").await), (1, 1));
        assert_eq!((there.handle().spent(), there.handle().unsettled()), (1, 0));
    }
}

/// What is too late has been decided here; Redis has charged it all the same, and takes it back.
#[tokio::test]
async fn an_answer_that_is_too_late_is_given_back() {
    let server = Server::start();
    let slow = Slow::to(&server).await;
    let of = |name: &str, fallback| {
        let store = QuotaStore::redis(redis(&slow.url())).deadline(Duration::from_millis(200));
        quota(name, store.fallback(fallback))
    };
    let [allow, deny] = [of("allow", QuotaFallback::Allow), of("deny", QuotaFallback::Deny)];
    let here = quota("here", QuotaStore::memory());
    let gates = [&allow, &deny].map(|there| gate([here.clone(), there.clone()]));
    for (gate, there) in gates.iter().zip([&allow, &deny]) {
        until("it serves", async || {
            answer(gate, "first").await;
            there.handle().spent() > 0
        })
        .await;
    }
    slow.delay(Duration::from_millis(1000));
    for (gate, status) in gates.iter().zip([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE]) {
        assert_eq!(answer(gate, "a").await.status(), status);
    }
    // Those answers are on their way; what is asked now is answered at once.
    slow.delay(Duration::ZERO);
    assert_eq!((allow.handle().uncounted() > 0, deny.handle().uncounted()), (true, 0));
    for there in [&allow, &deny] {
        there.handle().flush().await.unwrap();
        let direct = quota(there.name(), QuotaStore::redis(redis(&server.url())).deadline(PATIENCE));
        assert_eq!(used(&direct, "a").await, 0, "{}", there.name());
        assert_eq!(there.handle().unsettled(), 0);
    }
    assert_eq!(used(&here, "a").await, 1, "of who has passed");
}
