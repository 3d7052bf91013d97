//! Keys over the network.
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::Compiler;
use crate::{
    authn::jwks::{RemoteKeys, RemoteKeysBuilder},
    config::{
        at::At,
        schema::{JwksFetch, Jwt, Material},
    },
    fetch::Fetch,
    upstream::Client,
};

/// The keys of all providers, each with what was asked for. Those that are asked for in the same way are the same.
#[derive(Debug, Clone, Default)]
pub(in crate::config) struct KeySets {
    list: Vec<(Asked, RemoteKeys)>,
    clients: Clients,
}

/// What makes two key sets the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    place: Place,
    fetch: JwksFetch,
    /// The roots, which may change while their file keeps its name.
    roots: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Issuer(String),
    Url(String),
}

/// The client for those who name no roots of their own.
#[derive(Debug, Clone, Default)]
struct Clients(Arc<OnceLock<Result<Client, String>>>);

impl KeySets {
    fn find(&self, asked: &Asked) -> Option<&RemoteKeys> {
        self.list.iter().find(|(known, _)| known == asked).map(|(_, keys)| keys)
    }

    /// The keys of the same place, asked for in another way. What was taken under other roots is not believed.
    fn of_place(&self, asked: &Asked) -> Option<&RemoteKeys> {
        let same = |known: &Asked| known.place == asked.place && known.roots == asked.roots;
        self.list.iter().find(|(known, _)| same(known)).map(|(_, keys)| keys)
    }

    /// Those that come after these: with the same clients, and no keys yet.
    pub(super) fn successor(&self) -> Self {
        Self { list: Vec::new(), clients: self.clients.clone() }
    }
}

impl Compiler<'_> {
    /// The keys of a provider: those of the same name or place that are in force, or else new ones.
    pub(super) fn remote_keys(
        &self,
        at: At<'_>,
        name: &str,
        jwt: &Jwt,
        fetch: JwksFetch,
        material: &mut Vec<Vec<u8>>,
    ) -> Option<RemoteKeys> {
        let url = jwt.jwks.as_ref().and_then(|jwks| jwks.url.clone());
        let at_place = if url.is_some() { at.field("jwks").field("url") } else { at.field("issuer") };
        let place = url.map_or_else(|| Place::Issuer(jwt.issuer.clone()), Place::Url);
        let at_fetch = at.field("jwks").field("fetch");
        let at_roots = at_fetch.field("roots").field("file");
        let roots = match &fetch.roots {
            Some(material) => Some(self.roots(at_roots, material)?),
            None => None,
        };
        let asked = Asked { place, fetch, roots };
        let known = || self.key_sets.borrow().find(&asked).cloned();
        let keys = match known().or_else(|| self.kept.key_sets.find(&asked).cloned()) {
            Some(keys) => keys,
            None => {
                let client = self.client(at_place, asked.roots.as_deref().map(|roots| (at_roots, roots)))?;
                self.new_keys(at_place, at_fetch, &asked, Fetch::new(client))?
            }
        };
        material.extend(asked.roots.clone());
        let mut key_sets = self.key_sets.borrow_mut();
        key_sets.list.push((asked, keys.clone()));
        self.fetched.borrow_mut().push((name.into(), keys.clone()));
        Some(keys)
    }

    fn new_keys(&self, at: At<'_>, at_fetch: At<'_>, asked: &Asked, fetch: Fetch) -> Option<RemoteKeys> {
        let (Place::Issuer(url) | Place::Url(url)) = &asked.place;
        if cfg!(not(feature = "tls")) && url.starts_with("https:") {
            return at.refuse(super::compiler::NO_TLS);
        }
        let builder = match &asked.place {
            Place::Issuer(issuer) => RemoteKeys::discover(issuer.as_str(), fetch),
            Place::Url(url) => RemoteKeys::at(url.as_str(), fetch),
        };
        check_times(at_fetch, &asked.fetch)?;
        let mut builder = with_times(builder, &asked.fetch);
        if asked.fetch.danger_plain_http {
            builder = builder.danger_plain_http();
        }
        if let Some(before) = self.kept.key_sets.of_place(asked) {
            builder = builder.inherit(before);
        }
        let built = builder.build();
        let named = |error| match &asked.place {
            Place::Issuer(_) => {
                format!("{error}, for keys are fetched from there: or name some in `jwks`, `pem` or `secret`")
            }
            Place::Url(_) => format!("{error}"),
        };
        at.accept(built.map_err(named))
    }

    /// A client that verifies servers by these roots, or by those of this machine.
    pub(super) fn client(&self, at: At<'_>, roots: Option<(At<'_>, &[u8])>) -> Option<Client> {
        match roots {
            Some((at, roots)) => at.accept(trusting(roots)),
            None => at.accept(self.kept.key_sets.clients.0.get_or_init(platform).clone()),
        }
    }

    fn roots(&self, at: At<'_>, material: &Material) -> Option<Vec<u8>> {
        self.material(at, material)
    }
}

