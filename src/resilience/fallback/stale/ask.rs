use std::sync::Arc;

use http::{Method, Response, StatusCode, header, uri::Scheme};
use tokio::time::Instant;

use super::{Recorder, Stale, moments::Place, rules::replaces};
use crate::{
    freshness::{age, says},
    head::Head,
    identity::PeerIdentity,
    key::Spelled,
};

/// What a request asks of the store.
pub(in crate::resilience::fallback) enum Ask {
    /// What is to be read.
    Read(Read),
    /// It changes what is at this place.
    Change(Place),
}

/// What a request reads.
pub(in crate::resilience::fallback) struct Read {
    /// What is asked for, and by whom: these bytes, and no hash of them.
    pub(super) key: Arc<[u8]>,
    pub(super) place: Place,
    pub(super) asked: Instant,
    /// Whether it may be given what is kept.
    pub(super) gives: bool,
    keeps: bool,
}

impl Stale {
    /// What this request asks of it. `None`: it is left alone.
    pub(in crate::resilience::fallback) fn ask(&self, head: &mut Head<'_>, has_body: bool) -> Option<Ask> {
        let (asked, place) = (head.now(), self.store.place(head.uri().path()));
        if !head.method().is_safe() {
            return Some(Ask::Change(place));
        }
        let (method, headers) = (head.method(), head.headers());
        let is_get = *method == Method::GET;
        let is_bare = !has_body && !headers.contains_key(header::UPGRADE) && !head.protocol().is_grpc();
        if !is_bare || !is_get && *method != Method::HEAD || says(headers, "no-store") {
            return None;
        }
        let conditional =
            [header::IF_MATCH, header::IF_UNMODIFIED_SINCE].iter().any(|name| headers.contains_key(name));
        let gives = !conditional && !says(headers, "no-cache");
        Some(Ask::Read(Read { key: self.spelled(head)?, place, asked, gives, keeps: is_get }))
    }

    /// A request that was not safe was answered with this: what is there has changed, unless it failed (RFC 9111 section 4.4).
    pub(in crate::resilience::fallback) fn note(&self, place: Place, status: StatusCode) {
        if status.is_success() || status.is_redirection() {
            self.store.change(place);
        }
    }

    /// Who asks, and for what. `None`: a part of the key is missing, and whose it is cannot be told.
    fn spelled(&self, head: &Head<'_>) -> Option<Arc<[u8]>> {
        let mut key = Spelled::default();
        if self.by.as_ref().is_some_and(|by| !key.key(by, head)) {
            return None;
        }
        for part in &*self.varies {
            key.key(part, head); // what it lacks tells it apart, too
        }
        let (uri, headers, extensions) = (head.uri(), head.headers(), head.extensions());
        let peer = extensions.get().map(|peer: &PeerIdentity| (peer.spiffe_id(), peer.sha256()));
        key.text(peer.map_or(&[], |(id, digest)| id.map_or(digest, str::as_bytes)));
        key.text(extensions.get::<Scheme>().map_or("", Scheme::as_str).as_bytes());
        let host = uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = host.or_else(|| headers.get(header::HOST).map(|host| host.as_bytes()));
        key.text(host.unwrap_or_default());
        key.text(uri.path_and_query().map_or("", |path| path.as_str()).as_bytes());
        Some(key.into_bytes().into())
    }

    /// Learns from a response that is no failure. Its body is to be recorded if that is said.
    pub(in crate::resilience::fallback) fn learn<B>(
        &self,
        ask: Ask,
        response: &Response<B>,
    ) -> Option<Recorder> {
        let (status, headers) = (response.status(), response.headers());
        let read = match ask {
            Ask::Change(place) => {
                self.note(place, status);
                return None;
            }
            Ask::Read(read) if read.keeps || !status.is_success() => read,
            Ask::Read(_) => return None,
        };
        let left = self.lasts(status, headers).map(|lasts| lasts.saturating_sub(age(headers)));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Recorder::begin(self, read, headers, left),
            None => {
                if replaces(status) {
                    self.store.forget(&read.key);
                }
                None
            }
        }
    }
}
