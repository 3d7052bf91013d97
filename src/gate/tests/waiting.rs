//! Gates that wait.

use super::*;

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
