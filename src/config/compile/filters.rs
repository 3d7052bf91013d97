//! `filters`: the Gateway API's, made by the routing room.
use std::{collections::HashSet, time::Duration};

use http::{HeaderName, Method};

use super::Compiler;
use crate::{
    config::{
        at::At,
        schema::{
            Cors, Filter, FilterType, HeaderModifier, PathMatchType, PathModifier, PathModifierType,
            Redirect, Rule, Scheme, UrlRewrite,
        },
    },
    routing::filter::{self, HeaderChanges, PathChange},
    stack::gateway,
};

impl Compiler<'_> {
    pub(super) fn filters(&self, rule_at: At<'_>, mut made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let mut seen = HashSet::new();
        for (at, one) in rule_at.field("filters").items(&rule.filters) {
            if !seen.insert(one.kind) && one.kind != FilterType::RequestMirror {
                at.field("type").error("a rule has one filter of each type, but for `RequestMirror`");
            }
            made = filter(at, made, one, rule);
        }
        if seen.contains(&FilterType::UrlRewrite) && seen.contains(&FilterType::RequestRedirect) {
            rule_at.field("filters").error("`URLRewrite` and `RequestRedirect` exclude each other");
        }
        made
    }
}

fn filter(at: At<'_>, made: gateway::Rule, one: &Filter, rule: &Rule) -> gateway::Rule {
    let own = one.kind.field();
    for field in FilterType::ALL.into_iter().map(FilterType::field) {
        if field != own && at.field(field).is_said() {
            at.field(field).error(format!("the `type` of this filter asks for `{own}`"));
        }
    }
    let at_own = at.field(own);
    if !one.kind.is_built() {
        at.field("type").error("this filter is not supported yet");
        return made;
    }
    if !at_own.is_said() {
        at_own.error("is missing, and the `type` of this filter asks for it");
    }
    match one.kind {
        FilterType::RequestHeaderModifier => match &one.request_header_modifier {
            Some(changes) => made.filter(headers(at_own, changes).for_requests()),
            None => made,
        },
        FilterType::ResponseHeaderModifier => match &one.response_header_modifier {
            Some(changes) => made.response_headers(headers(at_own, changes).for_responses()),
            None => made,
        },
        FilterType::RequestRedirect => match &one.request_redirect {
            Some(said) => made.filter(redirect(at_own, said, rule)),
            None => made,
        },
        FilterType::UrlRewrite => match &one.url_rewrite {
            Some(said) => made.filter(rewrite(at_own, said, rule)),
            None => made,
        },
        FilterType::Cors => match &one.cors {
            Some(said) => made.cors(cors(at_own, said)),
            None => made,
        },
        // Copies are made where the request is sent.
        FilterType::RequestMirror | FilterType::ExternalAuth | FilterType::ExtensionRef => made,
    }
}

impl FilterType {
    const ALL: [Self; 8] = [
        Self::RequestHeaderModifier,
        Self::ResponseHeaderModifier,
        Self::RequestRedirect,
        Self::UrlRewrite,
        Self::Cors,
        Self::RequestMirror,
        Self::ExternalAuth,
        Self::ExtensionRef,
    ];

    /// The field that holds what a filter of this type does.
    const fn field(self) -> &'static str {
        match self {
            Self::RequestHeaderModifier => "requestHeaderModifier",
            Self::ResponseHeaderModifier => "responseHeaderModifier",
            Self::RequestRedirect => "requestRedirect",
            Self::UrlRewrite => "urlRewrite",
            Self::Cors => "cors",
            Self::RequestMirror => "requestMirror",
            Self::ExternalAuth => "externalAuth",
            Self::ExtensionRef => "extensionRef",
        }
    }

    const fn is_built(self) -> bool {
        !matches!(self, Self::ExternalAuth | Self::ExtensionRef)
    }
}

fn headers(at: At<'_>, said: &HeaderModifier) -> HeaderChanges {
    let mut changes = HeaderChanges::new();
    for (at, line) in at.field("set").items(&said.set) {
        let changed = changes.clone().set(line.name.0.clone(), line.value.0.clone());
        changes = at.field("name").accept(changed).unwrap_or(changes);
    }
    for (at, line) in at.field("add").items(&said.add) {
        let changed = changes.clone().add(line.name.0.clone(), line.value.0.clone());
        changes = at.field("name").accept(changed).unwrap_or(changes);
    }
    for (at, name) in at.field("remove").items(&said.remove) {
        changes = at.accept(changes.clone().remove(name.0.clone())).unwrap_or(changes);
    }
    changes
}

