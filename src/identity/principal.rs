use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

/// Who was authenticated, and what is known about them.
///
/// A principal *is* the triple of provider, issuer and subject; equality and hash look at nothing else. The
/// subject "acme" of a token therefore never shares an account with the owner "acme" of an API key. Scopes,
/// roles, plan and expiry are what it may do.
///
/// A clone is a pointer. Builder methods on a principal that is shared make a copy of it first.
///
/// ```
/// use portcullis::identity::Principal;
///
/// let principal = Principal::new("partners", "", "acme")
///     .with_scopes(["orders.read", "orders.write"])
///     .with_roles(["supplier"])
///     .with_plan("gold");
/// assert!(principal.has_scope("orders.write") && principal.has_role("supplier"));
/// assert_eq!(principal, Principal::new("partners", "", "acme"));
/// assert_ne!(principal, Principal::new("customers", "", "acme"));
/// ```
#[derive(Clone)]
pub struct Principal(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    provider: Arc<str>,
    issuer: Arc<str>,
    subject: Subject,
    /// Divided by single spaces, as in a token, so that a token's scopes are one allocation.
    scopes: Box<str>,
    roles: Box<[Box<str>]>,
    plan: Option<Arc<str>>,
    expires: Option<SystemTime>,
    claims: Option<Arc<dyn ClaimLookup>>,
    /// It has shown no credential.
    guest: bool,
}

/// Whatever can tell a principal's claims as text: the token they came in.
pub trait ClaimLookup: Send + Sync + 'static {
    /// The claim of that name, or at that JSON pointer if it begins with `/`: a string, number or boolean as text.
    fn claim(&self, name: &str) -> Option<Cow<'_, str>>;

    /// Shows each text there until `found` says `true`, and tells whether it did: the elements of a list, or the one
    /// that [`claim`](Self::claim) finds. Policies ask this: a list that is not shown is a claim that is not there.
    fn any_claim(&self, name: &str, found: &mut dyn FnMut(&str) -> bool) -> bool;

    /// All of them, as the JSON object that they came as; `None` if they came in another way.
    fn as_json(&self) -> Option<&[u8]> {
        None
    }
}

impl Principal {
    /// The `subject` that `issuer` vouches for, as verified by the `provider` of that name in our
    /// configuration.
    ///
    /// Where there is no issuer, as with API keys, it is empty.
    #[must_use]
    pub fn new(
        provider: impl Into<Arc<str>>,
        issuer: impl Into<Arc<str>>,
        subject: impl Into<Arc<str>>,
    ) -> Self {
        Self::of(provider.into(), issuer.into(), Subject::Shared(subject.into()))
    }

    /// As [`new`](Self::new), for a subject that nobody shares: a short one costs no allocation of its own.
    #[cfg(feature = "jwt")]
    pub(crate) fn told(provider: Arc<str>, issuer: Arc<str>, subject: &str) -> Self {
        Self::of(provider, issuer, Subject::copy_of(subject))
    }

    fn of(provider: Arc<str>, issuer: Arc<str>, subject: Subject) -> Self {
        Self(Arc::new(Inner {
            provider,
            issuer,
            subject,
            scopes: Box::default(),
            roles: Box::default(),
            plan: None,
            expires: None,
            claims: None,
            guest: false,
        }))
    }

    /// Nobody in particular: all three parts are empty, and it has no scopes and no roles.
    #[must_use]
    pub fn anonymous() -> Self {
        static ANONYMOUS: LazyLock<Principal> = LazyLock::new(|| Principal::new("", "", ""));
        ANONYMOUS.clone()
    }

