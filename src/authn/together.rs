use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::{Authenticator, Credential, Inquiry, Location};
use crate::{
    head::Head,
    identity::{AssertedHeaders, Principal},
    reject::{Reason, Rejection},
};

/// Several [`Authenticator`]s that must all find their credential valid, as one of the list of
/// [`Providers`](super::Providers): a token *and* a certificate, a key *and* a token.
///
/// The principal is the one that the first of them tells, and so are the challenge and the claims: those of another
/// credential are nobody's there. A header that several of them would set for the upstream is the first one's, also
/// where that one has nothing to tell. A request with some of the credentials
/// and not all of them is refused; one that has none of them has nothing to say here. A certificate that comes with the
/// connection says nothing by itself.
///
/// ```
/// use portcullis::authn::{Providers, Together, certificate::Certificate};
/// use portcullis::authn::api_key::{self, ApiKey, KeyTable};
///
/// let minted = api_key::mint("shop", "acme")?;
/// let key = ApiKey::new(KeyTable::new("partners", [minted.entry().clone()])?);
/// let layer = Providers::new().with(Together::new(key).and(Certificate::new())).layer();
/// # let _ = layer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Together {
    members: Vec<Arc<dyn Authenticator>>,
    locations: Vec<Location>,
    names: Vec<HeaderName>,
    /// The names that more than one of them sets.
    contested: Vec<HeaderName>,
}

/// What the members have found so far.
#[derive(Default)]
struct Found {
    principal: Option<Principal>,
    /// Something of it stands in the request.
    presented: bool,
    /// What is wrong with a credential that stands in no request: it counts if something else was presented.
    unsound: Option<Rejection>,
    /// The members that found nothing.
    absent: Vec<usize>,
    /// The claims of the first.
    #[cfg(feature = "jwt")]
    claims: Option<super::jwt::Claims>,
    /// What stands under contested names.
    told: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl Together {
    /// The one that tells the principal.
    pub fn new(first: impl Authenticator) -> Self {
        let (locations, names, contested) = (Vec::new(), Vec::new(), Vec::new());
        Self { members: Vec::new(), locations, names, contested }.and(first)
    }

    /// And this one, too.
    pub fn and(mut self, other: impl Authenticator) -> Self {
        self.locations.extend_from_slice(other.locations());
        let again = other.asserted_headers().iter().filter(|name| self.names.contains(name));
        self.contested.extend(again.cloned());
        self.names.extend_from_slice(other.asserted_headers());
        self.members.push(Arc::new(other));
        self
    }

    /// Asks the members from `next` on.
    fn ask(&self, head: &mut Head<'_>, next: usize, mut found: Found) -> Credential {
        for (at, member) in self.members.iter().enumerate().skip(next) {
            let credential = member.authenticate(head);
            match self.heed(head, at, credential, &mut found) {
                None => {}
                Some(Credential::Asked(inquiry)) => return self.wait(inquiry, at, found),
                Some(refused) => return self.refuse(head, refused),
            }
        }
        self.conclude(head, found)
    }

    /// Goes on with the next member when this one has been told.
    fn wait(&self, inquiry: Inquiry, at: usize, mut found: Found) -> Credential {
        let this = self.clone();
        Credential::Asked(Inquiry::new(async move {
            let finding = inquiry.await;
            move |head: &mut Head<'_>| {
                let credential = finding(head);
                match this.heed(head, at, credential, &mut found) {
                    None => this.ask(head, at + 1, found),
                    Some(Credential::Asked(inquiry)) => this.wait(inquiry, at, found),
                    Some(refused) => this.refuse(head, refused),
                }
            }
        }))
    }

    /// What a member's word decides; nothing, if the next is to be asked.
    fn heed(
        &self,
        head: &mut Head<'_>,
        at: usize,
        credential: Credential,
        found: &mut Found,
    ) -> Option<Credential> {
        let in_request = !self.members[at].locations().is_empty();
        match credential {
            Credential::Absent => found.absent.push(at),
            Credential::Valid(principal) => {
                self.keep_first(head, at, found);
                found.presented |= in_request;
                found.principal = found.principal.take().filter(|_| at > 0).or(Some(principal));
            }
            Credential::Invalid(rejection) if !in_request && !self.locations.is_empty() => {
                found.unsound.get_or_insert(rejection);
            }
            refused_or_asked => return Some(refused_or_asked),
        }
        None
    }

