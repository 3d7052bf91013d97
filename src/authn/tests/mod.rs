//! Several providers together, and where credentials stand.

mod locations;

use http::{HeaderName, HeaderValue, Request, header};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use super::{
    api_key::{self, ApiKey, KeyTable, Minted},
    credential::{self, Fault},
    *,
};
use crate::{
    body::Body,
    gate::{AsyncGate as _, Check, Stopped},
    head::Head,
    identity::Principal,
    reject::{Answer, Protocol, Reason, Rejection},
};

/// Believes `x-office: yes`, and sets `x-desk`.
struct Office {
    locations: [Location; 1],
    asserted: [HeaderName; 1],
    forwards: bool,
    broken: Option<Reason>,
}

impl Office {
    fn new() -> Self {
        Self {
            locations: [Location::header(HeaderName::from_static("x-office"))],
            asserted: [HeaderName::from_static("x-desk")],
            forwards: false,
            broken: None,
        }
    }
}

impl Authenticator for Office {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        match head.headers().get("x-office").map(HeaderValue::as_bytes) {
            None => Credential::Absent,
            Some(_) if self.broken.is_some() => {
                Credential::Invalid(self.broken.map_or(Rejection::new(Reason::Internal), Rejection::new))
            }
            Some(b"yes") => {
                head.headers_mut().insert("x-desk", HeaderValue::from_static("12"));
                Credential::Valid(Principal::new("office", "", "clerk"))
            }
            Some(_) => Credential::Invalid(
                Rejection::new(Reason::InvalidCredentials)
                    .detail("not of this office")
                    .challenge(HeaderValue::from_static("Office wrong=yes")),
            ),
        }
    }
    fn locations(&self) -> &[Location] {
        &self.locations
    }
    fn forwards(&self) -> bool {
        self.forwards
    }
    fn asserted_headers(&self) -> &[HeaderName] {
        &self.asserted
    }
    fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("Office"))
    }
}

fn keys() -> (Minted, ApiKey) {
    let minted = api_key::mint("shop", "acme").unwrap();
    let table = KeyTable::new("partners", [minted.entry().clone()]).unwrap();
    (minted, ApiKey::new(table))
}

fn check(gate: &Providers, headers: &[(&str, &str)]) -> Result<Request<()>, Rejection> {
    let request =
        headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
    let mut request = request.body(()).unwrap();
    match gate.check(&mut Head::of(&mut request)) {
        Check::Now(Ok(())) => Ok(request),
        Check::Now(Err(Stopped { answer: Answer::Refuse(rejection), .. })) => Err(rejection),
        other => panic!("{other:?}"),
    }
}

fn principal(request: &Request<()>) -> &Principal {
    request.extensions().get().unwrap()
}

fn challenges(rejection: &Rejection) -> Vec<&str> {
    rejection.headers().get_all(header::WWW_AUTHENTICATE).iter().map(|v| v.to_str().unwrap()).collect()
}

#[test]
fn the_first_valid_credential_wins_and_all_are_taken_out() {
    let (minted, api_key) = keys();
    let gate = Providers::new().with(Office::new()).with(api_key);
    let key = ("x-api-key", minted.reveal());
    for (headers, provider) in [
        (&[key][..], "partners"),
        (&[("x-office", "yes")], "office"),
        (&[key, ("x-office", "yes")], "office"),
        // One bad credential does not spoil a good one of another kind.
        (&[key, ("x-office", "no")], "partners"),
        (&[("x-api-key", "junk"), ("x-office", "yes")], "office"),
    ] {
        let request = check(&gate, headers).unwrap();
        assert_eq!(principal(&request).provider(), provider, "{headers:?}");
        let left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, if provider == "office" { &["x-desk"][..] } else { &[] }, "{headers:?}");
    }
}

