use std::{fmt, sync::Arc, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::{
    SigningKey,
    form::{Form, encode},
};
use crate::time::WallClock;

/// How long what a client says of itself can be used: one call, and clocks that differ.
const ASSERTION: Duration = Duration::from_secs(60);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// As whom we come to a provider's endpoint, and how we prove it (RFC 6749 section 2.3). A clone is a pointer.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    id: Box<str>,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    Basic(Option<HeaderValue>),
    Nothing,
    Post(Box<str>),
    Signed { key: SigningKey, audience: Option<Box<str>> },
}

/// The client could not prove who it is: the system gives no random numbers, or the library does not sign.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unproven;

impl Client {
    /// Shows the secret in `Authorization: Basic`, each half encoded as in a form (RFC 6749 section 2.3.1).
    #[must_use]
    pub fn secret_basic(id: &str, secret: &str) -> Self {
        let mut pair = String::new();
        encode(id, &mut pair);
        pair.push(':');
        encode(secret, &mut pair);
        let line = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).ok();
        let line = line.map(|mut line| {
            line.set_sensitive(true);
            line
        });
        Self::of(id, Proof::Basic(line))
    }

    /// Shows the secret in the body, for providers that know no other way.
    #[must_use]
    pub fn secret_post(id: &str, secret: &str) -> Self {
        Self::of(id, Proof::Post(secret.into()))
    }

    /// Signs who it is, to whom it speaks and for how long, anew for each call: a token of RFC 7523 section 2.2, of one
    /// minute.
    #[must_use]
    pub fn private_key_jwt(id: &str, key: SigningKey) -> Self {
        Self::of(id, Proof::Signed { key, audience: None })
    }

    /// Has a name and proves nothing, as a public client.
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self::of(id, Proof::Nothing)
    }

    /// Signs for this audience: the URL of the token endpoint, or the issuer. Unless told it is the endpoint that is
    /// asked. It says nothing where nothing is signed.
    #[must_use]
    pub fn audience(mut self, audience: &str) -> Self {
        if let Proof::Signed { audience: told, .. } = &mut Arc::make_mut(&mut self.0).proof {
            *told = Some(audience.into());
        }
        self
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    fn of(id: &str, proof: Proof) -> Self {
        Self(Arc::new(Inner { id: id.into(), proof }))
    }

    /// Adds the proof to a request for `endpoint`.
    pub(super) fn prove(
        &self,
        endpoint: &str,
        clock: &WallClock,
        headers: &mut HeaderMap,
        form: &mut Form,
    ) -> Result<(), Unproven> {
        match &self.0.proof {
            Proof::Basic(line) => {
                headers.insert(header::AUTHORIZATION, line.clone().ok_or(Unproven)?);
            }
            Proof::Nothing => form.add("client_id", &self.0.id),
            Proof::Post(secret) => {
                form.add("client_id", &self.0.id);
                form.add("client_secret", secret);
            }
            Proof::Signed { key, audience } => {
                let audience = audience.as_deref().unwrap_or(endpoint);
                form.add("client_assertion_type", ASSERTION_TYPE);
                form.add("client_assertion", &self.assertion(key, audience, clock)?);
            }
        }
        Ok(())
    }

    fn assertion(&self, key: &SigningKey, audience: &str, clock: &WallClock) -> Result<String, Unproven> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| Unproven)?;
        let now = clock.unix_seconds();
        let mut header = json!({ "alg": key.algorithm().name(), "typ": "JWT" });
        if let Some(kid) = key.id() {
            header["kid"] = Value::from(kid);
        }
        let claims = json!({
            "iss": *self.0.id, "sub": *self.0.id, "aud": audience,
            "jti": URL_SAFE_NO_PAD.encode(id), "iat": now, "exp": now + ASSERTION.as_secs(),
        });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = key.sign(signed.as_bytes()).ok_or(Unproven)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = match self.0.proof {
            Proof::Basic(_) => "client_secret_basic",
            Proof::Nothing => "none",
            Proof::Post(_) => "client_secret_post",
            Proof::Signed { .. } => "private_key_jwt",
        };
        f.debug_struct("Client").field("id", &self.0.id).field("proof", &proof).finish()
    }
}