    /// Leaves what the first has put into the request, and takes out what a later one has put in its place.
    fn keep_first(&self, head: &mut Head<'_>, at: usize, found: &mut Found) {
        #[cfg(feature = "jwt")]
        match &found.claims {
            _ if at == 0 => found.claims = head.extensions().get().cloned(),
            Some(claims) => _ = head.extensions_mut().insert(claims.clone()),
            None => _ = head.extensions_mut().remove::<super::jwt::Claims>(),
        }
        let own = self.members[at].asserted_headers();
        for name in self.contested.iter().filter(|name| own.contains(name)) {
            match found.told.iter().find(|(known, _)| known == name) {
                None => found.told.push((name.clone(), head.headers().get(name).cloned())),
                Some((_, Some(first))) => _ = head.headers_mut().insert(name, first.clone()),
                Some((_, None)) => _ = head.headers_mut().remove(name),
            }
        }
    }

    fn conclude(&self, head: &mut Head<'_>, found: Found) -> Credential {
        match (found.principal, found.unsound) {
            (Some(principal), None) if found.absent.is_empty() => Credential::Valid(principal),
            _ if !found.presented => self.refuse(head, Credential::Absent),
            (_, Some(rejection)) => self.refuse(head, Credential::Invalid(rejection)),
            _ => {
                let challenges = found.absent.iter().filter_map(|at| self.members[*at].challenge());
                let rejection = Rejection::new(Reason::InvalidCredentials)
                    .detail("a credential is missing that is needed together with another");
                self.refuse(head, Credential::Invalid(challenges.fold(rejection, Rejection::challenge)))
            }
        }
    }

    /// Takes back what members that were content have put into the request.
    fn refuse(&self, head: &mut Head<'_>, credential: Credential) -> Credential {
        AssertedHeaders::new(self.names.iter().cloned()).strip(head.headers_mut());
        #[cfg(feature = "jwt")]
        head.extensions_mut().remove::<super::jwt::Claims>();
        credential
    }
}