#[test]
fn whatever_a_provider_asserts_nobody_else_can() {
    let (minted, api_key) = keys();
    let gate = Providers::new().with(Office::new()).with(api_key).optional();
    assert_eq!(gate.asserted_headers().collect::<Vec<_>>(), ["x-desk"]);
    for credential in [("x-api-key", minted.reveal()), ("other", "x")] {
        let request = check(&gate, &[credential, ("x-desk", "1"), ("X_Desk", "1"), ("x-desk", "2")]).unwrap();
        assert!(request.headers().keys().all(|name| name == "other"), "{:?}", request.headers());
    }
    let request = check(&gate, &[("x-office", "yes"), ("x-desk", "1"), ("x_desk", "1")]).unwrap();
    assert_eq!(request.headers().get_all("x-desk").iter().collect::<Vec<_>>(), ["12"]);
    assert_eq!(request.headers().len(), 1);
}

#[test]
fn nothing_presented_is_401_or_anonymous() {
    let (_, api_key) = keys();
    let gate = Providers::new().with(Office::new()).with(api_key);
    let refused = check(&gate, &[]).unwrap_err();
    assert_eq!(refused.reason(), Reason::MissingCredentials);
    assert_eq!(challenges(&refused), ["Office", r#"ApiKey realm="api""#]);
    let http = refused.clone().into_response(Protocol::Http);
    assert_eq!(
        (http.status().as_u16(), http.headers().get_all(header::WWW_AUTHENTICATE).iter().count()),
        (401, 2)
    );
    assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "16");

    let request = check(&gate.optional(), &[]).unwrap();
    assert!(principal(&request).is_anonymous());

    // Two providers with one challenge are one challenge.
    let twins = Providers::new().with(Office::new()).with(Office::new());
    assert_eq!(challenges(&check(&twins, &[]).unwrap_err()), ["Office"]);
    assert_eq!(challenges(&check(&twins, &[("x-office", "no")]).unwrap_err()), ["Office wrong=yes"]);
}

#[test]
fn bad_credentials_are_401_also_where_they_are_optional() {
    let (_, api_key) = keys();
    for gate in [
        Providers::new().with(Office::new()).with(api_key.clone()),
        Providers::new().with(Office::new()).with(api_key).optional(),
    ] {
        let refused = check(&gate, &[("x-office", "no")]).unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidCredentials);
        assert_eq!(challenges(&refused), ["Office wrong=yes", r#"ApiKey realm="api""#]);
        assert_eq!(refused.detail_text(), Some("not of this office"));
        let refused = check(&gate, &[("x-office", "no"), ("x-api-key", "junk")]).unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidCredentials);
        assert_eq!(refused.into_response(Protocol::GrpcWeb).headers()["grpc-status"], "16");
    }
}

#[test]
fn who_cannot_tell_does_not_say_no() {
    let (minted, api_key) = keys();
    let broken = Office { broken: Some(Reason::KeysUnavailable), ..Office::new() };
    let gate = Providers::new().with(api_key).with(broken).optional();
    let refused = check(&gate, &[("x-office", "yes"), ("x-api-key", "junk")]).unwrap_err();
    assert_eq!(refused.reason(), Reason::KeysUnavailable);
    assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "14");
    // The others do not mind.
    assert!(check(&gate, &[("x-office", "yes"), ("x-api-key", minted.reveal())]).is_ok());
    assert!(check(&gate, &[]).is_ok());
    // A custom provider's other reasons are 401 with all the rest.
    let odd = Office { broken: Some(Reason::BadRequest), ..Office::new() };
    let refused = check(&Providers::new().with(odd), &[("x-office", "yes")]).unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidCredentials);
}

/// Asks twice before it believes an office, and leaves its credential in place.
struct Slow(Office);

impl Authenticator for Slow {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        let told = self.0.authenticate(head);
        if let Credential::Absent = told {
            return told;
        }
        head.headers_mut().remove("x-desk");
        Credential::Asked(Inquiry::new(async {
            tokio::task::yield_now().await;
            |_: &mut Head<'_>| {
                Credential::Asked(Inquiry::new(async {
                    |head: &mut Head<'_>| {
                        let mut office = Office::new();
                        office.forwards = true;
                        office.authenticate(head)
                    }
                }))
            }
        }))
    }
    fn locations(&self) -> &[Location] {
        self.0.locations()
    }
    fn asserted_headers(&self) -> &[HeaderName] {
        self.0.asserted_headers()
    }
}

