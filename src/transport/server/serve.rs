use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tower_service::Service;

use super::{
    Server,
    connection::{Conn, Drive, Ended},
    guard::Guard,
    heads::Heads,
    pulse::Pulse,
    request::Requests,
    sniff::{Sniffed, detect, sniff},
    speech::Speech,
    vitals::Vitals,
};
use crate::{
    body::{Body, BoxError},
    race::race,
    transport::{
        Drain, Io, Listener, Peer, Stream, Streams,
        drain::{Alarm, Phase, Watch},
        listener::Observer,
        prefixed::Prefixed,
        stream::Which,
        tenure::Tenure,
    },
};

impl Server {
    /// Serves the connections of `listener` until the server has drained.
    ///
    /// Each request is given to a clone of `service`, with a [`PeerAddr`](crate::identity::PeerAddr) in its extensions, and what
    /// TLS has told: a [`PeerIdentity`](crate::identity::PeerIdentity) if the client has shown a certificate, and a
    /// [`TlsSession`](crate::identity::TlsSession). A connection ends, as by age, when that certificate does. An error of the service
    /// ends the connection (HTTP/1) or the stream (HTTP/2) without an answer, so put a
    /// [`RescueLayer`](crate::reject::RescueLayer) around it; so does a panic, which ends nothing else.
    ///
    /// Once its [`Drain`] has started, it accepts what waits in the system's queue, lets go of the address, and
    /// resolves when all connections, tunnels included, are closed or cut.
    pub fn serve<S, B>(
        self,
        listener: Listener,
        service: S,
    ) -> impl Future<Output = ()> + Send + 'static + use<S, B>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + 'static,
    {
        self.serve_with(listener, service, Streams::none(|_: Stream| std::future::ready(())))
    }

