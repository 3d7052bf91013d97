use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{
    body::Body,
    body::script::{Script, Step},
    chance::Chance,
    head::Head,
    identity::Principal,
    outcome::{End, Failure, Outcome, Verdict},
    ratio::Ratio,
    reject::{Answer, GrpcCode, Reason, Rejection},
    tunnel::Tunnel,
};

type Log = Arc<Mutex<Vec<String>>>;

/// Lets pass what has a header of its name, and writes down what it sees.
#[derive(Clone)]
struct Needs {
    name: &'static str,
    log: Log,
}

struct Seen {
    name: &'static str,
    log: Log,
}

impl Needs {
    fn new(name: &'static str) -> (Self, Log) {
        let log = Log::default();
        (Self { name, log: Arc::clone(&log) }, log)
    }
}

impl Gate for Needs {
    type Pass = Seen;

    fn check(&self, head: &mut Head<'_>) -> Result<Seen, Answer> {
        if !head.headers().contains_key(self.name) {
            return Err(Reason::MissingCredentials.into());
        }
        head.extensions_mut().insert(Principal::new(self.name, "", "someone"));
        Ok(Seen { name: self.name, log: Arc::clone(&self.log) })
    }
}

impl AsyncGate for Needs {
    type Pass = Seen;
    type Wait = std::pin::Pin<Box<dyn Future<Output = u8> + Send>>;
    type Told = u8;

    fn check(&self, head: &mut Head<'_>) -> Check<Seen, Self::Wait> {
        if head.headers().contains_key("cached") {
            return Gate::check(self, head).into();
        }
        Check::Wait(Box::pin(async {
            tokio::task::yield_now().await;
            7
        }))
    }

    fn resume(&self, head: &mut Head<'_>, told: u8) -> Check<Seen, Self::Wait> {
        assert_eq!(told, 7);
        match head.headers_mut().remove("again") {
            Some(_) => AsyncGate::check(self, head),
            None => Gate::check(self, head).into(),
        }
    }
}

impl Pass for Seen {
    fn on_head(&mut self, head: &mut http::response::Parts) {
        head.headers.append("seen", self.name.parse().unwrap());
        self.log.lock().unwrap().push(format!("{} head {}", self.name, head.status.as_u16()));
    }
    fn on_end(&mut self, outcome: &Outcome) {
        self.log.lock().unwrap().push(format!("{} end {:?}", self.name, outcome.verdict()));
    }
}

fn request(headers: &[&'static str]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    for &name in headers {
        request.headers_mut().insert(name, "1".parse().unwrap());
    }
    request
}

fn hello() -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone
{
    service_fn(|request: Request<Body>| async move {
        let who = request.extensions().get::<Principal>().map(|p| p.provider().to_owned());
        Ok(Response::new(Body::from(who.unwrap_or_else(|| "nobody".into()))))
    })
}

async fn call<S, B>(service: S, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes)
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (head, body) = service.oneshot(request).await.unwrap().into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[tokio::test]
async fn a_gate_lets_pass_or_answers() {
    let (gate, log) = Needs::new("a");
    let service = GateLayer::new(gate).layer(hello());
    let (status, headers, body) = call(service.clone(), request(&["a"])).await;
    assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"a"[..]));
    assert_eq!(headers["seen"], "a");
    assert_eq!(taken(&log), ["a head 200", "a end Success"]);

    let (status, ..) = call(service, request(&[])).await;
    assert_eq!(status, 401);
    assert!(taken(&log).is_empty(), "a gate that refused has given nothing");
}

#[tokio::test]
async fn a_refusal_is_in_the_protocol_of_the_caller() {
    let (gate, _) = Needs::new("a");
    let mut request = request(&[]);
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (status, headers, _) = call(GateLayer::new(gate).layer(hello()), request).await;
    assert_eq!(status, 200);
    assert_eq!(headers["grpc-status"], "16");
}

#[tokio::test]
async fn a_disabled_layer_lets_everything_pass() {
    let (status, _, body) = call(GateLayer::<Needs>::disabled().layer(hello()), request(&[])).await;
    assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"nobody"[..]));
    let (status, ..) = call(AsyncGateLayer::<Needs>::disabled().layer(hello()), request(&[])).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn passes_already_given_see_the_refusal() {
    let (a, log) = Needs::new("a");
    let b = Needs { name: "b", log: Arc::clone(&log) };
    let c = Needs { name: "c", log: Arc::clone(&log) };

    let slice = GateLayer::new(Gates::new().with(a.clone()).with(b.clone()).with(c.clone()));
    let (status, headers, _) = call(slice.layer(hello()), request(&["a", "b"])).await;
    assert_eq!(status, 401);
    assert_eq!(headers.get_all("seen").iter().collect::<Vec<_>>(), ["b", "a"]);
    let expected = ["b head 401", "a head 401", "b end CallerFault", "a end CallerFault"];
    assert_eq!(taken(&log), expected);

    let tuple = GateLayer::new((a, (b, c)));
    call(tuple.layer(hello()), request(&["a", "b"])).await;
    assert_eq!(taken(&log), expected);
    call(tuple.layer(hello()), request(&["a", "b", "c"])).await;
    assert_eq!(taken(&log).len(), 6);
}

