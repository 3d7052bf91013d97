//! Providers whose knowledge outlives a reload.
use crate::{
    authn::{introspection::Introspection, jwt::Jwt, outbound::TokenSource},
    config::{
        kept::{Made, Said},
        schema::{self, UpstreamCredentials},
    },
};

/// What was remembered under the same words, with the same secrets.
#[derive(Debug, Default)]
pub(in crate::config) struct Remembered {
    /// With the tokens that were verified.
    pub(super) tokens: Made<Said<schema::Jwt>, Jwt>,
    /// With what their providers have said.
    pub(super) introspections: Made<Said<schema::Introspection>, Introspection>,
    /// With the tokens that we were given.
    pub(super) sources: Made<Said<UpstreamCredentials>, TokenSource>,
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::config::{kept::Kept, load::Config};

    const KEY: [u8; 32] = [7; 32];

    fn file(key: &[u8], provider: &str, rest: &str) -> String {
        let key = URL_SAFE_NO_PAD.encode(key);
        format!(
            "apiVersion: portcullis/v1alpha1\nlisteners: [{{ name: public, address: 127.0.0.1:0 }}]\n\
             authentication: {{ users: {{ jwt: {{ issuer: 'https://id.example', audiences: [shop], algorithms: [HS256], \
             jwks: {{ inline: '{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{key}\"}}]}}' }} {provider} }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['127.0.0.1:1'] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{ authenticate: [users] }} {rest} }}] }}]\n"
        )
    }

    fn read(text: &str, before: &Kept) -> Kept {
        let reading = Config::text("test", text).read(before);
        assert_eq!(reading.faults.to_string(), "");
        reading.compiled.unwrap().kept
    }

    fn users(kept: &Kept) -> &Jwt {
        &kept.remembered.tokens.all()["users"].1
    }

    #[test]
    fn tokens_are_remembered_while_the_same_is_said_of_their_provider() {
        let claims = r#"{"iss":"https://id.example","aud":"shop","exp":32503680000}"#;
        let signed = [r#"{"alg":"HS256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));

        let first = read(&file(&KEY, "", ""), &Kept::default());
        users(&first).verify(&token).unwrap();
        let second = read(&file(&KEY, "", ", timeouts: { request: 9s }"), &first);
        assert_eq!(users(&second).remembered(), 1);
        users(&second).verify(&token).unwrap();

        let stricter = read(&file(&KEY, ", requiredClaims: [jti]", ""), &second);
        assert_eq!(users(&stricter).remembered(), 0);
        users(&stricter).verify(&token).unwrap_err();
        let other_key = read(&file(&[8; 32], "", ""), &second);
        assert_eq!(users(&other_key).remembered(), 0);
        users(&other_key).verify(&token).unwrap_err();
    }
}
