//! What a call costs, and what is installed for everybody.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tower_service::Service;
use tracing::subscriber::NoSubscriber;

use super::stage::{Found, Stage, ensure, run};
use crate::testing::{Contract, Subject, probe::Shared};

pub(super) fn allocation<L: Subject>(
    contract: &Contract<L>,
    count: fn(&mut dyn FnMut()) -> u64,
    allowed: u64,
) -> Found {
    let bare = Arc::<Shared>::default();
    let mut probe = bare.probe();
    let floor = cost(contract, &mut probe, count);
    let stage = Stage::new(contract);
    let with_layer = cost(contract, &mut stage.service(), count);
    let made = with_layer.saturating_sub(floor);
    ensure(made <= allowed, || format!("{made} allocations in a call, {allowed} allowed"))
}

/// The allocations of one call, after some that warm it up. The request is made beforehand.
fn cost<L, S>(contract: &Contract<L>, service: &mut S, count: fn(&mut dyn FnMut()) -> u64) -> u64
where
    S: Service<http::Request<crate::body::Body>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return 0 };
    let _entered = runtime.enter();
    let mut made = 0;
    for _ in 0..4 {
        let mut request = Some((contract.request)(1));
        made = count(&mut || {
            let mut cx = Context::from_waker(Waker::noop());
            let ready = service.poll_ready(&mut cx);
            if let (Poll::Ready(Ok(())), Some(request)) = (ready, request.take()) {
                let call = service.call(request);
                let mut call = pin!(call);
                let _ = call.as_mut().poll(&mut cx);
            }
        });
    }
    made
}

/// Whether somebody has set what only an application may set. A thread of its own is asked: what other threads have set for
/// themselves does not count.
pub(in crate::testing) fn any_global() -> bool {
    let wanted = || tracing::dispatcher::get_default(|default| !default.is::<NoSubscriber>());
    std::thread::spawn(wanted).join().unwrap_or_default()
}

pub(super) fn globals<L: Subject>(contract: &Contract<L>, before: bool) -> Found {
    let stage = Stage::new(contract); // outside of any runtime
    let service = stage.service();
    run(async {
        stage.passes(&mut service.clone(), 1).await;
        Ok(())
    })?;
    ensure(any_global() == before, || "it installed a global subscriber".into())
}
