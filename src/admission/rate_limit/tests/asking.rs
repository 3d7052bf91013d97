//! Who asks.

use http::Request;

use crate::{
    admission::rate_limit::{Limit, RateLimit},
    gate::Gate,
    head::Head,
    identity::ClientAddr,
    reject::{Answer, Rejection},
};

pub(super) fn from(n: u32) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(ClientAddr::new(n.to_be_bytes().into(), None));
    request
}

/// Gates, and limits that are none before they are told to decide at once.
pub(super) trait Asked {
    fn ask(&self, head: &mut Head<'_>) -> Result<(), Answer>;
}

impl<G: Gate> Asked for G {
    fn ask(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.check(head).map(drop)
    }
}

impl Asked for RateLimit {
    fn ask(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.clone().sync().unwrap().ask(head)
    }
}

pub(super) fn passes(gate: &impl Asked, request: &mut Request<()>) -> bool {
    gate.ask(&mut Head::of(request)).is_ok()
}

pub(super) fn refusal(gate: &impl Asked, request: &mut Request<()>) -> Rejection {
    match gate.ask(&mut Head::of(request)) {
        Err(Answer::Refuse(rejection)) => rejection,
        Err(answer) => panic!("{answer:?}"),
        Ok(()) => panic!("it passes"),
    }
}

pub(super) fn remaining(limit: &Limit, request: &mut Request<()>) -> u32 {
    limit.handle().peek(&mut Head::of(request)).remaining
}