#[tokio::test]
async fn a_waiting_gate_decides_after_the_wait() {
    let (gate, log) = Needs::new("a");
    let service = AsyncGateLayer::new(gate).layer(hello());
    assert_eq!(call(service.clone(), request(&["a"])).await.0, 200);
    assert_eq!(call(service.clone(), request(&["a", "cached"])).await.0, 200);
    assert_eq!(taken(&log).len(), 4);
    assert_eq!(call(service.clone(), request(&[])).await.0, 401);
    assert_eq!(call(service, request(&["cached"])).await.0, 401);
}

#[tokio::test]
async fn a_gate_may_wait_more_than_once() {
    let (gate, log) = Needs::new("a");
    let shadow = Enforce::shadow("needs", gate.clone()).async_layer().layer(hello());
    let service = AsyncGateLayer::new(gate).layer(hello());
    assert_eq!(call(service.clone(), request(&["a", "again"])).await.0, 200);
    assert_eq!(call(service, request(&["again"])).await.0, 401);
    assert_eq!(taken(&log), ["a head 200", "a end Success"]);
    assert_eq!(call(shadow, request(&["a"])).await.0, 200);
    assert_eq!(taken(&log), ["a end Success"]);
}

#[tokio::test]
async fn a_slice_waits_where_it_must_and_passes_given_see_the_refusal() {
    let log = Log::default();
    let needs = |name| Needs { name, log: Arc::clone(&log) };
    let gates = || AsyncGates::new().with(needs("a")).with_async(needs("b")).with_async(needs("c"));
    let inner = AsyncGates::new().with(needs("d"));
    let service = AsyncGateLayer::new(gates().with_all(inner)).layer(hello());
    for how in [&["a", "b", "c", "d"][..], &["a", "b", "c", "d", "cached"], &["a", "b", "c", "d", "again"]] {
        let (status, headers, body) = call(service.clone(), request(how)).await;
        assert_eq!((status.as_u16(), body.as_ref()), (200, &b"d"[..]), "{how:?}");
        assert_eq!(headers.get_all("seen").iter().collect::<Vec<_>>(), ["d", "c", "b", "a"]);
        assert_eq!(taken(&log).len(), 8);
    }
    assert_eq!(call(service.clone(), request(&["a", "b", "d"])).await.0, 401);
    let seen = ["b head 401", "a head 401", "b end CallerFault", "a end CallerFault"];
    assert_eq!(taken(&log), seen);
    assert_eq!(call(service.clone(), request(&["a", "b", "c"])).await.0, 401);
    assert_eq!(taken(&log).len(), 6);

    // Who goes away while a gate waits is told to those that had let pass.
    let mut waiting = tokio_test::task::spawn(service.clone().oneshot(request(&["a", "b"])));
    assert!(waiting.poll().is_pending());
    drop(waiting);
    assert_eq!(taken(&log), ["a end Cancelled"]);
    assert_eq!((gates().len(), gates().is_empty()), (3, false));
}

#[test]
fn what_another_gate_was_told_is_refused() {
    let check = Needs::new("a").0.resume_any(&mut Head::of(&mut request(&["a"])), Box::new("not a number"));
    let Check::Now(Err(Stopped { answer: Answer::Refuse(why), given: None })) = check else {
        panic!("passed")
    };
    assert_eq!(why.reason(), Reason::Internal);
}

#[tokio::test]
async fn a_shadowed_credential_yields_no_principal() {
    let shadow = || Enforce::shadow("needs", Needs::new("a").0);
    for headers in [&["a"][..], &[]] {
        let (status, seen, body) = call(shadow().layer().layer(hello()), request(headers)).await;
        assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"nobody"[..]));
        assert!(!seen.contains_key("seen"), "a shadow changes no response");
        let (status, seen, body) = call(shadow().async_layer().layer(hello()), request(headers)).await;
        assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"nobody"[..]));
        assert!(!seen.contains_key("seen"), "a shadow changes no response");
    }
}

#[tokio::test]
async fn a_shadow_counts_whom_it_spared() {
    let gate = Enforce::shadow("needs", Needs::new("a").0);
    let handle = gate.handle();
    let service = GateLayer::new(gate).layer(hello());
    for headers in [&[][..], &["a"], &[]] {
        assert_eq!(call(service.clone(), request(headers)).await.0, 200);
    }
    assert_eq!(handle.spared(), 2);
}

