use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::EndpointSet;
use crate::body::BoxError;

/// Where an upstream learns which endpoints it has.
///
/// It yields whole sets, and errors where it cannot tell: then the set of before stays in force, as stale. A function that
/// makes a stream of sets is one, and so is a [`StreamSource`].
///
/// ```
/// use std::time::Duration;
/// use portcullis::upstream::{EndpointSet, EndpointSource, Sets, Upstream};
///
/// /// Asks a registry of yours every ten seconds.
/// struct Registry;
///
/// # async fn ask() -> Result<Vec<String>, std::io::Error> { Ok(vec!["192.0.2.1:80".to_owned()]) }
/// impl EndpointSource for Registry {
///     fn follow(&self) -> Sets {
///         Sets::told(|teller| async move {
///             loop {
///                 let set = ask().await.map(EndpointSet::new);
///                 teller.tell(set.map_err(Into::into)).await;
///                 tokio::time::sleep(Duration::from_secs(10)).await;
///             }
///         })
///     }
/// }
///
/// # tokio_test::block_on(async {
/// let orders = Upstream::builder("orders").source(Registry).build()?;
/// orders.warm().await.unwrap();
/// assert_eq!(orders.endpoints()[0].address.to_string(), "192.0.2.1:80");
/// # Ok::<(), portcullis::upstream::BuildError>(())
/// # }).unwrap();
/// ```
pub trait EndpointSource: Send + Sync + 'static {
    /// Begins to tell sets, the first one as soon as it is known. It is asked for again if the stream ends, or the runtime
    /// in which it was followed.
    fn follow(&self) -> Sets;
}

impl<F, S> EndpointSource for F
where
    F: Fn() -> S + Send + Sync + 'static,
    S: Stream<Item = Result<EndpointSet, BoxError>> + Send + 'static,
{
    fn follow(&self) -> Sets {
        Sets::new(self())
    }
}

/// One stream of sets, which can be followed once. When it ends its last set stays, as stale.
pub struct StreamSource(Mutex<Option<Sets>>);

impl StreamSource {
    /// The sets of this stream.
    #[must_use]
    pub fn new(sets: impl Stream<Item = Result<EndpointSet, BoxError>> + Send + 'static) -> Self {
        Self(Mutex::new(Some(Sets::new(sets))))
    }
}

impl EndpointSource for StreamSource {
    fn follow(&self) -> Sets {
        let sets = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        sets.unwrap_or_else(|| Sets::told(|_| async {}))
    }
}

impl fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSource").finish_non_exhaustive()
    }
}

/// One set, for good.
pub(in crate::upstream) struct Fixed(pub(in crate::upstream) EndpointSet);

impl EndpointSource for Fixed {
    fn follow(&self) -> Sets {
        let set = self.0.clone();
        Sets::told(|teller| async move {
            teller.tell(Ok(set)).await;
            std::future::pending::<()>().await;
        })
    }
}

/// The sets of a source, one after the other.
#[must_use]
pub struct Sets(pub(super) Pin<Box<dyn Stream<Item = Result<EndpointSet, BoxError>> + Send>>);

impl Sets {
    /// Those of this stream.
    pub fn new(sets: impl Stream<Item = Result<EndpointSet, BoxError>> + Send + 'static) -> Self {
        Self(Box::pin(sets))
    }

    /// Those that this work tells. It goes on as long as it is followed, and ends the stream with its own end.
    pub fn told<W>(work: impl FnOnce(Teller) -> W) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (teller, told) = mpsc::channel(1);
        Self::new(Told { work: Some(Box::pin(work(Teller(teller)))), told })
    }

    pub(in crate::upstream) async fn next(&mut self) -> Option<Result<EndpointSet, BoxError>> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl fmt::Debug for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sets").finish_non_exhaustive()
    }
}

/// Tells the sets of a source.
#[derive(Debug)]
pub struct Teller(mpsc::Sender<Result<EndpointSet, BoxError>>);

impl Teller {
    /// Tells a set, or why there is none. It waits until the one of before was taken.
    pub async fn tell(&self, set: Result<EndpointSet, BoxError>) {
        // Nobody listens only when the work is about to be dropped.
        let _ = self.0.send(set).await;
    }
}

/// Work, and what it has told.
struct Told {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    told: mpsc::Receiver<Result<EndpointSet, BoxError>>,
}

impl Stream for Told {
    type Item = Result<EndpointSet, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // What it has told is there even if it has ended; then the channel is closed.
        if this.work.as_mut().is_some_and(|work| work.as_mut().poll(cx).is_ready()) {
            this.work = None;
        }
        this.told.poll_recv(cx)
    }
}
