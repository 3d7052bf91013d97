use super::Claims;
use crate::{
    extract::{Told, extract},
    reject::{Reason, Rejection},
};

impl Told for Claims {
    fn missing() -> Rejection {
        Rejection::new(Reason::MissingCredentials)
    }
}

extract! {
    /// The claims of the token that the [`Jwt`](super::Jwt) gate verified. Fails with 401 if the handler is not
    /// behind that gate, or another provider let the caller in; `Option` asks without failing.
    Claims;
}