#[tokio::test]
async fn a_share_is_refused_and_the_rest_is_spared() {
    let gate = Enforce::share("needs", Ratio::percent(25), Needs::new("a").0).chance(Chance::seeded(7));
    let handle = gate.handle();
    let service = GateLayer::new(gate).layer(hello());
    let mut refused = 0;
    for _ in 0..4000 {
        refused += u64::from(call(service.clone(), request(&[])).await.0 == 401);
    }
    assert_eq!(refused + handle.spared(), 4000);
    assert!((900..1100).contains(&refused), "{refused}");

    let gate = Enforce::async_share("needs", Ratio::percent(25), Needs::new("a").0).chance(Chance::seeded(7));
    let handle = gate.handle();
    let service = gate.async_layer().layer(hello());
    let mut again = 0;
    for _ in 0..4000 {
        again += u64::from(call(service.clone(), request(&[])).await.0 == 401);
    }
    assert_eq!((again, handle.spared()), (refused, 4000 - refused));
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_told_once() {
    let (gate, log) = Needs::new("a");
    let never = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
    let mut service = GateLayer::new(gate.clone()).layer(never);
    let mut future = tokio_test::task::spawn(Service::call(&mut service, request(&["a"])));
    assert!(future.poll().is_pending());
    drop(future);
    assert_eq!(taken(&log), ["a end Cancelled"]);

    let response = GateLayer::new(gate).layer(hello()).oneshot(request(&["a"])).await.unwrap();
    drop(response);
    assert_eq!(taken(&log), ["a head 200", "a end Cancelled"], "a body that was not read");
}

/// Whoever catches the panic drops the call afterwards: that it was given up would be a lie.
#[tokio::test]
async fn a_panic_inside_is_a_failure_and_no_cancellation() {
    struct Panics;
    impl Gate for Panics {
        type Pass = ();
        fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
            panic!("as planned")
        }
    }
    async fn told<S>(service: S, log: &Log) -> Vec<String>
    where
        S: Service<Request<Body>, Future: Send + 'static> + Send + 'static,
        S::Response: Send,
        S::Error: Send,
    {
        assert!(tokio::spawn(service.oneshot(request(&["a"]))).await.is_err_and(|error| error.is_panic()));
        taken(log)
    }
    let (gate, log) = Needs::new("a");
    let in_call = service_fn(|_: Request<Body>| -> std::future::Ready<Result<Response<Body>, Infallible>> {
        panic!("as planned")
    });
    let in_poll = service_fn(|_: Request<Body>| async {
        tokio::task::yield_now().await;
        assert_eq!(Some(()), None, "as planned");
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let failed = ["a end ServerFault"];
    assert_eq!(told(GateLayer::new(gate.clone()).layer(in_call), &log).await, failed);
    assert_eq!(told(GateLayer::new(gate.clone()).layer(in_poll), &log).await, failed);
    assert_eq!(told(GateLayer::new((gate.clone(), Panics)).layer(hello()), &log).await, failed);
    assert_eq!(
        told(GateLayer::new(Gates::new().with(gate.clone()).with(Panics)).layer(hello()), &log).await,
        failed
    );
    let slice = AsyncGates::new().with(gate).with(Panics);
    assert_eq!(told(AsyncGateLayer::new(slice).layer(hello()), &log).await, failed);
}

#[tokio::test]
async fn an_error_is_told_once_and_stays_of_its_type() {
    let (gate, log) = Needs::new("a");
    let broken = service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    });
    let error: std::io::Error =
        GateLayer::new(gate).layer(broken).oneshot(request(&["a"])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(taken(&log), ["a end ServerFault"]);
}

#[tokio::test]
async fn a_pass_lives_until_the_tunnel_closes() {
    let (gate, log) = Needs::new("a");
    let guards = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&guards);
    let upgrade = service_fn(move |_: Request<Body>| {
        let (tunnel, guard) = Tunnel::new();
        kept.lock().unwrap().push(guard);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.extensions_mut().insert(tunnel);
        async { Ok::<_, Infallible>(response) }
    });
    drop(GateLayer::new(gate).layer(upgrade).oneshot(request(&["a"])).await.unwrap());
    assert_eq!(taken(&log), ["a head 101"]);
    guards.lock().unwrap().clear();
    assert_eq!(taken(&log), ["a end Success"]);
}

