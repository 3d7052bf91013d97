//! What is taken from callers into logs and traces: request ids and `traceparent`.
#![no_main]

use http::{HeaderMap, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use portcullis::context::{RequestId, TraceContext};
use portcullis::gate::Gate;
use portcullis::head::Head;
use portcullis::telemetry::request_id::{SetRequestId, Trust, X_REQUEST_ID};

fuzz_target!(|data: &[u8]| {
    if let Some(trace) = TraceContext::parse(data) {
        let shown = trace.to_string();
        assert_eq!(TraceContext::parse(shown.as_bytes()), Some(trace));
        assert_eq!(shown[3..52].as_bytes(), &data[3..52]);
    }

    let mut request = Request::new(());
    let mut trace = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else { return };
        request.headers_mut().append(X_REQUEST_ID, value.clone());
        trace.append("traceparent", value);
    }
    let lines = trace.len();
    assert!(TraceContext::of(&trace).is_none() || lines == 1);

    let gate = SetRequestId::new().trust(Trust::Always);
    gate.check(&mut Head::of(&mut request)).unwrap();
    let id = request.extensions().get::<RequestId>().unwrap();
    assert!((1..=RequestId::MAX).contains(&id.as_str().len()));
    assert!(id.as_str().bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\,;<>{}".contains(&byte)));
    let told: Vec<_> = request.headers().get_all(X_REQUEST_ID).iter().collect();
    assert_eq!(told, [id.as_header()]);
});
