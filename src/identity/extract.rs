use http::{Extensions, HeaderValue};

use super::{ClientAddr, PeerAddr, PeerIdentity, Principal};
use crate::{
    extract::{Told, extract},
    reject::{Reason, Rejection},
};

impl Told for ClientAddr {
    fn missing() -> Rejection {
        Rejection::new(Reason::Internal)
            .detail("no client address: no connection layer stands outside this handler")
    }
}

impl Told for PeerAddr {
    fn missing() -> Rejection {
        Rejection::new(Reason::Internal)
            .detail("no peer address: no connection layer stands outside this handler")
    }
}

impl Told for PeerIdentity {
    fn missing() -> Rejection {
        Rejection::new(Reason::MissingCredentials).detail("the peer presented no certificate")
    }
}

impl Told for Principal {
    fn missing() -> Rejection {
        Rejection::new(Reason::MissingCredentials)
            .detail("nobody was authenticated")
            .challenge(HeaderValue::from_static("Bearer"))
    }

    fn find(extensions: &Extensions) -> Option<Self> {
        // A handler that asks for a principal asks for somebody.
        extensions.get().filter(|principal: &&Self| !principal.is_anonymous()).cloned()
    }
}

extract! {
    /// Fails with 500 if no connection layer stands outside; `Option` asks without failing.
    ClientAddr;
    /// Fails with 500 if no connection layer stands outside; `Option` asks without failing.
    PeerAddr;
    /// Fails with 401 if the peer presented no certificate; `Option` asks without failing.
    PeerIdentity;
    /// Fails with 401 and a `Bearer` challenge if nobody was authenticated; `Option` asks without failing.
    Principal;
}
