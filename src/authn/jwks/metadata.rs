//! What a provider says of itself: OpenID Connect Discovery 1.0, and RFC 8414.

use http::{Uri, uri::Scheme};
use serde::Deserialize;
use thiserror::Error;

/// The longest URL that is read.
const MAX_URL: usize = 2048;

/// Why a URL cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// It is not `https`, and nothing said that it need not be.
    #[error("expected https: whoever can change what is sent over plain HTTP could let anybody in")]
    Insecure,
    /// It is no absolute URL of a host.
    #[error("expected a URL such as https://id.example")]
    Malformed,
    /// It has a query or a fragment, which an issuer has not (RFC 8414 section 2).
    #[error("an issuer has no query and no fragment")]
    NotAnIssuer,
    /// There is a user in it.
    #[error("a user in a URL is not taken")]
    User,
}

/// Why a provider's metadata cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The document is of another issuer than the one that is configured, which is compared byte by byte.
    #[error("the metadata is of another issuer than the one that is configured")]
    Issuer,
    /// The URL of its keys cannot be asked.
    #[error("the metadata's jwks_uri: {0}")]
    KeysUrl(#[source] InvalidUrl),
    /// It is no JSON object with an `issuer` and a `jwks_uri`.
    #[error("not a provider's metadata: an issuer and a jwks_uri are needed")]
    Malformed,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Whether and how a URL is asked: over TLS, unless told.
pub(super) fn url(text: &str, plain: bool) -> Result<Uri, InvalidUrl> {
    // The parser cuts fragments off in silence.
    if text.len() > MAX_URL || text.contains('#') {
        return Err(InvalidUrl::Malformed);
    }
    let url: Uri = text.parse().map_err(|_| InvalidUrl::Malformed)?;
    let authority = url.authority().ok_or(InvalidUrl::Malformed)?;
    if authority.as_str().contains('@') {
        return Err(InvalidUrl::User);
    }
    if authority.host().is_empty() || authority.port().is_some_and(|port| port.as_str().parse() == Ok(0u16)) {
        return Err(InvalidUrl::Malformed);
    }
    match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(url),
        Some(scheme) if *scheme == Scheme::HTTP && plain => Ok(url),
        Some(scheme) if *scheme == Scheme::HTTP => Err(InvalidUrl::Insecure),
        _ => Err(InvalidUrl::Malformed),
    }
}

/// Where the metadata of `issuer` may be, in the order in which it is asked for: behind the issuer's path (OpenID
/// Connect Discovery 1.0 section 4), then before it (RFC 8414 section 3.1).
pub(super) fn places(issuer: &str, plain: bool) -> Result<[Uri; 2], InvalidUrl> {
    if issuer.contains(['?', '#']) {
        return Err(InvalidUrl::NotAnIssuer);
    }
    let url = url(issuer, plain)?;
    let path = url.path().strip_suffix('/').unwrap_or(url.path());
    let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
        return Err(InvalidUrl::Malformed);
    };
    let openid = format!("{scheme}://{authority}{path}/.well-known/openid-configuration");
    let oauth = format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}");
    let parse = |text: String| text.parse::<Uri>().map_err(|_| InvalidUrl::Malformed);
    Ok([parse(openid)?, parse(oauth)?])
}

