//! What the user says, and what comes of it: rules, the router, and the rule that was found.

use std::{fmt, sync::Arc};

use crate::{
    head::Head,
    matching::{BadHost, Host, HostPattern, RequestMatch, Target, preflight_method},
};

use super::{RouterService, table::Table};

/// A rule: for these hosts and matches, this value.
#[derive(Clone)]
pub struct Rule<T> {
    name: Arc<str>,
    hosts: Vec<HostPattern>,
    matches: Vec<Arc<RequestMatch>>,
    value: T,
}

impl<T> fmt::Debug for Rule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .field("matches", &self.matches)
            .finish_non_exhaustive()
    }
}

impl<T> Rule<T> {
    /// A rule for every host and request, until [`host`](Self::host) or [`when`](Self::when) say otherwise.
    ///
    /// `name` is what the rule is called in logs, metrics and keys.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, value: T) -> Self {
        Self { name: name.into(), hosts: Vec::new(), matches: Vec::new(), value }
    }

    /// For this host too.
    #[must_use]
    pub fn host(mut self, host: HostPattern) -> Self {
        if !self.hosts.contains(&host) {
            self.hosts.push(host);
        }
        self
    }

    /// For the requests of this match too.
    #[must_use]
    pub fn when(mut self, request: RequestMatch) -> Self {
        self.matches.push(Arc::new(request));
        self
    }
}

/// Gathers rules, in order. See [`Router::builder`].
#[derive(Clone)]
pub struct RouterBuilder<T> {
    rules: Vec<Rule<T>>,
}

impl<T> fmt::Debug for RouterBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

impl<T> RouterBuilder<T> {
    /// Adds a rule after those already there.
    #[must_use]
    pub fn rule(mut self, rule: Rule<T>) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds rules after those already there.
    #[must_use]
    pub fn rules(mut self, rules: impl IntoIterator<Item = Rule<T>>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// Compiles the table.
    ///
    /// # Errors
    ///
    /// With all matches that can never be reached.
    pub fn build(self) -> Result<Router<T>, UnreachableMatches> {
        let mut table = Table::default();
        let mut unreachable = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let hosts = if rule.hosts.is_empty() { &[HostPattern::Any][..] } else { &rule.hosts };
            let any = [Arc::new(RequestMatch::any())];
            let matches = if rule.matches.is_empty() { &any[..] } else { &rule.matches };
            for (entry, request) in matches.iter().enumerate() {
                let shadows: Vec<Option<usize>> =
                    hosts.iter().map(|host| table.insert(host, index, request)).collect();
                // Hidden on each of its hosts, and not by itself.
                let by = shadows.first().copied().flatten().filter(|by| *by != index);
                if let (Some(by), true) = (by, shadows.iter().all(Option::is_some)) {
                    unreachable.push(Unreachable {
                        rule: index,
                        entry,
                        name: Arc::clone(&rule.name),
                        by: Arc::clone(&self.rules[by].name),
                    });
                }
            }
        }
        if !unreachable.is_empty() {
            return Err(UnreachableMatches(unreachable));
        }
        table.finish();
        let rules = self.rules.into_iter().map(|rule| (rule.name, rule.value)).collect();
        Ok(Router { table: Arc::new(table), rules })
    }
}

/// A match that no request can reach, because an earlier rule has the same on each of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("match {entry} of the rule {name:?} can never be reached: the earlier rule {by:?} has the same")]
#[non_exhaustive]
pub struct Unreachable {
    /// The position of the rule in the order in which rules were given, from 0.
    pub rule: usize,
    /// The position of the match in its rule, from 0.
    pub entry: usize,
    /// The name of the rule.
    pub name: Arc<str>,
    /// The name of the rule that hides it.
    pub by: Arc<str>,
}

/// Some matches can never be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableMatches(Vec<Unreachable>);

impl UnreachableMatches {
    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Unreachable> {
        self.0.iter()
    }
}

impl fmt::Display for UnreachableMatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, unreachable) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{unreachable}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnreachableMatches {}

/// An immutable table of rules. See the [module docs](super).
pub struct Router<T> {
    table: Arc<Table>,
    rules: Box<[(Arc<str>, T)]>,
}

impl<T> fmt::Debug for Router<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl<T> Router<T> {
    /// Gathers the rules of a router.
    #[must_use]
    pub fn builder() -> RouterBuilder<T> {
        RouterBuilder { rules: Vec::new() }
    }

    /// The rule that a request is for.
    ///
    /// A request without a host is matched by the rules for any host; one with a bad host by none.
    #[must_use]
    pub fn find(&self, head: &Head<'_>) -> Option<Matched<'_, T>> {
        let host = match Host::of(head.uri(), head.headers()) {
            Ok(host) => Some(host),
            Err(BadHost::Missing) => None,
            Err(_) => return None,
        };
        let host = host.as_ref().map_or("", |host| host.name());
        self.find_target(&Target::new(head.method(), host, head.uri(), head.headers()))
    }

    /// The rule that a target is for.
    #[must_use]
    pub fn find_target(&self, target: &Target<'_>) -> Option<Matched<'_, T>> {
        let announced = preflight_method(target.method(), target.headers());
        let announced = announced.and_then(|method| self.table.find(&target.clone().with_method(method)));
        let found = announced.or_else(|| self.table.find(target))?;
        let (name, value) = self.rules.get(found.rule)?;
        Some(Matched { index: found.rule, name, value, prefix: found.prefix })
    }

    /// The same table, with another value for each rule.
    #[must_use]
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Router<U> {
        let rules = self.rules.iter().map(|(name, value)| (Arc::clone(name), change(value))).collect();
        Router { table: Arc::clone(&self.table), rules }
    }

    /// The names and values of the rules, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.rules.iter().map(|(name, value)| (&**name, value))
    }

    /// A service that hands each request to the service of its rule.
    #[must_use]
    pub fn into_service(self) -> RouterService<T> {
        RouterService::new(self)
    }
}

/// The rule that was found.
pub struct Matched<'r, T> {
    index: usize,
    name: &'r Arc<str>,
    value: &'r T,
    prefix: Option<usize>,
}

impl<T> fmt::Debug for Matched<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matched")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl<'r, T> Matched<'r, T> {
    /// The position of the rule, from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The name of the rule.
    #[must_use]
    pub fn name(&self) -> &'r str {
        self.name
    }

    /// The name of the rule, to be kept.
    #[must_use]
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(self.name)
    }

    /// What the rule says.
    #[must_use]
    pub const fn value(&self) -> &'r T {
        self.value
    }

    /// How many bytes of the path the rule's prefix is, without a slash at its end: 0 for `/`. `None` if the
    /// path was not matched by a prefix.
    #[must_use]
    pub const fn prefix(&self) -> Option<usize> {
        self.prefix
    }
}
