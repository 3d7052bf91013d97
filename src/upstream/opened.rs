//! A connection of its own, for whatever is spoken.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::Guard;
use http::Response;
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf, copy, sink},
    time::{Instant, timeout},
};

use super::{
    Upstream,
    balance::{Ask, Tried},
    connect::ConnectError,
    link::{Link, Term},
    load::Load,
    member::Member,
    race::{PATIENCE, race},
    tries::{Come, Missed, Try, blame, log, nobody_in},
};
use crate::{
    head::Head,
    io::write_through,
    reject::{Reason, Rejection},
    tunnel::TunnelCut,
};

/// A connection that was [opened](Upstream::open), plain or within TLS. It counts as a request in flight at its endpoint until it
/// is dropped, or told how it ended.
pub struct Opened {
    link: Link,
    term: Term,
    load: Load,
    attempts: u8,
    connect: Duration,
}

impl Opened {
    /// Where it leads.
    #[must_use]
    pub fn endpoint(&self) -> SocketAddr {
        self.load.member().address()
    }

    /// How many endpoints were tried.
    #[must_use]
    pub const fn attempts(&self) -> u8 {
        self.attempts
    }

    /// How long it took to connect, to all endpoints that were tried.
    #[must_use]
    pub const fn connect_time(&self) -> Duration {
        self.connect
    }

    /// Tells when it must end: the server's certificate has expired, or is believed no longer
    /// ([`OnTrustShrink::Close`](crate::tls::OnTrustShrink::Close)).
    #[must_use]
    pub fn cut(&self) -> TunnelCut {
        TunnelCut::when(self.term.clone().over())
    }

    /// It has ended as it should. Who looks for outliers learns of it; dropped without a word it counts as one that nobody
    /// waited for.
    pub fn succeeded(mut self) {
        self.load.complete();
    }

    /// The endpoint has broken off.
    pub fn failed(mut self) {
        self.load.fail(&Reason::UpstreamReset.into());
    }

    /// Says that nothing more comes, without the goodbye of TLS that the endpoint may ask for, and waits until it has ended too:
    /// by then it has all that was written. Gives up after `patience`. Tells whether the endpoint has ended so.
    pub async fn hang_up(&mut self, patience: Duration) -> bool {
        let hung_up = async {
            self.flush().await?;
            poll_fn(|cx| self.link.poll_hang_up(cx)).await?;
            copy(&mut self.link, &mut sink()).await
        };
        timeout(patience, hung_up).await.is_ok_and(|ended| ended.is_ok())
    }

    /// Lets go of it so that the endpoint sees that it has broken off, and does not take a part for the whole.
    pub fn reset(self) {
        // It fails if it has broken off already.
        let _ = self.link.socket().set_zero_linger();
    }
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_read(cx, buf)
    }
}

write_through!(Opened, link);

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opened").field(&self.endpoint()).finish()
    }
}

impl Upstream {
    /// Opens a connection of its own to an endpoint that is picked as for a request with this head: for whatever is spoken, by a
    /// proxy of TCP say. No protocol is agreed on in TLS (ALPN). If no connection can be made, or none has come for 250 ms, up to two
    /// other endpoints are tried.
    ///
    /// ```
    /// use http::Request;
    /// use portcullis::{head::Head, upstream::Upstream};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # tokio_test::block_on(async {
    /// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    /// # let address = listener.local_addr().unwrap().to_string();
    /// # tokio::spawn(async move {
    /// #     let (mut stream, _) = listener.accept().await.unwrap();
    /// #     stream.read_exact(&mut [0; 6]).await.unwrap();
    /// #     stream.write_all(b"+PONG\r\n").await.unwrap();
    /// # });
    /// let cache = Upstream::builder("cache").endpoint(address).build().unwrap();
    /// let mut opened = cache.open(&Head::of(&mut Request::new(()))).await.unwrap();
    /// opened.write_all(b"PING\r\n").await.unwrap();
    /// let mut answer = String::new();
    /// opened.read_to_string(&mut answer).await.unwrap();
    /// assert_eq!(answer, "+PONG\r\n");
    /// opened.succeeded();
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As a [`Proxy`](super::Proxy) has before there is a connection.
    pub fn open(
        &self,
        head: &Head<'_>,
    ) -> impl Future<Output = Result<Opened, Rejection>> + Send + 'static + use<> {
        let upstream = self.elsewhere(head).unwrap_or_else(|| Ok(self.clone()));
        let (hash, subset) = (self.hash(head), self.marked(head));
        async move { upstream?.opened(hash, subset).await }
    }

    async fn opened(self, hash: Option<u64>, subset: Option<u64>) -> Result<Opened, Rejection> {
        let begun = Instant::now();
        let now = self.plan_now().map(Guard::into_inner);
        let plan = match now {
            Some(plan) => plan,
            None => self.plan().await?,
        };
        // One that knows nobody may be of before, and the next may take long to be made.
        let ask = Ask { hash, subset, ..Ask::default() };
        let mut first = self.next(&plan, &ask);
        if first.is_none()
            && let Some(plan) = self.group().roster.renewed(&plan).await
        {
            first = self.next(&plan, &ask);
        }
        let (mut tried, mut failed) = (Tried::default(), None::<ConnectError>);
        let come = race(PATIENCE, |missed: Option<Missed>| {
            if let Some(Missed { mut load, error }) = missed {
                log(&self, &load, &error);
                blame(&mut load, &error);
                failed = Some(error);
            }
            if tried.is_full() {
                return None;
            }
            let now = self.now();
            let ask = Ask { tried, hash, subset, now, ..Ask::default() };
            let another = || self.next(&*self.plan_now()?, &ask);
            let member = first.take().or_else(another)?;
            tried.add(&member);
            let of = Arc::clone(&member);
            Some(Try::begin(self.begin(member, None, now), Box::pin(async move { of.connect_raw().await })))
        });
        let Some((Come { mut load, got: (link, term) }, late)) = come.await else {
            return Err(failed.map_or_else(|| nobody_in(&self, subset), Rejection::from));
        };
        late.into_iter().for_each(|late| late.go_on(&self, |_: &Arc<Member>, late| drop(late)));
        // Its time to answer is its time to connect.
        let (head, ()) = Response::new(()).into_parts();
        load.head(&head, false);
        Ok(Opened { link, term, load, attempts: tried.count(), connect: begun.elapsed() })
    }
}
