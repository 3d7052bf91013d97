//! `authorizers`, what upstreams are told, and the guard against other sites.
use std::{net::IpAddr, time::Duration};

use http::{HeaderName, Uri, header};

use super::Compiler;
use crate::{
    admission::ext_authz::{AuthBody, ExternalAuth, InvalidAuthorizer},
    config::{
        at::At,
        kept::Said,
        scalar::Spelled,
        schema::{Authorizer, AuthorizerBody, CallerFact, Csrf, Header, OnFailure},
    },
    fetch::Fetch,
    identity::{self, AssertedHeaders, CallerHeaders},
    reject::Reason,
    routing::filter,
    upstream::{Client, HopByHop},
};

/// How long an authorizer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How many answers are remembered.
const MAX_ENTRIES: usize = 10_000;

impl Compiler<'_> {
    /// An authorizer: the one that is in force, if nothing about it has changed.
    pub(super) fn authorizer(
        &self,
        at: At<'_>,
        name: &str,
        said: &Authorizer,
    ) -> Option<(Said<Authorizer>, ExternalAuth)> {
        let body = said.body.as_ref().and_then(|body| auth_body(at.field("body"), body));
        // What stands around it may have changed, although it has not.
        self.check_upstream_headers(at, said);
        if said.danger_fail_open {
            at.field("dangerFailOpen").warn("while the authorizer fails, everybody is let in");
        }
        warn_of_plain_http(at.field("url"), &said.url);
        let at_roots = at.field("roots").field("file");
        let roots = match &said.roots {
            Some(roots) => Some(self.material(at_roots, roots)?),
            None => None,
        };
        let known = Said(said.clone(), roots.iter().cloned().collect());
        if let Some(kept) = self.kept.authorizers.again(name, &known) {
            return Some((known, kept.clone()));
        }
        let timeout = said.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.0);
        let client = client(at, said, roots.as_deref().map(|roots| (at_roots, roots)))?;
        let fetch = Fetch::new(client).timeout(timeout);
        let mut made = at.field("url").accept(ExternalAuth::new(name, &said.url, fetch))?;
        if let Some(before) = self.kept.authorizers.before(name) {
            made = made.counted(before.handle());
        }
        made = auth_headers(at, said, made);
        if let Some(cache) = &said.cache {
            let most = cache.max_entries.map_or(MAX_ENTRIES, |most| most.get() as usize);
            made = made.cache(cache.ttl.0, most);
        }
        if matches!(said.on_failure, OnFailure::Forbidden) {
            made = made.on_failure(Reason::Forbidden);
        }
        if said.danger_fail_open {
            made = made.danger_fail_open();
        }
        Some((known, made.body(body.unwrap_or_default())))
    }

    /// Nobody else may set what an authorizer tells upstreams: it is removed from every request, first of all.
    fn check_upstream_headers(&self, at: At<'_>, said: &Authorizer) {
        let of_providers = self.providers.values().flat_map(|provider| provider.asserted_headers());
        let of_providers: AssertedHeaders = of_providers.cloned().collect();
        let credentials = self.credential_headers();
        let sent: AssertedHeaders = match &said.request_headers {
            Some(names) => names.iter().map(|name| name.0.clone()).collect(),
            None => AssertedHeaders::new([header::AUTHORIZATION, header::COOKIE]),
        };
        for (at, name) in at.field("upstreamHeaders").items(&said.upstream_headers) {
            if of_providers.contains(&name.0) {
                at.error("`claimHeaders` tell something in this header already");
            } else if credentials.contains(&name.0) {
                at.error("callers show a credential in this header, and it would be removed first");
            } else if sent.contains(&name.0) {
                at.error(
                    "the authorizer gets this header of `requestHeaders`, and it would be removed first",
                );
            }
        }
    }

    /// Where callers show their credentials.
    fn credential_headers(&self) -> AssertedHeaders {
        let locations = self.providers.values().flat_map(|provider| provider.locations());
        locations.filter_map(|location| location.header_name().cloned()).collect()
    }

    /// What upstreams are told of callers.
    pub(super) fn caller_headers(&self) -> CallerHeaders {
        let mut told = CallerHeaders::new();
        for (at, name, fact) in self.top.field("callerHeaders").entries(&self.file.caller_headers) {
            let Some(header) = HeaderName::spell(name) else {
                at.error(format!("expected {}", HeaderName::EXPECTED));
                continue;
            };
            let of_providers = self.providers.values().flat_map(|provider| provider.asserted_headers());
            let of_authorizers = self.authorizers.each().flat_map(ExternalAuth::asserted_headers);
            if of_providers.chain(of_authorizers).cloned().collect::<AssertedHeaders>().contains(&header) {
                at.error("`claimHeaders` or `upstreamHeaders` tell something in this header already");
                continue;
            }
            if self.credential_headers().contains(&header) {
                at.error("callers show a credential in this header, and it would be removed first");
                continue;
            }
            // What frames a message or belongs to a connection is no place to tell something.
            if HopByHop::always_removes(&header) || header == header::HOST || header == header::CONTENT_LENGTH
            {
                at.error("this header is of one connection or message, and not to be set");
                continue;
            }
            told = told.with(
                header,
                match fact {
                    CallerFact::Provider => identity::CallerFact::Provider,
                    CallerFact::Issuer => identity::CallerFact::Issuer,
                    CallerFact::Subject => identity::CallerFact::Subject,
                    CallerFact::Plan => identity::CallerFact::Plan,
                    CallerFact::Scopes => identity::CallerFact::Scopes,
                },
            );
        }
        told
    }

    /// The guard of a rule against requests of other sites.
    pub(super) fn csrf(&self, at: At<'_>, said: &Csrf) -> filter::Csrf {
        let mut guard = filter::Csrf::new();
        for (at, origin) in at.field("trustedOrigins").items(&said.trusted_origins) {
            guard = at.accept(guard.clone().trust(origin)).unwrap_or(guard);
        }
        guard
    }
}

