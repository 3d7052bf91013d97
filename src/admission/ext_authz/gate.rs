use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, response};
use tokio::time::{Instant, timeout};

use super::{
    answer::{Granted, Refused, Verdict},
    ask::{Asker, Failure},
    external::{AuthBody, ExternalAuth},
    question,
};
use crate::{
    admission::authz::Matched,
    body::{Bodiless, Peeked, Tap},
    gate::{AsyncGate, Check, Pass},
    head::Head,
    reject::{Answer, Protocol, Reason, Rejection},
    trail::Trail,
};

/// What the wait of an [`ExternalAuth`] tells.
pub struct AuthTold {
    rule: Matched,
    outcome: Outcome,
}

enum Outcome {
    Decided(Result<Verdict, Failure>),
    /// The body of the request is at fault.
    Unasked(Rejection),
}

/// The wait of an [`ExternalAuth`].
pub struct AuthWait {
    rule: Matched,
    asked: Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

impl Future for AuthWait {
    type Output = AuthTold;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<AuthTold> {
        let outcome = ready!(self.asked.as_mut().poll(cx));
        Poll::Ready(AuthTold { rule: self.rule.clone(), outcome })
    }
}

impl AsyncGate for ExternalAuth {
    type Pass = Option<AuthPass>;
    type Wait = AuthWait;
    type Told = AuthTold;
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Check<Self::Pass, AuthWait> {
        // Also where it is not asked: nobody else may say so.
        self.asserted.strip(head.headers_mut());
        let rule = match self.rule(head) {
            Ok(Some(rule)) => rule,
            Ok(None) => return Check::Now(Ok(None)),
            Err(rejection) => return Err(Answer::from(rejection)).into(),
        };
        let question = question::head(&self.asker.url, &self.sent, head);
        if self.wants_body() {
            return Check::Wait(AuthWait { rule, asked: self.with_body(question, head) });
        }
        let key = self.asker.memory.as_ref().map(|_| question::key(&question));
        if let Some(verdict) = key.as_ref().and_then(|key| self.asker.remembered(key, head.now())) {
            return self.decide(head, &rule, Ok(verdict)).into();
        }
        let asked = Arc::clone(&self.asker).decide(question, self.asker.caller(head), key);
        Check::Wait(AuthWait { rule, asked: Box::pin(async move { Outcome::Decided(asked.await) }) })
    }

    fn resume(&self, head: &mut Head<'_>, told: AuthTold) -> Check<Self::Pass, AuthWait> {
        match told.outcome {
            Outcome::Decided(decided) => self.decide(head, &told.rule, decided).into(),
            Outcome::Unasked(rejection) => Err(Answer::from(rejection)).into(),
        }
    }
}

impl ExternalAuth {
    /// By which rule it is asked about this request, if it is.
    fn rule(&self, head: &Head<'_>) -> Result<Option<Matched>, Rejection> {
        match &self.guard {
            Some(guard) => guard.matching(head, self.paths),
            None => Ok(Some(Matched::always(Arc::clone(&self.name)))),
        }
    }

    /// Reads what is wanted of the body, and asks.
    fn with_body(
        &self,
        question: Request<Bytes>,
        head: &Head<'_>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let kind = head.headers().get(header::CONTENT_TYPE).cloned();
        // The head alone does not tell: over HTTP/2 a body needs no header field.
        let has_body = head.extensions().get::<Bodiless>().is_none();
        let tap = head.extensions().get::<Tap>().cloned();
        let (asker, body, patience) = (Arc::clone(&self.asker), self.body, self.body_timeout);
        let caller = asker.caller(head);
        Box::pin(async move {
            let peeked = match tap {
                Some(tap) => {
                    timeout(patience, peek(&tap, body)).await.unwrap_or(Err(Reason::RequestTimeout.into()))
                }
                None if has_body => {
                    Err(Rejection::new(Reason::Internal).detail("no tap shows the body to the authorizer"))
                }
                None => Ok(Peeked::nothing()),
            };
            let question = match peeked {
                Ok(peeked) => question::with_body(question, kind, &peeked),
                Err(rejection) => return Outcome::Unasked(rejection),
            };
            Outcome::Decided(ask(asker, question, caller).await)
        })
    }

    fn decide(
        &self,
        head: &mut Head<'_>,
        matched: &Matched,
        told: Result<Verdict, Failure>,
    ) -> Result<Option<AuthPass>, Answer> {
        self.asker.counts.count(&told);
        let granted = match told {
            Ok(Verdict::Pass(granted)) => Some(granted),
            Err(Failure { why, .. }) if self.fails_open => {
                tracing::warn!(authorizer = &*self.name, %why, "the authorizer failed, and the request passes");
                None
            }
            Ok(Verdict::Refuse(refused)) => {
                self.refused_by(head, matched);
                return Err(self.refusal(&refused, head.protocol(), self.told("deny", matched)));
            }
            Err(failure) => {
                self.refused_by(head, matched);
                return Err(self.failure(&failure, self.told("deny", matched)).into());
            }
        };
        matched.decided(true);
        for (name, value) in granted.iter().flat_map(|granted| &granted.upstream) {
            head.headers_mut().append(name, value.clone());
        }
        let told = self.told("allow", matched);
        Ok(Some(AuthPass { granted, trail: Trail::join(head), rule: Arc::clone(matched.rule()), told }))
    }

