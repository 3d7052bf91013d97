//! To whom a token is bound (RFC 7800).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use subtle::ConstantTimeEq as _;

use super::{
    TokenError,
    json::{Seen, Skipped, Text},
    token,
};
use crate::{head::Head, identity::PeerIdentity};

/// What is known of whoever sends a token. Another proof of possession (DPoP, a signed message) is another field here
/// and another [`Binding`].
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::authn) struct Sender<'r> {
    pub(in crate::authn) certificate: Option<&'r PeerIdentity>,
}

impl<'r> Sender<'r> {
    pub(in crate::authn) fn of(head: &'r Head<'_>) -> Self {
        Self { certificate: head.extensions().get() }
    }
}

/// Who may use a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authn) enum Binding {
    /// Whoever bears it.
    Bearer,
    /// Whoever has the key of the certificate with this fingerprint (RFC 8705 section 3.1).
    Certificate([u8; 32]),
    /// Whoever proves something that is not known here.
    Unknown,
}

/// Which bindings are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::authn) enum Bound {
    /// Those that are proven, and none.
    #[default]
    Proven,
    /// A certificate and nothing else.
    Required,
    /// Those that are proven, and those that cannot be.
    UnknownToo,
}

impl Binding {
    pub(in crate::authn) fn hold(self, bound: Bound, sender: Sender<'_>) -> Result<(), TokenError> {
        match self {
            Self::Bearer if bound == Bound::Required => Err(TokenError::Unbound),
            Self::Bearer => Ok(()),
            Self::Certificate(print) => {
                let same = sender.certificate.is_some_and(|peer| peer.sha256().ct_eq(&print).into());
                if same { Ok(()) } else { Err(TokenError::Binding) }
            }
            Self::Unknown if bound == Bound::UnknownToo => Ok(()),
            Self::Unknown => Err(TokenError::Binding),
        }
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Confirmation)
    }
}

/// Reads `cnf`.
struct Confirmation;

impl<'de> Visitor<'de> for Confirmation {
    type Value = Binding;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Binding, A::Error> {
        let (mut seen, mut print, mut unknown) = (Seen::default(), None, false);
        while let Some(Text(name)) = map.next_key()? {
            seen.insert(&name)?;
            if name == "x5t#S256" {
                print = Some(
                    fingerprint(&map.next_value::<Text<'_>>()?.0)
                        .ok_or_else(|| A::Error::custom("not a fingerprint in base64url"))?,
                );
            } else {
                map.next_value::<Skipped>()?;
                unknown = true;
            }
        }
        // Who asks for two proofs gets both or nothing, and who confirms nothing has meant something.
        Ok(match print {
            Some(print) if !unknown => Binding::Certificate(print),
            _ => Binding::Unknown,
        })
    }
}

fn fingerprint(text: &str) -> Option<[u8; 32]> {
    // As much as the text may take, which is more than is kept.
    let mut bytes = [0; 33];
    let length = token::decode(text, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}
