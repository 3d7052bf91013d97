//! The users whom the guide tells to make may do what is done on Redis, and nothing that is not.

use std::{collections::BTreeSet, fs, path::PathBuf};

use portcullis::{
    admission::{
        Settle,
        quota::{Quota, QuotaFallback, QuotaStore, Quotas},
        rate_limit::{Account, Distribution, Fallback},
    },
    identity::Principal,
    key::Key,
    ratio::Ratio,
    redis::Redis,
    time::Period,
};

use super::{ACCOUNT, StatusCode, account, answer, gate, limit, quotas, remaining, until};
use crate::{
    gateway::world::PATIENCE,
    support::redis::{Nodes, Server, Trio},
};

const GUIDE: &str = include_str!("../../../docs/guides/distributed_limits.md");

/// The user of the guide, with what it needs more for these.
fn user(more: &[&str]) -> String {
    let user = GUIDE.lines().find_map(|line| line.strip_prefix("user ")).expect("the guide names a user");
    let mut user = user.replace("PASSWORD", "hush");
    for what in more {
        let line = GUIDE.lines().find(|line| line.starts_with("- ") && line.contains(what)).unwrap();
        let rules = line.rsplit_once(": `").unwrap().1.trim_end_matches('`');
        assert!(rules.starts_with('+'), "{line}");
        user = format!("{user} {rules}");
    }
    user
}

/// Makes this user there, and tells where its password is.
fn make(server: &Server, user: &str) -> PathBuf {
    let made = server.ask(&format!("ACL SETUSER {user}"));
    assert!(made.starts_with("+OK"), "{made}");
    let password = server.path("password");
    fs::write(&password, "hush\n").unwrap();
    password
}

fn url(server: &Server) -> String {
    format!("redis://gateway@{}", server.address)
}

/// Does all that limits and quotas do, on a server that decides or nothing passes.
pub(super) async fn decide(redis: &Redis) {
    let there = Distribution::on(redis.clone()).deadline(PATIENCE).fallback(Fallback::Deny);
    let settle = Settle::by_outcome(|_| Some(5));
    let account = |name: &str, rate: &str| limit(name, rate).distributed(there.clone()).build().unwrap();
    let exact = account("exact", "20/year");
    let handle = exact.distribution().unwrap();
    let dear = gate([exact.clone().costing(1).settle(settle)]);
    assert_eq!(answer(&dear, "a").await.status(), StatusCode::OK);
    assert_eq!(handle.by_redis(), 1);
    until("it is settled", async || remaining(&handle, "a").await == 15).await;
    let mut acme = Account::new().header(ACCOUNT, "a".parse().unwrap());
    assert!(handle.reset(&mut acme.head()).await.unwrap());
    until("the instance is seen", async || handle.instances() == 1).await;

    let leased = limit("leased", "10000/year").distributed(there.clone().lease(Ratio::percent(5)));
    let leased = leased.build().unwrap();
    let plain = gate([leased.clone().into()]);
    let handle = leased.distribution().unwrap();
    until("some is taken ahead", async || {
        assert_eq!(answer(&plain, "a").await.status(), StatusCode::OK);
        handle.by_lease() > 0
    })
    .await;
    handle.give_back().await;
    assert_eq!((handle.errors(), handle.by_fallback(), handle.unsettled()), (0, 0, 0));

    let store = QuotaStore::redis(redis.clone()).deadline(PATIENCE).fallback(QuotaFallback::Deny);
    let calls = Quota::builder("calls", 20, Period::Year).by(Key::Header(ACCOUNT)).store(store);
    let calls = calls.settle(Settle::by_outcome(|_| Some(5))).build().unwrap();
    let gate = quotas::behind(Quotas::from_iter([calls.clone()]));
    assert_eq!(answer(&gate, "a").await.status(), StatusCode::OK);
    until("it is settled", async || quotas::used(&calls, "a").await == 5).await;
    calls.handle().reset_of(&Principal::new("partners", "", "acme")).await.unwrap();
    assert_eq!(calls.handle().unsettled(), 0);
}

