//! The `CORS` filter.

use std::{fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
    response,
};

use super::origin::{Origin, OriginPattern};
use crate::{
    gate::{Gate, GateLayer, Pass},
    head::Head,
    matching::preflight_method,
    reject::Answer,
};

/// A text is no origin to allow: `scheme://host` or `scheme://host:port`, where `*` or `*.` may stand in front
/// of the host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: it must be scheme://host or scheme://host:port, and a wildcard its first label")]
pub struct InvalidCors(Box<str>);

/// Who may read the answers to requests from other origins (the Fetch standard's CORS protocol).
///
/// A preflight is answered here: 204, and with CORS headers only if its origin is allowed. Other requests pass,
/// whatever their origin, as the protocol wants; their responses have CORS headers only if it is allowed, and
/// those of the upstream are removed, so that this table is the only one. `Vary: Origin` is added wherever
/// another origin would get another answer.
#[derive(Clone, Debug)]
pub struct Cors(Arc<Table>);

#[derive(Clone, Debug)]
struct Table {
    origins: Allowed<OriginPattern>,
    credentials: bool,
    methods: Allowed<Method>,
    headers: Allowed<HeaderName>,
    expose: Allowed<HeaderName>,
    max_age: Duration,
}

#[derive(Clone, Debug)]
enum Allowed<T> {
    Any,
    Only(Vec<T>),
}

impl<T> Allowed<T> {
    const NONE: Self = Self::Only(Vec::new());

    fn push(&mut self, one: T) {
        if let Self::Only(list) = self {
            list.push(one);
        }
    }
}

impl Cors {
    /// No origin is allowed; a preflight may be remembered for 5 seconds.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Table {
            origins: Allowed::NONE,
            credentials: false,
            methods: Allowed::NONE,
            headers: Allowed::NONE,
            expose: Allowed::NONE,
            max_age: Duration::from_secs(5),
        }))
    }

    /// Allows an origin: `https://shop.example`, `https://*.shop.example:8443` for all below it, `https://*` for
    /// every host, `*` for every origin.
    ///
    /// Together with credentials `*` allows every site to act as its visitor.
    ///
    /// # Errors
    ///
    /// If `origin` is none.
    pub fn allow_origin(mut self, origin: &str) -> Result<Self, InvalidCors> {
        if origin == "*" {
            self.table().origins = Allowed::Any;
        } else {
            let pattern = OriginPattern::parse(origin).ok_or_else(|| InvalidCors(origin.into()))?;
            self.table().origins.push(pattern);
        }
        Ok(self)
    }

    /// Allows cookies and other credentials.
    #[must_use]
    pub fn allow_credentials(mut self) -> Self {
        self.table().credentials = true;
        self
    }

    /// Allows a method beside GET, HEAD and POST, which always are.
    #[must_use]
    pub fn allow_method(mut self, method: Method) -> Self {
        self.table().methods.push(method);
        self
    }

    /// Allows every method.
    #[must_use]
    pub fn allow_any_method(mut self) -> Self {
        self.table().methods = Allowed::Any;
        self
    }

    /// Allows a request header beside those that always are.
    #[must_use]
    pub fn allow_header(mut self, name: HeaderName) -> Self {
        self.table().headers.push(name);
        self
    }

    /// Allows every request header; without credentials, all but `Authorization`.
    #[must_use]
    pub fn allow_any_header(mut self) -> Self {
        self.table().headers = Allowed::Any;
        self
    }

    /// Lets a response header be read, beside those that always can be.
    #[must_use]
    pub fn expose_header(mut self, name: HeaderName) -> Self {
        self.table().expose.push(name);
        self
    }

    /// Lets every response header be read.
    #[must_use]
    pub fn expose_any_header(mut self) -> Self {
        self.table().expose = Allowed::Any;
        self
    }

    /// How long a preflight's answer may be remembered, in whole seconds.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.table().max_age = max_age;
        self
    }

    /// The layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    fn table(&mut self) -> &mut Table {
        Arc::make_mut(&mut self.0)
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate for Cors {
    type Pass = CorsPass;

    fn check(&self, head: &mut Head<'_>) -> Result<CorsPass, Answer> {
        let origin = self.0.allowed_origin(head.headers());
        if preflight_method(head.method(), head.headers()).is_some() {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            self.0.answer_preflight(origin, head.headers(), response.headers_mut());
            return Err(response.into());
        }
        Ok(CorsPass { table: Arc::clone(&self.0), origin })
    }
}

