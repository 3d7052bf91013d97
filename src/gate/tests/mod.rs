mod ends;
mod waiting;

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