    /// Counts, and tells the log, by which rule a request was refused.
    fn refused_by(&self, head: &Head<'_>, matched: &Matched) {
        matched.decided(false);
        if let Some(trail) = head.extensions().get::<Trail>() {
            trail.set_decision(Arc::clone(matched.rule()));
        }
    }

    /// Who decided, for the caller.
    fn told(&self, action: &str, matched: &Matched) -> Option<Told> {
        let name = self.told_in.clone()?;
        Some((name, HeaderValue::try_from(format!("{action} {}", matched.rule())).ok()?))
    }

    fn failure(&self, Failure { why, retry_after, .. }: &Failure, told: Option<Told>) -> Rejection {
        tracing::warn!(authorizer = &*self.name, %why, "the authorizer failed");
        let detail = format!("the authorizer `{}` gave no answer: {why}", self.name);
        let rejection = named(Rejection::new(self.failure).detail(detail), told);
        let unavailable = self.failure.status() == StatusCode::SERVICE_UNAVAILABLE;
        if unavailable { rejection.retry_after(*retry_after) } else { rejection }
    }

    /// The authorizer's answer as it is, or in the words of gRPC.
    fn refusal(&self, refused: &Refused, protocol: Protocol, told: Option<Told>) -> Answer {
        let reason = match refused.status {
            StatusCode::BAD_REQUEST => Reason::BadRequest,
            StatusCode::UNAUTHORIZED => Reason::InvalidCredentials,
            StatusCode::TOO_MANY_REQUESTS => Reason::RateLimited,
            _ => Reason::Forbidden,
        };
        let rejection = Rejection::new(reason).detail(format!("refused by the authorizer `{}`", self.name));
        if protocol != Protocol::Http {
            let after = refused.retry_after().filter(|_| reason == Reason::RateLimited);
            let rejection = named(rejection, told);
            return after.map_or(rejection.clone(), |after| rejection.retry_after(after)).into();
        }
        let mut response = Response::new(refused.body.clone());
        *response.status_mut() = refused.status;
        for (name, value) in &refused.headers {
            response.headers_mut().append(name, value.clone());
        }
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let Some((name, value)) = told {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(rejection);
        response.into()
    }
}

/// The header in which a caller is told who decided.
type Told = (HeaderName, HeaderValue);

fn named(rejection: Rejection, told: Option<Told>) -> Rejection {
    told.into_iter().fold(rejection, |rejection, (name, value)| rejection.header(name, value))
}

/// Looks for an answer from before, then asks.
async fn ask(asker: Arc<Asker>, question: Request<Bytes>, caller: u64) -> Result<Verdict, Failure> {
    let key = asker.memory.as_ref().map(|_| question::key(&question));
    if let Some(verdict) = key.as_ref().and_then(|key| asker.remembered(key, Instant::now())) {
        return Ok(verdict);
    }
    asker.decide(question, caller, key).await
}

async fn peek(tap: &Tap, body: AuthBody) -> Result<Peeked, Rejection> {
    if body == AuthBody::Excluded {
        return Ok(Peeked::nothing());
    }
    let broken = |error| Rejection::new(Reason::BadRequest).detail("the body broke off").source(error);
    let peeked = tap.peek(body.most()).await.map_err(broken)?;
    if matches!(body, AuthBody::Whole(_)) && !peeked.is_whole() {
        return Err(Reason::BodyTooLarge.into());
    }
    Ok(peeked)
}

/// Waits for the response that gets headers of the authorizer's answer, and says who decided.
#[derive(Debug)]
pub struct AuthPass {
    granted: Option<Arc<Granted>>,
    trail: Trail,
    rule: Arc<str>,
    told: Option<Told>,
}

impl Pass for AuthPass {
    fn on_head(&mut self, head: &mut response::Parts) {
        for (name, value) in self.granted.iter().flat_map(|granted| &granted.client) {
            head.headers.append(name, value.clone());
        }
        // Policies that deny or allow stand inside, and have spoken by now.
        if self.trail.decision().is_none() {
            self.trail.set_decision(Arc::clone(&self.rule));
            if let Some((name, value)) = self.told.take() {
                head.headers.insert(name, value);
            }
        }
    }
}

impl fmt::Debug for AuthTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthTold(..)")
    }
}

impl fmt::Debug for AuthWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthWait(..)")
    }
}
