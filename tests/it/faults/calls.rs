//! Callers: over HTTP/1.1, and with tonic over HTTP/2.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use http_body_util::{BodyExt, Full};
use portcullis::{
    resilience::retry::Policy,
    stack::mesh::{Client, ClientLayer, Destination},
    upstream::Upstream,
};
use tokio::{task::JoinSet, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::endpoint::Endpoint;

const PATIENCE: Duration = Duration::from_secs(60);

/// How is called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Over {
    /// GET.
    Http,
    /// POST, with a body.
    Post,
    Grpc,
}

impl Over {
    /// These say of their calls that they may be made twice: the one by its method, the other by its policy.
    pub(super) const BOTH: [Self; 2] = [Self::Http, Self::Grpc];
    /// And these do not, unless they say so.
    pub(super) const ONCE: [Self; 2] = [Self::Post, Self::Grpc];

    /// What an endpoint does that fails every call in this protocol.
    pub(super) fn fails(self) -> &'static str {
        if self == Self::Grpc { "unavailable" } else { "status 503" }
    }

    /// The policies of calls that may be made twice.
    pub(super) fn repeatable(self, policy: Policy) -> ClientLayer {
        let policy = if self == Self::Grpc { policy.danger_any_method() } else { policy };
        ClientLayer::new().retry(policy)
    }

    /// One call; what it failed with.
    pub(super) async fn call(self, client: &Client) -> Result<(), String> {
        timeout(PATIENCE, self.call_once(client)).await.expect("no answer in time")
    }

    async fn call_once(self, client: &Client) -> Result<(), String> {
        if self == Self::Grpc {
            let answer = HealthClient::new(client.clone()).check(HealthCheckRequest::default()).await;
            let answer = answer.map_err(|status| format!("{status:?}"))?.into_inner();
            return if answer.status == 1 { Ok(()) } else { Err(format!("{answer:?}")) };
        }
        let (method, body) = if self == Self::Post { ("POST", "an order") } else { ("GET", "") };
        let request = http::Request::builder().method(method).uri("/").body(Full::from(body)).unwrap();
        let (head, body) = client.send(request).await.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        if head.status == 200 && body == "served" { Ok(()) } else { Err(format!("{head:?} {body:?}")) }
    }

    /// So many calls, a few at a time; what those failed with that did.
    pub(super) async fn many(self, client: &Client, calls: usize) -> Vec<String> {
        let calls = stream::iter(0..calls).map(|_| self.call(client)).buffer_unordered(8);
        calls.filter_map(|ended| async { ended.err() }).collect().await
    }
}

pub(super) async fn start(endpoints: usize) -> Vec<Endpoint> {
    join_all((0..endpoints).map(|_| Endpoint::start())).await
}

pub(super) fn client(endpoints: &[Endpoint], policies: ClientLayer) -> Client {
    let addresses = endpoints.iter().map(|endpoint| endpoint.address);
    // Shorter than any server's.
    let upstream = Upstream::builder("orders").endpoints(addresses).idle_timeout(Duration::from_millis(200));
    let upstream = upstream.build().unwrap();
    Client::new(Destination::new(upstream).policies(policies)).unwrap()
}

/// How many calls they have seen together.
pub(super) async fn seen(endpoints: &mut [Endpoint]) -> u64 {
    let mut seen = 0;
    for endpoint in endpoints {
        seen += endpoint.calls().await;
    }
    seen
}

/// Callers that call until they are told to stop.
pub(super) struct Callers {
    tasks: JoinSet<Vec<String>>,
    over: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
}

impl Callers {
    pub(super) fn start(protocol: Over, client: &Client) -> Self {
        let (over, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (client, over, made) = (client.clone(), Arc::clone(&over), Arc::clone(&made));
            tasks.spawn(async move {
                let mut failed = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    failed.extend(protocol.call(&client).await.err());
                    made.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                failed
            });
        }
        Self { tasks, over, made }
    }

    /// Waits until some more calls have been made.
    pub(super) async fn go_on(&self) {
        let until = self.made.load(Ordering::Relaxed) + 40;
        let made = async {
            while self.made.load(Ordering::Relaxed) < until {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, made).await.expect("calls go on");
    }

    /// What those failed with that did.
    pub(super) async fn stop(self) -> Vec<String> {
        self.count().await.1
    }

    /// How many calls were made, and what those failed with that did.
    pub(super) async fn count(self) -> (u64, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let failed = self.tasks.join_all().await.concat();
        (self.made.load(Ordering::Relaxed), failed)
    }
}
