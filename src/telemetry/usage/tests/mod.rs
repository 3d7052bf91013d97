mod files;

use std::{
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, ServiceExt, service_fn};

use super::{sink::Delivering, *};
use crate::{
    identity::Principal,
    key::RouteName,
    reject::{Reason, Rejection},
    time::{ManualClock, parse_utc},
    trail::Trail,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Fails as often as it is told, and keeps what came, also what came in a delivery that failed.
#[derive(Clone, Debug, Default)]
struct Flaky {
    failures: Arc<AtomicU32>,
    came: Arc<Mutex<Vec<(String, String)>>>,
}

impl Flaky {
    fn failing(times: u32) -> Self {
        Self { failures: Arc::new(AtomicU32::new(times)), ..Self::default() }
    }

    fn came(&self) -> Vec<(String, String)> {
        self.came.lock().unwrap().clone()
    }
}

impl UsageSink for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }

    fn deliver<'a>(&'a self, batch: &'a UsageBatch) -> Delivering<'a> {
        let events = batch.events().map(|(id, event)| (id, event.to_owned()));
        self.came.lock().unwrap().extend(events);
        let fails = self.failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move { if fails { Err("not now".into()) } else { Ok(()) } })
    }
}

/// A request to a service that a router and an authenticator stand before.
async fn ask(meter: &UsageMeter, subject: &'static str, status: u16) {
    let service = meter.layer().layer(service_fn(move |request: Request<Empty<Bytes>>| async move {
        let trail = request.extensions().get::<Trail>().unwrap();
        trail.set_route(RouteName("shop/0".into()));
        if !subject.is_empty() {
            trail.set_principal(Principal::new("keys", "", subject).with_plan("gold"));
        }
        let response = match status {
            429 => Rejection::new(Reason::RateLimited).into_response(crate::reject::Protocol::Http),
            status => Response::builder().status(status).header("x-tokens", "7").body("abc".into()).unwrap(),
        };
        Ok::<_, Infallible>(response.map(Full::new))
    }));
    let response = service.oneshot(Request::new(Empty::new())).await.unwrap();
    response.into_body().collect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_used_is_delivered_in_each_interval() {
    let (sink, hands) = (Flaky::default(), ManualClock::new(parse_utc("2027-02-19T08:00:00Z").unwrap()));
    let meter = UsageMeter::builder()
        .instance("eu \"1\"")
        .sink(sink.clone())
        .units_by_response(|head| head.headers.get("x-tokens")?.to_str().ok()?.parse().ok())
        .clock(hands.clock())
        .build();
    meter.start().await.unwrap();
    ask(&meter, "acme", 200).await;
    ask(&meter, "acme", 200).await;
    ask(&meter, "acme", 429).await;
    ask(&meter, "", 503).await;
    hands.advance(Duration::from_secs(10));
    tokio::time::sleep(Duration::from_secs(11)).await;
    let mut events: Vec<_> = sink
        .came()
        .into_iter()
        .map(|(id, event)| {
            let rest = event.strip_prefix(&format!("{{\"id\":\"{id}\",")).unwrap().to_owned();
            rest.strip_prefix(
                r#""instance":"eu \"1\"","from":"2027-02-19T08:00:00Z","to":"2027-02-19T08:00:10Z","#,
            )
            .unwrap()
            .to_owned()
        })
        .collect();
    events.sort();
    let [well, refused, failed] = &*events else { panic!("{events:?}") };
    let who = r#""provider":"keys","subject":"acme","plan":"gold","route":"shop/0""#;
    assert_eq!(
        *well,
        format!(r#"{who},"outcome":"caller_fault","reason":"rate_limited","requests":1,"units":1,"bytes":"#)
            + well.rsplit(':').next().unwrap()
    );
    assert_eq!(*refused, format!(r#"{who},"outcome":"success","requests":2,"units":14,"bytes":6}}"#));
    assert_eq!(failed, r#""route":"shop/0","outcome":"server_fault","requests":1,"units":7,"bytes":3}"#);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(sink.came().len(), 3, "nothing was used, nothing is told");
    assert_eq!(meter.counts().recorded, 4);
}

/// What was counted in a runtime that has ended is delivered in the next.
#[test]
fn in_another_runtime_it_delivers_anew() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let sink = Flaky::default();
    let meter = UsageMeter::builder().sink(sink.clone()).build();
    runtime().block_on(ask(&meter, "acme", 200));
    assert!(sink.came().is_empty());
    runtime().block_on(async {
        ask(&meter, "other", 200).await;
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(sink.came().len(), 2);
    });
    runtime().block_on(async {
        ask(&meter, "acme", 200).await;
        assert!(meter.flush(PATIENCE).await);
    });
    assert_eq!(sink.came().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_has_the_ids_of_the_first_try() {
    let sink = Flaky::failing(5);
    let meter = UsageMeter::builder().sink(sink.clone()).build();
    meter.start().await.unwrap();
    for _ in 0..3 {
        ask(&meter, "acme", 200).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let came = sink.came();
    assert_eq!(came.len(), 3 + 5);
    let distinct: std::collections::BTreeMap<_, _> = came.iter().cloned().collect();
    assert_eq!(distinct.len(), 3, "{came:?}");
    assert!(came.iter().all(|(id, event)| distinct[id] == *event));
    let counts = &meter.counts().sinks[0];
    assert_eq!((counts.delivered, counts.failures, counts.waiting), (3, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flush_leaves_nothing_behind() {
    let sink = Flaky::failing(3);
    let meter = UsageMeter::builder().sink(sink.clone()).build();
    assert!(meter.flush(PATIENCE).await, "there is nothing to deliver");
    ask(&meter, "acme", 200).await;
    assert!(meter.flush(PATIENCE).await);
    assert_eq!(sink.came().len(), 4);
    let never = UsageMeter::builder().sink(Flaky::failing(u32::MAX)).build();
    never.start().await.unwrap();
    ask(&never, "acme", 200).await;
    assert!(!never.flush(PATIENCE).await);
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_counted() {
    let (slow, well) = (Flaky::failing(u32::MAX), Flaky::default());
    let meter = UsageMeter::builder().sink(slow).sink(well.clone()).max_waiting(700).max_entries(1).build();
    meter.start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await; // no batch is sealed while one is asked for
    ask(&meter, "ada", 200).await;
    ask(&meter, "bob", 200).await;
    assert_eq!(meter.counts().unattributed, 1);
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        ask(&meter, "ada", 200).await;
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    let counts = meter.counts();
    let [slow, fast] = &*counts.sinks else { panic!("{counts:?}") };
    assert!(slow.waiting_bytes <= 700 && slow.waiting > 0, "{slow:?}");
    assert_eq!(slow.waiting as u64 + slow.lost_batches, 10);
    assert!(slow.lost_requests >= slow.lost_batches);
    assert_eq!((fast.delivered, fast.lost_batches), (10, 0), "one sink holds up no other");
}

#[tokio::test(start_paused = true)]
async fn a_flush_wakes_a_delivery_that_sleeps_and_hurries_nobody_after() {
    let sink = Flaky::failing(20);
    let meter = UsageMeter::builder().sink(sink.clone()).build();
    meter.start().await.unwrap();
    ask(&meter, "acme", 200).await;
    tokio::time::sleep(Duration::from_secs(60)).await; // tries are seconds apart by now
    let before = sink.came().len();
    assert!(!meter.flush(Duration::from_millis(10)).await);
    assert_eq!(sink.came().len(), before + 1, "it was tried at once");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(sink.came().len() <= before + 3, "and is not hurried any more");
    let began = tokio::time::Instant::now();
    assert!(meter.flush(PATIENCE).await);
    assert!(began.elapsed() < Duration::from_secs(5));
}