#[tokio::test]
async fn who_must_ask_is_waited_for_in_the_order_of_the_list() {
    let (minted, api_key) = keys();
    let slow_first = Providers::new().with(Slow(Office::new())).with(api_key.clone());
    let slow_last = Providers::new().with(api_key).with(Slow(Office::new()));
    let key = ("x-api-key", minted.reveal());
    let served = async |gate: &Providers, headers: &[(&str, &str)]| {
        let request =
            headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        let who = service_fn(|request: Request<Body>| async move {
            let principal: &Principal = request.extensions().get().unwrap();
            let left = request.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>().join(" ");
            let who = format!("{} {left}", principal.provider());
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(who)))
        });
        let response = gate.clone().layer().layer(who).oneshot(request.body(Body::empty()).unwrap()).await;
        let (head, body) = response.unwrap().into_parts();
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
    };
    let desk = || (200, "office x-desk".to_owned());
    let partner = || (200, "partners ".to_owned());
    assert_eq!(served(&slow_first, &[("x-office", "yes"), ("x-desk", "1"), key]).await, desk());
    assert_eq!(served(&slow_last, &[("x-office", "yes"), key]).await, partner());
    assert_eq!(served(&slow_first, &[("x-office", "no"), key]).await, partner());
    assert_eq!(served(&slow_last, &[("x-office", "yes"), ("x-api-key", "junk")]).await, desk());
    let optional = slow_first.optional();
    let (status, body) = served(&optional, &[("x-office", "no"), ("x-api-key", "junk")]).await;
    assert_eq!(status, 401, "{body}");
    assert_eq!(served(&optional, &[]).await, (200, " ".to_owned()));
}

#[test]
fn only_the_winner_can_let_its_credential_go_on() {
    let (minted, api_key) = keys();
    let forwarding = || Office { forwards: true, ..Office::new() };
    let gate = Providers::new().with(forwarding()).with(api_key.forward());
    let both = [("x-office", "yes"), ("x-api-key", minted.reveal())];
    let request = check(&gate, &both).unwrap();
    assert!(request.headers().contains_key("x-office") && !request.headers().contains_key("x-api-key"));
    let request = check(&gate, &[("x-office", "no"), both[1]]).unwrap();
    assert!(!request.headers().contains_key("x-office") && request.headers().contains_key("x-api-key"));
    // Two providers that look in one place: what the winner lets go on stays.
    let gate = Providers::new().with(forwarding()).with(Office::new());
    assert!(check(&gate, &[("x-office", "yes")]).unwrap().headers().contains_key("x-office"));
}

#[cfg(feature = "stack")]
#[test]
fn a_credential_goes_on_only_where_a_provider_that_is_asked_forwards_it() {
    let (_, api_key) = keys();
    let forwarding = Providers::new().with(Office { forwards: true, ..Office::new() });
    let keeping = Providers::new().with(Office::new()).with(api_key);
    let all: Vec<_> = forwarding.locations().chain(keeping.locations()).cloned().collect();
    let [office, key] = ["x-office", "x-api-key"].map(|name| Location::header(HeaderName::from_static(name)));
    assert_eq!(kept_back(&all, Some(&forwarding)).iter().collect::<Vec<_>>(), [&key]);
    for elsewhere in [Some(&keeping), Some(&Providers::new()), None] {
        assert_eq!(kept_back(&all, elsewhere), [office.clone(), key.clone()]);
    }
}

#[test]
fn without_providers_nobody_comes_in() {
    let refused = check(&Providers::new(), &[("authorization", "Bearer x")]).unwrap_err();
    assert_eq!(refused.reason(), Reason::MissingCredentials);
}

#[test]
fn authentication_is_not_enforced_for_a_share() {
    use crate::gate::{AsyncGate, Gate};
    const { assert!(!<Providers as AsyncGate>::SHAREABLE && !<ApiKey as Gate>::SHAREABLE) };
}

#[test]
fn debug_shows_no_key() {
    let (minted, api_key) = keys();
    let hash = minted.entry().hash().to_string();
    let shown = format!("{api_key:?} {:?} {:?}", Providers::new().with(api_key.clone()), minted.entry());
    assert!(!shown.contains(&hash[7..20]) && !shown.contains(minted.reveal()), "{shown}");
}