    /// As [`serve`](Self::serve); what carries something else than HTTP is given to `streams`. Each of these is in flight until it
    /// is dropped.
    pub fn serve_with<S, B, F, R>(
        self,
        mut listener: Listener,
        service: S,
        streams: Streams<F>,
    ) -> impl Future<Output = ()> + Send + 'static + use<S, B, F, R>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + 'static,
        F: FnOnce(Stream) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let accepting = self.drain.watch(); // now, so that nobody takes what is not polled yet for drained
        async move {
            let (ours, observer) = (Drain::new(), listener.observer());
            let mut alarm = Alarm::new(self.drain.clone());
            while let Some(mut io) = poll_fn(|cx| match alarm.poll(cx) {
                Phase::Serving => listener.poll_next(cx),
                Phase::Draining => {
                    listener.close();
                    listener.poll_next(cx)
                }
                Phase::Cut => Poll::Ready(None),
            })
            .await
            {
                let watches = [self.drain.watch(), ours.watch()];
                let service = (service.clone(), observer.clone());
                match streams.which {
                    Which::None => {
                        let who = (io.who().clone(), io.tenure());
                        tokio::spawn(self.clone().run(io, who, service, watches));
                    }
                    _ => {
                        tokio::spawn(self.clone().tell_apart(io, service, streams.clone(), watches));
                    }
                }
            }
            drop((listener, accepting));
            race(ours.emptied(), self.drain.cut_off()).await;
        }
    }

    /// Serves one connection, of any kind, that was accepted elsewhere.
    ///
    /// As [`serve`](Self::serve) does, under the same limits and the same drain handle.
    pub async fn serve_connection<I, S, B>(self, io: I, peer: impl Into<Peer>, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + 'static,
    {
        let watches = [self.drain.watch(), self.drain.watch()];
        let peer = peer.into();
        let tenure = Tenure::of(&peer);
        self.run(io, (peer, tenure), (service, Observer::default()), watches).await;
    }

    /// Serves a connection that may carry something else than HTTP.
    async fn tell_apart<S, B, F, R>(
        self,
        mut io: Io,
        service: (S, Observer),
        streams: Streams<F>,
        watches: [Watch; 2],
    ) where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + 'static,
        F: FnOnce(Stream) -> R,
        R: Future<Output = ()>,
    {
        let born = Instant::now();
        let mut alarm = Alarm::new(self.drain.clone());
        // From the first byte that is read, it is we who see to its end.
        let who = (io.who().clone(), io.tenure());
        let patience = match streams.which {
            Which::Detected(patience) if !io.has_agreed_on_http() => Some(patience),
            Which::All => None,
            Which::Detected(_) | Which::None => return self.run(io, who, service, watches).await,
        };
        let told = match patience.filter(|_| !io.is_silent()) {
            Some(patience) => detect(&mut io, patience, &self.limits, &mut alarm).await,
            None => Some(Sniffed { speech: Speech::Other, ahead: Bytes::new() }),
        };
        let Some(sniffed) = told else { return };
        if sniffed.speech == Speech::Other {
            let [own, ours] = watches;
            let watches = match &streams.drain {
                Some(drain) => {
                    let kept = drain.watch();
                    drop((own, ours));
                    (kept, None)
                }
                None => (own, Some(ours)),
            };
            return (streams.forward)(Stream::new(sniffed.ahead, io, who.1, watches)).await;
        }
        self.speak(io, who, service, watches, (sniffed, alarm, born)).await;
    }

    async fn run<I, S, B>(self, mut io: I, who: (Peer, Tenure), service: (S, Observer), watches: [Watch; 2])
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + 'static,
    {
        let born = Instant::now();
        let mut alarm = Alarm::new(self.drain.clone());
        let Some(sniffed) = sniff(&mut io, &self.limits, &mut alarm).await else { return };
        self.speak(io, who, service, watches, (sniffed, alarm, born)).await;
    }

    /// Speaks HTTP on a connection of which it is known which version that is.
    async fn speak<I, S, B>(
        self,
        io: I,
        (peer, tenure): (Peer, Tenure),
        (service, observer): (S, Observer),
        watches: [Watch; 2],
        (sniffed, alarm, born): (Sniffed, Alarm, Instant),
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError> + 'static,
    {
        let is_h2 = sniffed.speech == Speech::Http2;
        let vitals = Vitals::new(self.drain, is_h2);
        let pulse = Pulse::new(Arc::clone(&self.limits), Arc::clone(&vitals), born, &tenure);
        let io = Prefixed::new(sniffed.ahead, io);
        let guard = Guard::new(io, Arc::clone(&vitals), tenure.clone(), watches);
        let (limits, who) = (Arc::clone(&self.limits), peer);
        let (peer, lost) = (who.address(), tenure.lost());
        let mut heads = Heads::new(observer.clone(), peer, Arc::clone(&vitals), Arc::clone(&limits));
        let (drain, until) = (vitals.drain.clone(), tenure.clone());
        let requests = Requests { service, peer: who, tenure, vitals, limits, observer };
        let ended = if is_h2 {
            let mut conn = Box::pin(self.limits.http2().serve_connection(TokioIo::new(guard), requests));
            let ended = Drive::new(&mut conn, &mut heads, pulse, alarm, lost).await;
            heads.end(&ended);
            ended
        } else {
            let mut conn =
                self.limits.http1().serve_connection(TokioIo::new(guard), requests).with_upgrades();
            let ended = Drive::new(&mut conn, &mut heads, pulse, alarm, lost).await;
            if let Some(response) = heads.end(&ended)
                && let Some(parts) = conn.into_parts()
            {
                let mut io = parts.io.into_inner();
                let cut = race(drain.cut_off(), until.cut());
                // Boxed, since no connection should be larger for it.
                Box::pin(race(heads.answer(&mut io, &parts.read_buf, response), cut)).await;
            }
            ended
        };
        match ended {
            Ended::Itself(Ok(())) => {}
            Ended::Itself(Err(error)) => {
                tracing::debug!(%peer, error = &error as &dyn Error, "connection failed");
            }
            Ended::Cut => tracing::debug!(%peer, "connection cut"),
            Ended::Stalled => tracing::debug!(%peer, "connection cut: its peer does not read"),
            Ended::HeadLate => tracing::debug!(%peer, "connection closed: the head took too long"),
        }
    }
}

impl<I, S, B> Conn for http1::UpgradeableConnection<TokioIo<Guard<I>>, Requests<S>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + 'static,
    B::Error: Into<BoxError> + 'static,
{
    fn close(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<I, S, B> Conn for Pin<Box<http2::Connection<TokioIo<Guard<I>>, Requests<S>, TokioExecutor>>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + 'static,
{
    fn close(&mut self) {
        self.as_mut().graceful_shutdown();
    }
}