/// Where the keys are, if the document is of `issuer`.
pub(super) fn keys_url(document: &[u8], issuer: &str, plain: bool) -> Result<Uri, MetadataError> {
    // A list of two strings would do for the parser, too.
    if document.trim_ascii_start().first() != Some(&b'{') {
        return Err(MetadataError::Malformed);
    }
    let metadata: Metadata = serde_json::from_slice(document).map_err(|_| MetadataError::Malformed)?;
    if metadata.issuer != issuer {
        return Err(MetadataError::Issuer);
    }
    url(&metadata.jwks_uri, plain).map_err(MetadataError::KeysUrl)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://id.example";

    fn found(issuer: &str) -> Result<[String; 2], InvalidUrl> {
        places(issuer, false).map(|places| places.map(|url| url.to_string()))
    }

    #[test]
    fn the_path_goes_before_and_behind() {
        for (issuer, openid, oauth) in [
            (
                "https://id.example",
                "https://id.example/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example/",
                "https://id.example/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example:8443/realms/shop",
                "https://id.example:8443/realms/shop/.well-known/openid-configuration",
                "https://id.example:8443/.well-known/oauth-authorization-server/realms/shop",
            ),
            (
                "https://id.example/realms/shop/",
                "https://id.example/realms/shop/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server/realms/shop",
            ),
            (
                "https://[2001:db8::1]/a",
                "https://[2001:db8::1]/a/.well-known/openid-configuration",
                "https://[2001:db8::1]/.well-known/oauth-authorization-server/a",
            ),
        ] {
            assert_eq!(found(issuer).unwrap(), [openid, oauth], "{issuer}");
        }
    }

    #[test]
    fn only_urls_that_can_be_trusted_are_asked() {
        for (issuer, error) in [
            ("http://id.example", InvalidUrl::Insecure),
            ("https://id.example?a=b", InvalidUrl::NotAnIssuer),
            ("https://id.example#a", InvalidUrl::NotAnIssuer),
            ("https://user@id.example", InvalidUrl::User),
            ("https://id.example@evil.example", InvalidUrl::User),
            ("ftp://id.example", InvalidUrl::Malformed),
            ("file:///etc/passwd", InvalidUrl::Malformed),
            ("id.example", InvalidUrl::Malformed),
            ("/realms/shop", InvalidUrl::Malformed),
            ("https://", InvalidUrl::Malformed),
            ("https://:443", InvalidUrl::Malformed),
            ("https://id.example:0", InvalidUrl::Malformed),
            ("https://id.example/a b", InvalidUrl::Malformed),
            ("", InvalidUrl::Malformed),
        ] {
            assert_eq!(found(issuer), Err(error), "{issuer}");
        }
        assert!(url(&format!("https://id.example/{}", "a".repeat(MAX_URL)), false).is_err());
        assert!(places("http://127.0.0.1:9000", true).is_ok());
        assert_eq!(places("ftp://id.example", true), Err(InvalidUrl::Malformed));
        assert!(url("https://id.example/keys?v=2", false).is_ok());
    }

    #[test]
    fn the_issuer_is_compared_byte_by_byte() {
        let read = |document: &str| keys_url(document.as_bytes(), ISSUER, false).map(|url| url.to_string());
        let of =
            |issuer: &str| read(&format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://keys.example/k"}}"#));
        // The keys may be on another origin: who told is the issuer.
        assert_eq!(of(ISSUER).unwrap(), "https://keys.example/k");
        for other in
            ["https://id.example/", "https://ID.example", "https://id.example:443", "http://id.example", ""]
        {
            assert_eq!(of(other), Err(MetadataError::Issuer), "{other}");
        }
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        let read = |document: &str| keys_url(document.as_bytes(), ISSUER, false);
        for document in [
            "",
            "null",
            "[]",
            r#"["https://id.example","https://id.example/keys"]"#,
            "<html>",
            "{}",
            r#"{"issuer":"https://id.example"}"#,
            r#"{"jwks_uri":"https://id.example/keys"}"#,
            r#"{"issuer":["https://id.example"],"jwks_uri":"https://id.example/keys"}"#,
            r#"{"issuer":"https://id.example","jwks_uri":null}"#,
            // Said twice, two readers could see two issuers.
            r#"{"issuer":"https://id.example","issuer":"https://id.example","jwks_uri":"https://id.example/k"}"#,
            r#"{"issuer":"https://id.example","jwks_uri":"https://id.example/keys"} trailing"#,
        ] {
            assert_eq!(read(document), Err(MetadataError::Malformed), "{document}");
        }
        let keys = |url: &str| read(&format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{url}"}}"#)).unwrap_err();
        assert_eq!(keys("http://id.example/keys"), MetadataError::KeysUrl(InvalidUrl::Insecure));
        assert_eq!(keys("https://a@id.example/keys"), MetadataError::KeysUrl(InvalidUrl::User));
        for url in ["", "/keys", "file:///keys", "https://id.example/keys#1"] {
            assert_eq!(keys(url), MetadataError::KeysUrl(InvalidUrl::Malformed), "{url}");
        }
    }
}