/// Who asks: over TLS, if the URL says so.
fn client(at: At<'_>, said: &Authorizer, roots: Option<(At<'_>, &[u8])>) -> Option<Client> {
    let builder = Client::builder();
    if !said.url.starts_with("https:") {
        if roots.is_some() {
            at.field("roots").error("nobody is verified by them: the `url` is not `https`");
        }
        return Some(builder.build());
    }
    #[cfg(feature = "tls")]
    return match roots {
        Some((at, roots)) => at.accept(crate::tls::ClientTls::roots(roots)),
        None => at.field("url").accept(crate::tls::ClientTls::platform()),
    }
    .map(|tls| builder.tls(tls).build());
    #[cfg(not(feature = "tls"))]
    return at.field("url").refuse(super::compiler::NO_TLS);
}

/// Says what plain HTTP means, unless nobody is on the way.
fn warn_of_plain_http(at: At<'_>, url: &str) {
    let Some(uri) = url.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http")) else { return };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if !is_here {
        at.warn("over plain HTTP whoever is on the way reads callers' credentials, and can let anybody in");
    }
}

/// Which headers go to an authorizer and come back.
fn auth_headers(at: At<'_>, said: &Authorizer, mut made: ExternalAuth) -> ExternalAuth {
    type Set = fn(ExternalAuth, Vec<HeaderName>) -> Result<ExternalAuth, InvalidAuthorizer>;
    let lists: [(&'static str, Option<&[Header]>, Set); 4] = [
        ("requestHeaders", said.request_headers.as_deref(), |made, names| made.request_headers(names)),
        ("upstreamHeaders", Some(&said.upstream_headers), |made, names| made.upstream_headers(names)),
        ("clientHeaders", Some(&said.client_headers), |made, names| made.client_headers(names)),
        ("refusalHeaders", said.refusal_headers.as_deref(), |made, names| made.refusal_headers(names)),
    ];
    for (field, list, set) in lists {
        let Some(list) = list else { continue };
        for (at, name) in at.field(field).items(list) {
            if set(made.clone(), vec![name.0.clone()]).is_err() {
                at.error("this header is of one connection or message, and not to be handed on");
            }
        }
        let names = list.iter().map(|name| name.0.clone()).collect();
        made = set(made.clone(), names).unwrap_or(made);
    }
    made
}

fn auth_body(at: At<'_>, said: &AuthorizerBody) -> Option<AuthBody> {
    match (said.whole, said.beginning) {
        (Some(whole), None) => Some(AuthBody::Whole(whole.get() as usize)),
        (None, Some(beginning)) => Some(AuthBody::Beginning(beginning.get() as usize)),
        _ if at.is_broken() => None,
        _ => at.refuse("expected exactly one of `whole` and `beginning`"),
    }
}

#[cfg(all(test, feature = "jwt"))]
mod tests {
    use super::AuthBody;
    use crate::config::{Config, kept::Kept, load::Reading};

    fn read(lines: &str, kept: &Kept) -> Reading {
        let text = format!(
            "apiVersion: portcullis/v1alpha1\n{lines}\n\
             listeners: [{{ name: public, address: 127.0.0.1:8080 }}]\n\
             upstreams: {{ one: {{ endpoints: [127.0.0.1:9001] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{}} }}] }}]\n"
        );
        Config::text("f", text).read(kept)
    }

    fn problems(reading: &Reading) -> Vec<String> {
        reading.faults.iter().map(|fault| format!("{}: {}", fault.path, fault.problem)).collect()
    }

    #[test]
    fn what_callers_show_or_the_authorizer_gets_is_not_told_to_upstreams() {
        let keys = "authentication: { keys: { apiKey: { header: x-api-key, keys: { file: tests/data/shop/keys.yaml } } } }";
        let shown = "callers show a credential in this header, and it would be removed first";
        let sent = "the authorizer gets this header of `requestHeaders`, and it would be removed first";
        for (said, problem) in [
            ("upstreamHeaders: [x-user]", None),
            ("upstreamHeaders: [authorization]", Some(sent)),
            ("upstreamHeaders: [cookie]", Some(sent)),
            ("upstreamHeaders: [x_api_key]", Some(shown)),
            ("requestHeaders: [x-device], upstreamHeaders: [authorization]", None),
            ("requestHeaders: [x-device], upstreamHeaders: [x-device]", Some(sent)),
        ] {
            let iam = format!("authorizers: {{ iam: {{ url: 'http://127.0.0.1:4000/', {said} }} }}");
            let found = problems(&read(&format!("{keys}\n{iam}"), &Kept::default()));
            let expected = problem.map(|problem| format!("authorizers.iam.upstreamHeaders[0]: {problem}"));
            assert_eq!(found, Vec::from_iter(expected), "{said}");
        }
        let found =
            problems(&read(&format!("{keys}\ncallerHeaders: {{ x-api-key: subject }}"), &Kept::default()));
        assert_eq!(found, [format!("callerHeaders.x-api-key: {shown}")]);
    }

    #[test]
    fn what_is_read_ahead_of_a_body_has_a_ceiling() {
        for (body, refused) in [
            ("whole: 1048576", false),
            ("whole: 1048577", true),
            ("beginning: 1048576", false),
            ("beginning: 4294967295", true),
        ] {
            let iam =
                format!("authorizers: {{ iam: {{ url: 'http://127.0.0.1:4000/', body: {{ {body} }} }} }}");
            let found = problems(&read(&iam, &Kept::default()));
            let field = body.split_once(':').unwrap().0;
            let said =
                format!("authorizers.iam.body.{field}: expected a number from 1 to {}", AuthBody::MOST);
            assert_eq!(found, Vec::from_iter(refused.then_some(said)), "{body}");
        }
    }

    #[test]
    fn plain_http_to_elsewhere_is_warned_of() {
        let warning = "authorizers.iam.url: over plain HTTP whoever is on the way reads callers' credentials, and can let anybody in";
        for (url, warned) in [
            ("http://iam.internal:4000/check", true),
            ("http://192.0.2.1/", true),
            ("http://127.0.0.1:4000/", false),
            ("http://[::1]:4000/", false),
            ("http://localhost/", false),
        ] {
            let found =
                problems(&read(&format!("authorizers: {{ iam: {{ url: '{url}' }} }}"), &Kept::default()));
            assert_eq!(found, Vec::from_iter(warned.then_some(warning)), "{url}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn roots_are_those_of_the_authorizer_and_make_another_one() {
        let directory = std::env::temp_dir().join(format!("portcullis-roots-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("roots.pem");
        let root = || rcgen::generate_simple_self_signed(["iam.internal".to_owned()]).unwrap().cert.pem();
        let said = |url: &str| {
            format!("authorizers: {{ iam: {{ url: '{url}', roots: {{ file: '{}' }} }} }}", path.display())
        };
        let https = said("https://iam.internal/check");
        std::fs::write(&path, root()).unwrap();
        let first = read(&https, &Kept::default());
        assert_eq!(problems(&first), [""; 0]);
        let kept = first.compiled.unwrap().kept;
        let found = |kept: &Kept| kept.authorizers.all()["iam"].0.clone();
        assert!(found(&read(&https, &kept).compiled.unwrap().kept) == found(&kept));
        std::fs::write(&path, root()).unwrap();
        assert!(found(&read(&https, &kept).compiled.unwrap().kept) != found(&kept));
        assert_eq!(
            problems(&read(&said("http://127.0.0.1/"), &kept)),
            ["authorizers.iam.roots: nobody is verified by them: the `url` is not `https`"]
        );
        std::fs::write(&path, "no certificate").unwrap();
        let found = problems(&read(&https, &kept));
        assert!(found.len() == 1 && found[0].starts_with("authorizers.iam.roots.file: "), "{found:?}");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_credential_that_is_taken_out_before_is_warned_of() {
        let lines = |forward: bool, sent: &str, asked: &str| {
            format!(
                "authentication: {{ users: {{ jwt: {{ issuer: i, audiences: [a], algorithms: [RS256], forward: {forward}, \
                 jwks: {{ file: tests/data/shop/jwks.json }} }} }} }}\n\
                 authorizers: {{ iam: {{ url: 'http://127.0.0.1:4000/', {sent} }} }}\n\
                 authorization: {{ ask: {{ action: custom, authorizer: iam, rules: [{{}}] }} }}\n\
                 listeners: [{{ name: public, address: 127.0.0.1:8080 }}]\n\
                 upstreams: {{ one: {{ endpoints: [127.0.0.1:9001] }} }}\n\
                 routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], \
                 policies: {{ authenticate: [users], authorize: {{ {asked} }} }} }}] }}]\n"
            )
        };
        let problems = |lines: &str| {
            let check = Config::text("f", format!("apiVersion: portcullis/v1alpha1\n{lines}")).check();
            check
                .faults()
                .iter()
                .map(|fault| format!("{}: {}", fault.path, fault.problem))
                .collect::<Vec<_>>()
        };
        let warning = |field: &str| {
            [format!(
                "routes[0].rules[0].policies.authorize.{field}[0]: the credential in `authorization` is taken out before the \
                 authorizer is asked: to send it, its provider needs `forward: true`"
            )]
        };
        for (field, asked) in [("authorizers", "authorizers: [iam]"), ("policies", "policies: [ask]")] {
            assert_eq!(problems(&lines(false, "", asked)), warning(field));
            assert_eq!(problems(&lines(true, "", asked)), [""; 0]);
            assert_eq!(problems(&lines(false, "requestHeaders: [cookie]", asked)), [""; 0]);
        }
    }

    #[test]
    fn an_authorizer_that_has_not_changed_is_checked_again() {
        let iam = "authorizers: { iam: { url: 'http://127.0.0.1:4000/', upstreamHeaders: [x-user], dangerFailOpen: true } }";
        let jwt = "authentication: { users: { jwt: { issuer: i, audiences: [a], algorithms: [RS256], \
                   jwks: { file: tests/data/shop/jwks.json }, claimHeaders: { x-user: sub } } } }";
        let warning = "authorizers.iam.dangerFailOpen: while the authorizer fails, everybody is let in";
        let collision =
            "authorizers.iam.upstreamHeaders[0]: `claimHeaders` tell something in this header already";
        let first = read(iam, &Kept::default());
        assert_eq!(problems(&first), [warning]);
        let kept = first.compiled.unwrap().kept;
        assert_eq!(problems(&read(iam, &kept)), [warning]);
        let both = read(&format!("{jwt}\n{iam}"), &kept);
        assert!(both.compiled.is_none());
        assert_eq!(problems(&both), [collision, warning]);
    }
}