    /// Replaces the scopes.
    ///
    /// A scope has no spaces (RFC 6749, section 3.3): an item with spaces counts as several scopes, so that a
    /// token's `scope` claim can be given as it is.
    #[must_use]
    pub fn with_scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut joined = String::new();
        for item in scopes {
            for scope in words(item.as_ref()) {
                if joined.is_empty() {
                    // One item, as it stands in a token, is then one allocation.
                    joined.reserve_exact(item.as_ref().len());
                } else {
                    joined.push(' ');
                }
                joined.push_str(scope);
            }
        }
        self.inner().scopes = joined.into();
        self
    }

    /// Replaces the roles.
    #[must_use]
    pub fn with_roles<I>(mut self, roles: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Box<str>>,
    {
        self.inner().roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the plan, by whose name limits and quotas can be chosen.
    #[must_use]
    pub fn with_plan(mut self, plan: impl Into<Arc<str>>) -> Self {
        self.inner().plan = Some(plan.into());
        self
    }

    /// Sets when the credential ends, by the wall clock.
    #[must_use]
    pub fn with_expiry(mut self, at: SystemTime) -> Self {
        self.inner().expires = Some(at);
        self
    }

    /// Sets where its claims are found.
    #[must_use]
    pub fn with_claims(mut self, claims: Arc<dyn ClaimLookup>) -> Self {
        self.inner().claims = Some(claims);
        self
    }

    /// The claim of that name, or at that JSON pointer, as text; if it came with claims.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.claims.as_ref()?.claim(name)
    }

    /// Whether `found` says `true` to the claim of that name, or at that JSON pointer, or to an element of it if it is a
    /// list.
    pub fn any_claim(&self, name: &str, found: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.claims.as_ref().is_some_and(|claims| claims.any_claim(name, found))
    }

    /// The claims as JSON, if they came as that.
    #[cfg(feature = "jwt")]
    pub(crate) fn claims_json(&self) -> Option<&[u8]> {
        self.0.claims.as_ref()?.as_json()
    }

    /// Says that it came in without a credential, whatever its name.
    #[must_use]
    pub fn into_guest(mut self) -> Self {
        self.inner().guest = true;
        self
    }

    /// Whether it came in without a credential, with a name that the configuration gives to all who do.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.0.guest
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// The name, in our configuration, of the provider that verified the credential.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.0.provider
    }

    /// Who vouches for the subject: a token's `iss`. Empty if nobody else does.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Whom the credential was given to: a token's `sub`, a key's owner, a certificate's name.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.0.subject.as_str()
    }

    /// Whether nobody was authenticated.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.parts() == ("", "", "")
    }

    /// The scopes, in the order given.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        words(&self.0.scopes)
    }

    /// The roles, in the order given.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.roles.iter().map(AsRef::as_ref)
    }

    /// Whether this is one of the scopes. Scopes are compared byte by byte (RFC 6749, section 3.3).
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|own| own == scope)
    }

    /// Whether this is one of the roles.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().any(|own| own == role)
    }

    /// The plan, if the credential belongs to one.
    #[must_use]
    pub fn plan(&self) -> Option<&str> {
        self.0.plan.as_deref()
    }

    /// When the credential ends, if it does.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.expires
    }

    /// The bytes it keeps of its own, without what it shares.
    #[cfg(feature = "jwt")]
    pub(crate) fn weight(&self) -> usize {
        let subject = match &self.0.subject {
            Subject::Short { .. } => 0,
            Subject::Shared(subject) => subject.len(),
        };
        let roles: usize = self.roles().map(|role| size_of::<Box<str>>() + role.len()).sum();
        size_of::<Inner>() + 2 * size_of::<usize>() + subject + self.0.scopes.len() + roles
    }

    fn parts(&self) -> (&str, &str, &str) {
        (self.provider(), self.issuer(), self.subject())
    }
}

/// A subject. A short one stands where it is.
#[derive(Clone)]
enum Subject {
    #[cfg(feature = "jwt")]
    Short {
        text: [u8; Self::SHORT],
        len: u8,
    },
    Shared(Arc<str>),
}

impl Subject {
    /// Longer than a UUID in hexadecimal, with what some put before it.
    #[cfg(feature = "jwt")]
    const SHORT: usize = 54;