/// Waits for the response that is to be marked.
#[derive(Debug)]
pub struct CorsPass {
    table: Arc<Table>,
    origin: Option<HeaderValue>,
}

impl Pass for CorsPass {
    fn on_head(&mut self, head: &mut response::Parts) {
        for name in [
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS,
            ACCESS_CONTROL_MAX_AGE,
        ] {
            head.headers.remove(name);
        }
        let Some(origin) = self.origin.take() else { return self.table.vary(&mut head.headers, &[ORIGIN]) };
        // Before the others are added: they need not be exposed.
        let expose = self.table.expose(&head.headers);
        self.table.share(origin, &mut head.headers);
        if let Some(expose) = expose {
            head.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }
}

impl Table {
    /// What `Access-Control-Allow-Origin` is to say.
    fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut lines = headers.get_all(ORIGIN).iter();
        let (Some(value), None) = (lines.next(), lines.next()) else { return None };
        match &self.origins {
            Allowed::Any if !self.credentials => Some(HeaderValue::from_static("*")),
            // `null` is every sandboxed frame and local file: never with credentials.
            Allowed::Any => Origin::parse(value).map(|_| value.clone()),
            Allowed::Only(patterns) => {
                let origin = Origin::parse(value)?;
                patterns.iter().any(|pattern| pattern.matches(&origin)).then(|| value.clone())
            }
        }
    }

    fn answer_preflight(&self, origin: Option<HeaderValue>, asked: &HeaderMap, headers: &mut HeaderMap) {
        self.vary(headers, &[ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS]);
        let Some(origin) = origin else { return self.vary(headers, &[ORIGIN]) };
        self.share(origin, headers);
        let methods = self.list(&self.methods, asked.get(ACCESS_CONTROL_REQUEST_METHOD));
        let names = self.list(&self.headers, asked.get(ACCESS_CONTROL_REQUEST_HEADERS));
        // Browsers ask the response about these; the Gateway API wants them here, too.
        let expose = self.list(&self.expose, None);
        for (name, list) in [
            (ACCESS_CONTROL_ALLOW_METHODS, methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, names),
            (ACCESS_CONTROL_EXPOSE_HEADERS, expose),
        ] {
            if let Some(list) = list {
                headers.insert(name, list);
            }
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.as_secs().into());
    }

    fn share(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        self.vary(headers, &[ORIGIN]);
    }

    /// With credentials `*` is a name like others, so what was asked for is allowed instead.
    fn list<T: Display>(&self, allowed: &Allowed<T>, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        match allowed {
            Allowed::Any if self.credentials => asked.cloned(),
            Allowed::Any => Some(HeaderValue::from_static("*")),
            Allowed::Only(list) => join(list),
        }
    }

    fn expose(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        match &self.expose {
            Allowed::Any if self.credentials => join(&headers.keys().collect::<Vec<_>>()),
            expose => self.list(expose, None),
        }
    }

    fn vary(&self, headers: &mut HeaderMap, names: &[HeaderName]) {
        let is_constant = matches!(self.origins, Allowed::Any) && !self.credentials;
        let known = |name: &HeaderName, headers: &HeaderMap| {
            let lines = headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
            let mut listed = lines.flat_map(|line| line.split(',')).map(str::trim);
            listed.any(|listed| listed == "*" || listed.eq_ignore_ascii_case(name.as_str()))
        };
        for name in names {
            if !is_constant && !known(name, headers) {
                headers.append(VARY, HeaderValue::from(name.clone()));
            }
        }
    }
}