impl Authenticator for Together {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        self.ask(head, 0, Found::default())
    }

    fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// If all of them do: a credential that goes on takes its companions along.
    fn forwards(&self) -> bool {
        self.members.iter().filter(|member| !member.locations().is_empty()).all(|member| member.forwards())
    }

    /// Those of the first that has a token.
    fn token_locations(&self) -> &[Location] {
        let mut of_members = self.members.iter().map(|member| member.token_locations());
        of_members.find(|locations| !locations.is_empty()).unwrap_or_default()
    }

    fn asserted_headers(&self) -> &[HeaderName] {
        &self.names
    }

    fn challenge(&self) -> Option<HeaderValue> {
        self.members.iter().find_map(|member| member.challenge())
    }
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").field("len", &self.members.len()).field("names", &self.names).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, header};

    use super::*;
    use crate::{
        authn::{
            Providers,
            api_key::{self, ApiKey, KeyTable, Minted},
            certificate::Certificate,
        },
        gate::{AsyncGate as _, Check, Stopped},
        identity::PeerIdentity,
        reject::{Answer, Protocol},
    };

    fn keys(provider: &str, header: &'static str) -> (Minted, ApiKey) {
        let minted = api_key::mint("shop", provider).unwrap();
        let table = KeyTable::new(provider, [minted.entry().clone()]).unwrap();
        (minted, ApiKey::new(table).locations([Location::header(HeaderName::from_static(header))]))
    }

    /// What the gate says to a request with these headers and, perhaps, a certificate.
    fn call(gate: &Providers, headers: &[(&str, &str)], certified: bool) -> Result<String, Rejection> {
        let mut request =
            headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
        if certified {
            request = request.extension(PeerIdentity::new([7; 32]).with_dns_names(["orders.svc"]));
        }
        let mut request = request.body(()).unwrap();
        match gate.check(&mut Head::of(&mut request)) {
            Check::Now(Ok(())) => {
                assert!(request.headers().is_empty(), "{:?}", request.headers());
                Ok(request.extensions().get::<Principal>().unwrap().subject().to_owned())
            }
            Check::Now(Err(Stopped { answer: Answer::Refuse(rejection), .. })) => {
                assert!(request.extensions().get::<Principal>().is_none());
                Err(rejection)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_and_a_certificate_are_both_needed() {
        let (minted, key) = keys("acme", "x-api-key");
        let good = [("x-api-key", minted.reveal())];
        let bad = [("x-api-key", "junk")];
        let both = || Together::new(key.clone()).and(Certificate::new());
        let strict = Providers::new().with(both());
        let optional = Providers::new().with(both()).optional_as(Principal::new("guests", "", "guest"));
        for gate in [&strict, &optional] {
            assert_eq!(call(gate, &good, true).unwrap(), "acme");
            for (headers, certified) in [(&good, false), (&bad, true), (&bad, false)] {
                let refused = call(gate, headers, certified).unwrap_err();
                assert_eq!(refused.reason(), Reason::InvalidCredentials);
                assert_eq!(refused.clone().into_response(Protocol::Http).status().as_u16(), 401);
                assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "16");
            }
        }
        // The certificate is there for the connection's sake, and says nothing by itself.
        for certified in [false, true] {
            let refused = call(&strict, &[], certified).unwrap_err();
            assert_eq!(refused.reason(), Reason::MissingCredentials);
            assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], r#"ApiKey realm="api""#);
            assert_eq!(call(&optional, &[], certified).unwrap(), "guest");
        }
        // The first of them tells who it is, and another of the list can still win.
        let turned = Providers::new().with(Together::new(Certificate::new()).and(key.clone()));
        assert_eq!(call(&turned, &good, true).unwrap(), "orders.svc");
        let (other, device) = keys("till", "x-device-key");
        let list = strict.clone().with(device);
        assert_eq!(call(&list, &[good[0], ("x-device-key", other.reveal())], false).unwrap(), "till");
    }

    #[test]
    fn a_certificate_without_a_name_refuses_only_who_shows_something() {
        let (minted, key) = keys("acme", "x-api-key");
        let ask = |both: &Together, key: Option<&str>| {
            let request = Request::get("/").extension(PeerIdentity::new([7; 32]));
            let mut request =
                key.into_iter().fold(request, |r, key| r.header("x-api-key", key)).body(()).unwrap();
            both.authenticate(&mut Head::of(&mut request))
        };
        for both in [
            Together::new(key.clone()).and(Certificate::new()),
            Together::new(Certificate::new()).and(key.clone()),
        ] {
            assert!(matches!(ask(&both, None), Credential::Absent));
            for shown in [minted.reveal(), "junk"] {
                assert!(matches!(ask(&both, Some(shown)), Credential::Invalid(_)));
            }
        }
        // By itself it is all that there is to go by.
        assert!(matches!(ask(&Together::new(Certificate::new()), None), Credential::Invalid(_)));
    }

    #[test]
    fn one_of_two_credentials_is_not_enough_wherever_it_stands() {
        let ((a, first), (b, second)) = (keys("a", "x-a"), keys("b", "x-b"));
        let both = Together::new(first).and(second);
        assert_eq!(both.locations().len(), 2);
        for gate in [Providers::new().with(both.clone()), Providers::new().with(both).optional()] {
            let (a, b) = (("x-a", a.reveal()), ("x-b", b.reveal()));
            assert_eq!(call(&gate, &[a, b], false).unwrap(), "a");
            for headers in [&[a][..], &[b], &[a, ("x-b", "junk")], &[("x-a", "junk"), b]] {
                let refused = call(&gate, headers, false).unwrap_err();
                assert_eq!(refused.reason(), Reason::InvalidCredentials, "{headers:?}");
                assert!(refused.headers().contains_key(header::WWW_AUTHENTICATE));
            }
        }
    }

    /// Believes everybody, after a while, and tells `x-told`.
    struct Slow(Vec<Location>, [HeaderName; 1]);

    impl Authenticator for Slow {
        fn authenticate(&self, _: &mut Head<'_>) -> Credential {
            Credential::Asked(Inquiry::new(async {
                tokio::task::yield_now().await;
                |head: &mut Head<'_>| {
                    head.headers_mut().insert("x-told", HeaderValue::from_static("1"));
                    Credential::Valid(Principal::new("slow", "", "slow"))
                }
            }))
        }
        fn locations(&self) -> &[Location] {
            &self.0
        }
        fn asserted_headers(&self) -> &[HeaderName] {
            &self.1
        }
    }

    #[tokio::test]
    async fn who_must_ask_is_waited_for_and_leaves_nothing_if_another_refuses() {
        let (minted, key) = keys("acme", "x-api-key");
        let slow = || Slow(vec![Location::bearer()], [HeaderName::from_static("x-told")]);
        let both = Together::new(slow()).and(key);
        let finished = async |key: &str| {
            let mut request = Request::get("/").header("x-api-key", key).body(()).unwrap();
            let mut credential = both.authenticate(&mut Head::of(&mut request));
            while let Credential::Asked(inquiry) = credential {
                let finding = inquiry.await;
                credential = finding(&mut Head::of(&mut request));
            }
            (credential, request.headers().contains_key("x-told"))
        };
        let (credential, told) = finished(minted.reveal()).await;
        assert!(matches!(credential, Credential::Valid(principal) if principal.subject() == "slow") && told);
        let (credential, told) = finished("junk").await;
        assert!(matches!(credential, Credential::Invalid(_)) && !told);
    }
}