    #[cfg(feature = "jwt")]
    fn copy_of(subject: &str) -> Self {
        let mut text = [0; Self::SHORT];
        match (text.get_mut(..subject.len()), u8::try_from(subject.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(subject.as_bytes());
                Self::Short { text, len }
            }
            _ => Self::Shared(subject.into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            #[cfg(feature = "jwt")]
            Self::Short { text, len } => std::str::from_utf8(&text[..usize::from(*len)]).unwrap_or_default(),
            Self::Shared(subject) => subject,
        }
    }
}

fn words(mut text: &str) -> impl Iterator<Item = &str> {
    // These are a few bytes: to look at each is faster than what `split` prepares for.
    std::iter::from_fn(move || {
        while !text.is_empty() {
            let end = text.bytes().position(|byte| byte == b' ').unwrap_or(text.len());
            let word = &text[..end];
            text = text.get(end + 1..).unwrap_or_default();
            if !word.is_empty() {
                return Some(word);
            }
        }
        None
    })
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.parts() == other.parts()
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("provider", &self.provider())
            .field("issuer", &self.issuer())
            .field("subject", &self.subject())
            .field("scopes", &&*self.0.scopes)
            .field("roles", &self.0.roles)
            .field("plan", &self.plan())
            .field("expires", &self.expires())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn is_its_provider_issuer_and_subject() {
        let base = Principal::new("p", "i", "s");
        let rich = base
            .clone()
            .with_scopes(["a"])
            .with_roles(["r"])
            .with_plan("gold")
            .with_expiry(SystemTime::UNIX_EPOCH);
        assert_eq!(base, rich);
        assert_eq!(HashSet::from([base.clone(), rich]).len(), 1);
        for other in [["x", "i", "s"], ["p", "x", "s"], ["p", "i", "x"]] {
            assert_ne!(base, Principal::new(other[0], other[1], other[2]));
        }
        // The parts are not run together.
        assert_ne!(Principal::new("a", "bc", ""), Principal::new("ab", "c", ""));
        let hash = |principal| HashSet::from([principal]);
        assert_ne!(hash(Principal::new("a", "bc", "")), hash(Principal::new("ab", "c", "")));
    }

    #[cfg(feature = "jwt")]
    #[test]
    fn a_subject_is_the_same_however_it_is_kept() {
        for subject in ["", "ada", "ädä", &"s".repeat(54), &"s".repeat(55), &"s".repeat(300)] {
            let told = Principal::told("p".into(), "i".into(), subject);
            assert_eq!(told.subject(), subject);
            assert_eq!(told, Principal::new("p", "i", subject));
        }
    }

    #[test]
    fn a_copy_that_is_changed_leaves_the_other_as_it_was() {
        let base = Principal::new("p", "i", "s").with_scopes(["read"]);
        let changed = base.clone().with_scopes(["write"]);
        assert!(base.has_scope("read") && !base.has_scope("write"));
        assert!(changed.has_scope("write") && !changed.has_scope("read"));
    }

    #[test]
    fn scopes_are_whole_words() {
        let principal =
            Principal::new("p", "i", "s").with_scopes(["  orders.read  orders.write", "", "admin"]);
        assert_eq!(principal.scopes().collect::<Vec<_>>(), ["orders.read", "orders.write", "admin"]);
        for no in ["", " ", "orders", "orders.read orders.write", "Admin", "read"] {
            assert!(!principal.has_scope(no), "{no:?}");
        }
    }

    #[test]
    fn roles_may_have_spaces() {
        let principal = Principal::new("p", "i", "s").with_roles(["site admin", "writer"]);
        assert!(principal.has_role("site admin") && principal.has_role("writer"));
        assert!(!principal.has_role("admin") && !principal.has_role(""));
    }

    #[test]
    fn anonymous_is_nobody() {
        assert!(Principal::anonymous().is_anonymous());
        assert_eq!(Principal::anonymous(), Principal::new("", "", ""));
        assert!(!Principal::new("p", "", "").is_anonymous());
        assert_eq!(Principal::anonymous().scopes().count(), 0);
    }
}
