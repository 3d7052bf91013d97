//! What is spoken on the connections of a listener.
use std::time::Duration;

#[cfg(feature = "tls")]
use super::Listen;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;
use crate::transport::Streams;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Spoken {
    #[default]
    Http,
    /// Nothing that we know.
    Tcp,
    /// Either, which is told by the first bytes, that come in this time.
    Detect(Duration),
}

impl Spoken {
    /// Whether there may be connections that do not carry HTTP.
    pub(super) const fn takes_others(self) -> bool {
        !matches!(self, Self::Http)
    }

    /// Whether no connection carries HTTP.
    pub(super) const fn takes_nothing_else(self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// As it is spoken within this.
    #[cfg(feature = "tls")]
    pub(super) fn within(self, tls: ServerTls) -> ServerTls {
        // A client may say nothing, where its server may begin.
        let silence = match self {
            Self::Http => None,
            Self::Tcp => Some(Listen::DETECT),
            Self::Detect(patience) => Some(patience),
        };
        let silence = silence.filter(|_| tls.silence().is_none());
        let tls = silence.into_iter().fold(tls, ServerTls::plain_after);
        if self.takes_nothing_else() { tls.any_protocol() } else { tls }
    }

    /// What is done with those that do not.
    pub(super) fn streams<F>(self, forward: F) -> Streams<F> {
        match self {
            Self::Http => Streams::none(forward),
            Self::Tcp => Streams::all(forward),
            Self::Detect(patience) => Streams::detected(forward).patience(patience),
        }
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use crate::tls::{Credentials, Material, Trust};

    #[test]
    fn who_says_nothing_speaks_plain_text_where_servers_may_begin() {
        let [minute, hour] = [60, 3_600].map(Duration::from_secs);
        let tls = ServerTls::new(&Credentials::new(Material::new(None, Trust::none()))).permissive(true);
        for (spoken, silence) in [
            (Spoken::Http, None),
            (Spoken::Tcp, Some(Listen::DETECT)),
            (Spoken::Detect(minute), Some(minute)),
        ] {
            assert_eq!(spoken.within(tls.clone()).silence(), silence, "{spoken:?}");
            assert_eq!(spoken.within(tls.clone().plain_after(hour)).silence(), Some(hour), "{spoken:?}");
        }
    }
}
