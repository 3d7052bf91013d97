//! What a call costs, and what is installed for everybody.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tower_service::Service;
use tracing::subscriber::NoSubscriber;

use super::stage::{Found, Stage, ensure, run, runtime, settle};
use crate::testing::{
    Contract, Subject,
    contract::{Count, Refuses},
    probe::Shared,
};

pub(super) fn allocation<L: Subject>(contract: &Contract<L>, count: Count, allowed: u64) -> Found {
    let bare = Arc::<Shared>::default();
    let mut probe = bare.probe();
    let floor = cost(contract, &mut probe, count);
    let stage = Stage::new(contract);
    let with_layer = cost(contract, &mut stage.service(), count);
    let made = with_layer.saturating_sub(floor);
    ensure(made <= allowed, || format!("{made} allocations in a call, {allowed} allowed"))
}

/// The allocations of one call, after some that warm it up. The request is made beforehand.
fn cost<L, S>(contract: &Contract<L>, service: &mut S, count: Count) -> u64
where
    S: Service<http::Request<crate::body::Body>>,
{
    let Ok(runtime) = runtime() else { return 0 };
    let _entered = runtime.enter();
    let mut made = 0;
    for round in 1..=4 {
        // What is counted is a call that passes.
        let is_over = matches!(contract.refuses, Some(Refuses::After(limit)) if limit < 4);
        let mut request = Some((contract.request)(if is_over { round } else { 1 }));
        made = count(&mut || {
            let mut cx = Context::from_waker(Waker::noop());
            let ready = service.poll_ready(&mut cx);
            if let (Poll::Ready(Ok(())), Some(request)) = (ready, request.take()) {
                let call = service.call(request);
                let mut call = pin!(call);
                let _ = call.as_mut().poll(&mut cx);
            }
        })
        .made;
    }
    made
}

/// What others keep that are used meanwhile, tokio among them.
const FEW: i64 = 50;

/// A layer of which no callers are told keeps nothing of them. What it keeps once for all is there after the first round.
pub(super) fn memory<L: Subject>(contract: &Contract<L>, count: Count) -> Found {
    const CALLERS: u32 = 1000;
    let stage = Stage::new(contract);
    let mut service = stage.service();
    let runtime = runtime()?;
    let mut kept = 0;
    for round in 0..2 {
        kept = count(&mut || {
            for caller in 0..CALLERS {
                let passes = Box::pin(stage.passes(&mut service, round * CALLERS + caller));
                runtime.block_on(passes);
            }
            runtime.block_on(settle());
        })
        .kept;
    }
    ensure(kept <= FEW, || {
        format!("{kept} allocations are kept of {CALLERS} callers, of whom nothing was told")
    })
}

/// What a layer remembers of callers has a bound: once so many have filled it, as many others make it no larger.
pub(super) fn bounded<L: Subject>(contract: &Contract<L>, count: Count, callers: u32) -> Found {
    let stage = Stage::new(contract);
    let mut service = stage.service();
    let runtime = runtime()?;
    let mut round = |round: u32| {
        count(&mut || {
            for caller in 0..callers {
                runtime.block_on(Box::pin(stage.passes(&mut service, round * callers + caller)));
            }
            runtime.block_on(settle());
        })
        .kept
    };
    let (first, second, third) = (round(0), round(1), round(2));
    ensure(first > FEW, || {
        format!("it remembers nobody: {first} allocations are kept of {callers} callers")
    })?;
    ensure(second.max(third) <= FEW, || {
        format!("beside {first} allocations, {second} and {third} are kept of as many more callers")
    })
}

/// What only an application may install, and whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::testing) struct Globals {
    subscriber: bool,
    crypto_provider: bool,
}

/// A thread of its own is asked: what other threads have set for themselves does not count.
pub(in crate::testing) fn globals() -> Globals {
    let subscriber = || tracing::dispatcher::get_default(|default| !default.is::<NoSubscriber>());
    Globals {
        subscriber: std::thread::spawn(subscriber).join().unwrap_or_default(),
        #[cfg(feature = "tls")]
        crypto_provider: rustls::crypto::CryptoProvider::get_default().is_some(),
        #[cfg(not(feature = "tls"))]
        crypto_provider: false,
    }
}

pub(super) fn nothing_global<L: Subject>(contract: &Contract<L>, before: Globals) -> Found {
    let stage = Stage::new(contract); // outside of any runtime
    let service = stage.service();
    run(async {
        stage.passes(&mut service.clone(), 1).await;
        Ok(())
    })?;
    let after = globals();
    ensure(after.subscriber == before.subscriber, || "it installed a global subscriber".into())?;
    ensure(after.crypto_provider == before.crypto_provider, || "it installed a crypto provider".into())
}
