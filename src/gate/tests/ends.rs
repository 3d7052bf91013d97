//! What a pass is told of the end.

use super::*;

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
        std::hint::black_box(true).then(|| panic!("as planned"));
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
