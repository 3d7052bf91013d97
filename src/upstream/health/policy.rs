use std::{num::NonZeroU32, ops::RangeInclusive, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, uri::PathAndQuery};

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();
const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();

/// How endpoints are asked whether they are well, and what is made of it. See the [module docs](super).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Policy {
    pub(super) probe: Probe,
    pub(super) host: Option<HeaderValue>,
    pub(super) interval: Duration,
    pub(super) idle_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) jitter: Duration,
    pub(super) unhealthy: NonZeroU32,
    pub(super) healthy: NonZeroU32,
    pub(super) wait_for_first: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    Http { path: PathAndQuery, expected: Vec<RangeInclusive<u16>> },
    Grpc { service: Arc<str> },
    Tcp,
}

impl Policy {
    /// `GET` of this path must be answered with a 200, or with a status that is [expected](Self::expect).
    pub fn http(path: PathAndQuery) -> Self {
        Self::of(Probe::Http { path, expected: Vec::new() })
    }

    /// The [health service](https://grpc.io/docs/guides/health-checking/) of gRPC must say `SERVING` for this service; an
    /// empty name is the server as a whole.
    pub fn grpc(service: impl Into<Arc<str>>) -> Self {
        Self::of(Probe::Grpc { service: service.into() })
    }

    /// A connection must come about.
    pub const fn tcp() -> Self {
        Self::of(Probe::Tcp)
    }

    const fn of(probe: Probe) -> Self {
        Self {
            probe,
            host: None,
            interval: Duration::from_secs(5),
            idle_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(1),
            jitter: Duration::from_millis(500),
            unhealthy: THREE,
            healthy: TWO,
            wait_for_first: false,
        }
    }

    /// Adds statuses that are as good as any, in place of 200 alone. Only for [`http`](Self::http).
    pub fn expect(mut self, statuses: RangeInclusive<u16>) -> Self {
        if let Probe::Http { expected, .. } = &mut self.probe {
            expected.push(statuses);
        }
        self
    }

    /// The host that is asked for. The endpoint's address unless told.
    pub fn host(mut self, host: HeaderValue) -> Self {
        self.host = Some(host);
        self
    }

    /// How long after an answer it is asked again. 5 seconds unless told.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The same as long as nobody has sent a request to this upstream. 60 seconds unless told, and never less than the
    /// interval.
    pub fn no_traffic_interval(mut self, interval: Duration) -> Self {
        self.idle_interval = interval;
        self
    }

    /// How long an answer may take, with the connection that it needs. 1 second unless told.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How much of chance comes on top of each interval, so that the gateways of a fleet do not ask all at once. Half a
    /// second unless told.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many bad answers in a row make an endpoint unhealthy. 3 unless told.
    pub fn unhealthy_threshold(mut self, answers: NonZeroU32) -> Self {
        self.unhealthy = answers;
        self
    }

    /// How many good answers in a row make it healthy again. 2 unless told.
    pub fn healthy_threshold(mut self, answers: NonZeroU32) -> Self {
        self.healthy = answers;
        self
    }

    /// Whether an endpoint that is not known yet gets no request before it has answered well once. `false` unless told: it
    /// is taken for healthy. As long as nobody takes requests they wait until all have answered for the first time, 5 seconds at
    /// most; who knows before that there will be some [warms](crate::upstream::Upstream::warm) the upstream.
    pub fn wait_for_first(mut self, wait: bool) -> Self {
        self.wait_for_first = wait;
        self
    }
}

impl Probe {
    /// Whether this status says that all is well.
    pub(super) fn expects(expected: &[RangeInclusive<u16>], status: StatusCode) -> bool {
        match expected {
            [] => status == StatusCode::OK,
            ranges => ranges.iter().any(|range| range.contains(&status.as_u16())),
        }
    }
}