#[test]
fn a_pass_that_only_looks_is_not_boxed() {
    struct Nothing;
    impl Gate for Nothing {
        type Pass = ();
        fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
            Ok(())
        }
    }
    let gates = Gates::new().with(Nothing).with(Some(Nothing)).with(Arc::new(Nothing));
    let mut request = Request::new(());
    let mut head = Head::of(&mut request);
    let info = allocation_counter::measure(|| assert!(gates.check(&mut head).is_ok_and(|p| p.is_empty())));
    assert_eq!(info.count_total, 0);
}

/// What a body does, its `Content-Length`, its `Content-Type`, and how often it is polled before it is dropped; and
/// what is told of it.
struct Ends(&'static [Step], Option<u64>, &'static str, usize, End, Option<GrpcCode>, Verdict);

const GRPC: &str = "application/grpc";
const AB: Step = Step::Data("ab");
const SHORT: End = End::Failed(Failure::Protocol);
const BROKEN: End = End::Failed(Failure::Reset);

#[rustfmt::skip]
const ENDS: [Ends; 14] = [
    Ends(&[AB, Step::End], None, "", 9, End::Complete, None, Verdict::Success),
    Ends(&[AB, Step::End], None, "", 1, End::Cancelled, None, Verdict::Cancelled),
    Ends(&[AB, Step::End], Some(2), "", 1, End::Complete, None, Verdict::Success),
    Ends(&[AB, Step::End], Some(3), "", 1, End::Cancelled, None, Verdict::Cancelled),
    Ends(&[AB, Step::End], Some(3), "", 9, SHORT, None, Verdict::ServerFault),
    Ends(&[AB, Step::Fail], None, "", 9, BROKEN, None, Verdict::ServerFault),
    Ends(&[AB, Step::Trailers("0")], None, GRPC, 9, End::Complete, Some(GrpcCode::OK), Verdict::Success),
    Ends(&[AB, Step::Trailers("14")], None, GRPC, 2, End::Complete, Some(GrpcCode::UNAVAILABLE), Verdict::ServerFault),
    Ends(&[AB, Step::Trailers("5")], None, GRPC, 2, End::Complete, Some(GrpcCode::NOT_FOUND), Verdict::CallerFault),
    Ends(&[AB, Step::End], None, GRPC, 9, End::Complete, Some(GrpcCode::UNKNOWN), Verdict::ServerFault),
    Ends(&[AB, Step::Trailers("0")], None, GRPC, 1, End::Cancelled, None, Verdict::Cancelled),
    Ends(&[Step::LastData("ab")], None, "", 1, End::Complete, None, Verdict::Success),
    Ends(&[Step::End], None, "", 0, End::Cancelled, None, Verdict::Cancelled),
    Ends(&[], None, "", 0, End::Complete, None, Verdict::Success),
];

#[tokio::test]
async fn every_end_of_a_body_is_told_once_and_rightly() {
    for (n, Ends(steps, length, content_type, polls, end, code, verdict)) in ENDS.into_iter().enumerate() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let service = GateLayer::new(Told(Arc::clone(&told))).layer(service_fn(move |_: Request<Body>| {
            let mut response = Response::new(Script::new(steps.iter().cloned()));
            if let Some(length) = length {
                response.headers_mut().insert("content-length", length.into());
            }
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            async { Ok::<_, Infallible>(response) }
        }));
        let mut body = Box::pin(service.oneshot(request(&[])).await.unwrap().into_body());
        for _ in 0..polls {
            let Some(Ok(_)) = body.frame().await else { break };
        }
        drop(body);
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1, "case {n}: told {told:?}");
        assert_eq!((told[0].end, told[0].grpc, told[0].verdict()), (end, code, verdict), "case {n}");
    }
}

struct Told(Arc<Mutex<Vec<Outcome>>>);
struct TellTo(Arc<Mutex<Vec<Outcome>>>);

impl Gate for Told {
    type Pass = TellTo;
    fn check(&self, _: &mut Head<'_>) -> Result<TellTo, Answer> {
        Ok(TellTo(Arc::clone(&self.0)))
    }
}

impl Pass for TellTo {
    fn on_end(&mut self, outcome: &Outcome) {
        self.0.lock().unwrap().push(*outcome);
    }
}

#[tokio::test]
async fn a_reason_is_told_with_the_outcome() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let layers = (Told(Arc::clone(&told)), Needs::new("a").0);
    call(GateLayer::new(layers).layer(hello()), request(&[])).await;
    assert_eq!(told.lock().unwrap()[0].reason, Some(Reason::MissingCredentials));

    let failing = service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(Rejection::new(Reason::UpstreamTimeout))
    });
    let _ = GateLayer::new(Told(Arc::clone(&told))).layer(failing).oneshot(request(&[])).await;
    assert_eq!(told.lock().unwrap()[1].reason, Some(Reason::UpstreamTimeout));
}