fn join<T: Display>(list: &[T]) -> Option<HeaderValue> {
    let list: Vec<String> = list.iter().map(T::to_string).collect();
    if list.is_empty() { None } else { HeaderValue::try_from(list.join(", ")).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn cors() -> Cors {
        Cors::new().allow_origin("https://*.shop.example").unwrap().allow_origin("https://a.example").unwrap()
    }

    fn preflight(cors: &Cors, origin: &'static str, names: &'static str) -> HeaderMap {
        let request = Request::options("/")
            .header(ORIGIN, origin)
            .header(ACCESS_CONTROL_REQUEST_METHOD, "PUT")
            .header(ACCESS_CONTROL_REQUEST_HEADERS, names);
        match cors.check(&mut Head::of(&mut request.body(()).unwrap())).unwrap_err() {
            Answer::Respond(response) => {
                assert_eq!((response.status().as_u16(), response.body().len()), (204, 0));
                response.headers().clone()
            }
            Answer::Refuse(rejection) => panic!("{rejection}"),
        }
    }

    fn response(
        cors: &Cors,
        origin: Option<&'static str>,
        of_upstream: &[(HeaderName, &'static str)],
    ) -> HeaderMap {
        let mut request = Request::get("/");
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        let mut pass = cors.check(&mut Head::of(&mut request.body(()).unwrap())).unwrap();
        let (mut parts, ()) = Response::new(()).into_parts();
        for (name, value) in of_upstream {
            parts.headers.append(name, HeaderValue::from_static(value));
        }
        pass.on_head(&mut parts);
        parts.headers
    }

    fn text(headers: &HeaderMap, name: &HeaderName) -> String {
        let lines: Vec<&str> = headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
        lines.join(", ")
    }

    #[test]
    fn an_allowed_preflight_is_told_what_is_allowed() {
        let cors = cors()
            .allow_method(Method::PUT)
            .allow_method(Method::DELETE)
            .allow_header(HeaderName::from_static("x-a"))
            .expose_header(HeaderName::from_static("x-c"))
            .allow_credentials()
            .max_age(Duration::from_secs(600));
        let headers = preflight(&cors, "https://b.shop.example", "x-a, x-b");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://b.shop.example");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT, DELETE");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "x-a");
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "x-c");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "600");
        let vary = text(&headers, &VARY);
        assert_eq!(vary, "access-control-request-method, access-control-request-headers, origin");
    }

    #[test]
    fn another_origin_is_told_nothing() {
        for origin in ["https://evil.example", "https://shop.example", "http://b.shop.example", "null"] {
            let headers = preflight(&cors().allow_any_method(), origin, "");
            assert!(headers.keys().all(|name| name == VARY), "{origin} {headers:?}");
            let headers = response(&cors(), Some(origin), &[(ACCESS_CONTROL_ALLOW_ORIGIN, "*")]);
            assert!(headers.keys().all(|name| name == VARY), "{origin} {headers:?}");
        }
    }

    #[test]
    fn wildcards_stand_as_they_are_only_without_credentials() {
        let open =
            Cors::new().allow_origin("*").unwrap().allow_any_method().allow_any_header().expose_any_header();
        let headers = preflight(&open, "https://x.example", "x-a, x-b");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "*");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "*");
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "*");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "5");
        assert!(!headers.contains_key(VARY) && !headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert_eq!(response(&open, Some("null"), &[])[ACCESS_CONTROL_EXPOSE_HEADERS], "*");

        let open = open.allow_credentials();
        let headers = preflight(&open, "https://x.example", "x-a, x-b");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://x.example");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "x-a, x-b");
        assert!(!headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
        let headers = response(&open, Some("https://x.example"), &[(HeaderName::from_static("x-c"), "1")]);
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "x-c");
        assert!(!preflight(&open, "null", "").contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn responses_are_marked_and_those_of_the_upstream_are_not_believed() {
        let cors = cors()
            .expose_header(HeaderName::from_static("x-a"))
            .expose_header(HeaderName::from_static("x-b"));
        let of_upstream = [
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "x-secret"),
            (VARY, "accept, Origin"),
        ];
        let headers = response(&cors, Some("https://a.example"), &of_upstream);
        assert_eq!(text(&headers, &ACCESS_CONTROL_ALLOW_ORIGIN), "https://a.example");
        assert_eq!(text(&headers, &ACCESS_CONTROL_EXPOSE_HEADERS), "x-a, x-b");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert_eq!(text(&headers, &VARY), "accept, Origin");
        assert_eq!(text(&response(&cors, None, &[]), &VARY), "origin");
    }

    #[test]
    fn two_origins_are_none() {
        let mut request =
            Request::get("/").header(ORIGIN, "https://a.example").header(ORIGIN, "https://a.example");
        request = request.header("x", "y");
        let pass = cors().check(&mut Head::of(&mut request.body(()).unwrap())).unwrap();
        assert_eq!(pass.origin, None);
    }

    #[test]
    fn origins_that_are_none_are_refused() {
        for origin in ["", "a.example", "https://*a.example", "https://a.example/"] {
            assert_eq!(Cors::new().allow_origin(origin).unwrap_err(), InvalidCors(origin.into()));
        }
    }
}