/// Reports times in which a provider would be asked without a pause, or not at all.
fn check_times(at: At<'_>, fetch: &JwksFetch) -> Option<()> {
    let mut sound = Some(());
    for (name, time) in [
        ("lifetime", &fetch.lifetime),
        ("minLifetime", &fetch.min_lifetime),
        ("maxLifetime", &fetch.max_lifetime),
        ("cooldown", &fetch.cooldown),
        ("timeout", &fetch.timeout),
    ] {
        if time.as_ref().is_some_and(|time| time.0 < Duration::from_secs(1)) {
            sound = at.field(name).refuse("expected a second or more");
        }
    }
    if let (Some(least), Some(most)) = (&fetch.min_lifetime, &fetch.max_lifetime)
        && most.0 < least.0
    {
        sound = at.field("maxLifetime").refuse("expected no less than `minLifetime`");
    }
    sound
}

fn with_times(mut builder: RemoteKeysBuilder, fetch: &JwksFetch) -> RemoteKeysBuilder {
    if let Some(lifetime) = &fetch.lifetime {
        builder = builder.lifetime(lifetime.0);
    }
    if let Some(least) = &fetch.min_lifetime {
        builder = builder.min_lifetime(least.0);
    }
    if let Some(most) = &fetch.max_lifetime {
        builder = builder.max_lifetime(most.0);
    }
    if let Some(cooldown) = &fetch.cooldown {
        builder = builder.cooldown(cooldown.0);
    }
    if let Some(stale) = &fetch.stale_for {
        builder = builder.stale_for(stale.0);
    }
    match &fetch.timeout {
        Some(timeout) => builder.timeout(timeout.0),
        None => builder,
    }
}

#[cfg(feature = "tls")]
fn platform() -> Result<Client, String> {
    let tls =
        crate::tls::ClientTls::platform().map_err(|error| format!("{error}; name roots of your own"))?;
    Ok(Client::builder().tls(tls).build())
}

#[cfg(feature = "tls")]
fn trusting(roots: &[u8]) -> Result<Client, String> {
    let tls = crate::tls::ClientTls::roots(roots).map_err(|error| error.to_string())?;
    Ok(Client::builder().tls(tls).build())
}

#[cfg(not(feature = "tls"))]
fn platform() -> Result<Client, String> {
    Ok(Client::builder().build())
}

#[cfg(not(feature = "tls"))]
fn trusting(_: &[u8]) -> Result<Client, String> {
    platform()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};

    use super::*;
    use crate::body::Body;

    fn asked(url: &str, roots: Option<&[u8]>, plain: bool) -> Asked {
        let fetch = JwksFetch { danger_plain_http: plain, ..JwksFetch::default() };
        Asked { place: Place::Url(url.to_owned()), fetch, roots: roots.map(<[u8]>::to_vec) }
    }

    #[test]
    fn keys_that_were_taken_under_other_roots_are_not_taken_over() {
        let url = "https://id.example/keys";
        let client = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::new(Body::from("{\"keys\":[]}")))
        });
        let keys = RemoteKeys::at(url, Fetch::new(client)).build().unwrap();
        let list = vec![(asked(url, Some(b"a"), false), keys)];
        let sets = KeySets { list, clients: Clients::default() };
        for (other, taken_over) in [
            (asked(url, Some(b"a"), true), true),
            (asked(url, Some(b"b"), false), false),
            (asked(url, None, false), false),
            (asked("https://id.example/others", Some(b"a"), false), false),
        ] {
            assert_eq!(sets.of_place(&other).is_some(), taken_over, "{other:?}");
        }
    }
}