fn redirect(at: At<'_>, said: &Redirect, rule: &Rule) -> filter::Redirect {
    let mut redirect = filter::Redirect::new();
    if let Some(scheme) = said.scheme {
        redirect = redirect.scheme(match scheme {
            Scheme::Http => filter::Scheme::Http,
            Scheme::Https => filter::Scheme::Https,
        });
    }
    if let Some(name) = &said.hostname {
        match redirect.clone().hostname(name) {
            Ok(named) => redirect = named,
            Err(_) => at.field("hostname").error("expected a host name"),
        }
    }
    if let Some(change) = said.path.as_ref().and_then(|path| path_change(at.field("path"), path, rule)) {
        redirect = redirect.path(change);
    }
    if let Some(port) = said.port {
        redirect = redirect.port(port.get());
    }
    if let Some(status) = said.status_code {
        match redirect.clone().status(status) {
            Ok(with) => redirect = with,
            Err(_) => at.field("statusCode").error("expected 301, 302, 303, 307 or 308"),
        }
    }
    redirect
}

fn rewrite(at: At<'_>, said: &UrlRewrite, rule: &Rule) -> filter::Rewrite {
    let mut rewrite = filter::Rewrite::new();
    if let Some(name) = &said.hostname {
        match rewrite.clone().hostname(name) {
            Ok(named) => rewrite = named,
            Err(_) => at.field("hostname").error("expected a host name"),
        }
    }
    if let Some(change) = said.path.as_ref().and_then(|path| path_change(at.field("path"), path, rule)) {
        rewrite = rewrite.path(change);
    }
    rewrite
}

fn path_change(at: At<'_>, said: &PathModifier, rule: &Rule) -> Option<PathChange> {
    const NO_PATH: &str = "expected a path without query, fragment and dot segments";
    match (said.kind, &said.replace_full_path, &said.replace_prefix_match) {
        (PathModifierType::ReplaceFullPath, Some(path), None) => match PathChange::full(path) {
            Ok(change) => Some(change),
            Err(_) => at.field("replaceFullPath").refuse(NO_PATH),
        },
        (PathModifierType::ReplacePrefixMatch, None, Some(path)) => {
            let Some(prefix) = only_prefix(rule) else {
                return at.refuse("`ReplacePrefixMatch` needs matches with one and the same `PathPrefix`");
            };
            match PathChange::prefix(prefix, path) {
                Ok(change) => Some(change),
                Err(_) => at.field("replacePrefixMatch").refuse(NO_PATH),
            }
        }
        (PathModifierType::ReplaceFullPath, ..) => {
            at.refuse("`ReplaceFullPath` asks for `replaceFullPath` alone")
        }
        (PathModifierType::ReplacePrefixMatch, ..) => {
            at.refuse("`ReplacePrefixMatch` asks for `replacePrefixMatch` alone")
        }
    }
}

/// The prefix that all matches of a rule have.
fn only_prefix(rule: &Rule) -> Option<&str> {
    let mut prefixes = rule.matches.iter().map(|one| match &one.path {
        Some(path) if matches!(path.kind, PathMatchType::PathPrefix) => Some(path.value.as_str()),
        Some(_) => None,
        None => Some("/"),
    });
    let first = prefixes.next().unwrap_or(Some("/"))?;
    prefixes.all(|prefix| prefix == Some(first)).then_some(first)
}

/// `*`, or `https://*`: every site can be had under such an origin.
fn is_every_site(origin: &str) -> bool {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host.split_once(':').map_or(host, |(host, _)| host) == "*"
}

fn cors(at: At<'_>, said: &Cors) -> filter::Cors {
    let mut cors = filter::Cors::new();
    for (at, origin) in at.field("allowOrigins").items(&said.allow_origins) {
        if said.allow_credentials && is_every_site(origin) {
            at.warn("with `allowCredentials` every site can act as its visitor: name the origins");
        }
        match cors.clone().allow_origin(origin) {
            Ok(with) => cors = with,
            Err(_) => at.error(
                "expected an origin such as `https://shop.example` or `https://*.shop.example`, or `*`",
            ),
        }
    }
    for (at, method) in at.field("allowMethods").items(&said.allow_methods) {
        cors = match method.as_str() {
            "*" => cors.allow_any_method(),
            _ => match at.accept(Method::try_from(method.as_str())) {
                Some(method) => cors.allow_method(method),
                None => cors,
            },
        };
    }
    for (at, name) in at.field("allowHeaders").items(&said.allow_headers) {
        cors = match name.as_str() {
            "*" => cors.allow_any_header(),
            _ => at.accept(HeaderName::try_from(name)).map_or(cors.clone(), |name| cors.allow_header(name)),
        };
    }
    for (at, name) in at.field("exposeHeaders").items(&said.expose_headers) {
        cors = match name.as_str() {
            "*" => cors.expose_any_header(),
            _ => at.accept(HeaderName::try_from(name)).map_or(cors.clone(), |name| cors.expose_header(name)),
        };
    }
    if let Some(seconds) = said.max_age {
        cors = cors.max_age(Duration::from_secs(seconds.get().into()));
    }
    if said.allow_credentials { cors.allow_credentials() } else { cors }
}