#[tokio::test]
async fn the_user_of_the_guide_may_do_what_is_done() {
    for server in Server::each() {
        let password = make(&server, &user(&["quotas", "another database"]));
        for url in [url(&server), format!("{}/3", url(&server))] {
            decide(&Redis::builder(&url).unwrap().password_file(&password).build()).await;
        }
    }
}

/// The Sentinels have a password of their own.
#[tokio::test]
async fn behind_sentinels_too() {
    let trio = tokio::task::spawn_blocking(Trio::start).await.unwrap();
    let password = make(&trio.master, &user(&["quotas", "Sentinels"]));
    let watch = trio.master.path("watch");
    fs::write(&watch, "watch\n").unwrap();
    for sentinel in &trio.sentinels {
        let set = sentinel.ask("ACL SETUSER default resetpass >watch");
        assert!(set.starts_with("+OK"), "{set}");
    }
    let urls: Vec<_> = trio.sentinels.iter().map(url).collect();
    let redis = Redis::sentinel("limits", urls.iter().map(String::as_str)).unwrap().password_file(&password);
    let nobody = redis.clone().build().ping().await.unwrap_err();
    assert!(nobody.to_string().contains("NOAUTH"), "{nobody}");
    decide(&redis.sentinel_password_file(&watch).build()).await;
}

/// Also where a slot is on its way.
#[tokio::test]
async fn in_a_cluster_too() {
    let nodes = tokio::task::spawn_blocking(Nodes::start).await.unwrap();
    let user = user(&["quotas", "Cluster"]);
    let passwords: Vec<_> = nodes.0.iter().map(|node| make(node, &user)).collect();
    let urls: Vec<_> = nodes.0.iter().map(url).collect();
    let redis = Redis::cluster(urls.iter().map(String::as_str)).unwrap().password_file(&passwords[0]).build();
    decide(&redis).await;
    let there = Distribution::on(redis).deadline(PATIENCE).fallback(Fallback::Deny);
    let moving = limit("moving", "5/year").distributed(there).build().unwrap();
    nodes.0[..3].iter().for_each(|node| _ = node.ask("FLUSHDB"));
    assert_eq!(answer(&gate([moving.clone().into()]), "moving").await.status(), StatusCode::OK);
    let from = nodes.master_of("}:limits.");
    let (key, to) = (account(&nodes.0[from]).expect("there is one"), &nodes.0[(from + 1) % 3]);
    nodes.begin_to_move(&key, from, to);
    nodes.0[from].ask(&format!("DEL {key}"));
    assert_eq!(answer(&gate([moving.clone().into()]), "moving").await.status(), StatusCode::OK);
    assert_eq!(moving.distribution().unwrap().by_redis(), 2);
    assert_eq!(account(to).as_ref(), Some(&key), "it was asked for there");
}

/// By what the scripts are made of.
#[test]
fn the_user_of_the_guide_may_do_nothing_else() {
    let scripts = [
        include_str!("../../../src/admission/rate_limit/distributed/limits.lua"),
        include_str!("../../../src/admission/rate_limit/distributed/decide.lua"),
        include_str!("../../../src/admission/rate_limit/distributed/correct.lua"),
        include_str!("../../../src/admission/rate_limit/distributed/reset.lua"),
        include_str!("../../../src/admission/rate_limit/distributed/beat.lua"),
        include_str!("../../../src/admission/rate_limit/distributed/returned.lua"),
    ];
    let called = scripts.iter().flat_map(|text| text.split("call('").skip(1));
    let called = called.map(|rest| rest.split('\'').next().unwrap().to_lowercase());
    let done: BTreeSet<_> = called.chain(["evalsha", "script|load"].map(str::to_owned)).collect();
    let user = user(&[]);
    let may: BTreeSet<_> =
        user.split(' ').filter_map(|rule| rule.strip_prefix('+')).map(str::to_owned).collect();
    assert_eq!(may, done);
}
