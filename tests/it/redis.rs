//! Keys on a real Redis server, and gateways that share them.
#![cfg(feature = "config")]

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use portcullis::{
    authn::api_key::{
        KeyAdmin, KeyAdminError, KeyChange, KeyFollower, KeyStore, KeyStoreError, KeyUse, Minted, Pepper,
        RedisKeyStore, Rotation, mint,
    },
    redis::{Redis, RedisError},
    tls::ClientTls,
};
use tokio::time::{Instant, sleep};

use crate::{
    gateway::world::{Directory, Gateway, PATIENCE, file, upstream},
    support::redis::{Certified, Nodes, Program, Server, Trio},
};

fn store(server: &Server) -> RedisKeyStore {
    RedisKeyStore::new(Redis::builder(&server.url()).unwrap().deadline(PATIENCE).build(), "partners")
}

fn admin(server: &Server) -> KeyAdmin {
    KeyAdmin::new(store(server))
}

async fn create(admin: &KeyAdmin, owner: &str) -> Minted {
    admin.create(mint("shop", owner).unwrap()).await.unwrap()
}

/// A gateway that asks for a key of this server.
async fn gateway(directory: &Directory, server: &Server, more: &str) -> Gateway {
    let upstream = upstream("one").await;
    directory.write(
        "gateway.yaml",
        &file(&format!(
            "redis: {{ shared: {{ url: {:?}{more} }} }}\n\
             authentication: {{ partners: {{ apiKey: {{ keys: {{ redis: shared }} }} }} }}\n\
             upstreams: {{ one: {{ endpoints: [{upstream}] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ authenticate: [partners] }}, backendRefs: [{{ name: one }}] }}] }}]\n",
            server.url(),
        )),
    );
    Gateway::start(portcullis::config::Config::file(directory.path("gateway.yaml"))).await
}

async fn status(gateway: &Gateway, key: &Minted) -> u16 {
    gateway.get("/", &[("x-api-key", key.reveal())]).await.status
}

async fn until(gateway: &Gateway, key: &Minted, wanted: u16) {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = status(gateway, key).await;
        if status == wanted {
            return;
        }
        assert!(Instant::now() < until, "still {status}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_life_of_a_key_on_a_server() {
    let server = Server::start();
    let admin = admin(&server);
    assert!(admin.list().await.unwrap().is_empty());
    let first = admin
        .create(mint("shop", "acme").unwrap().with(|entry| entry.scopes(["a"]).notes("a \"note\" ☃")))
        .await
        .unwrap();
    let second = admin.rotate(first.entry().id(), Rotation::overlap(Duration::from_secs(60))).await.unwrap();
    assert_eq!(admin.find(second.entry().id()).await.unwrap(), *second.entry());
    assert_eq!(second.entry().note_text(), Some("a \"note\" ☃"));
    admin.revoke(first.entry().id()).await.unwrap();

    // Its uses are kept beside it: the latest, and none of a key that is not there.
    let store = store(&server);
    let of = |id: &str, seconds| vec![KeyUse::new(id, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))];
    let version = store.read(None).await.unwrap().unwrap().version;
    for seconds in [100, 200, 150] {
        store.used(of(second.entry().id(), seconds)).await.unwrap();
    }
    store.used(of("0123456789ab", 5)).await.unwrap();
    assert!(store.read(Some(version)).await.unwrap().is_none(), "a use is no change");
    let used = admin.find(second.entry().id()).await.unwrap().last_use();
    assert_eq!(used, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(200)));
    assert!(!server.ask("HGETALL portcullis:{keys.partners}:used").contains("0123456789ab"));

    // What is on the server is no key.
    let entries = server.ask("HVALS portcullis:{keys.partners}:entries");
    for key in [&first, &second] {
        let secret = &key.reveal()[key.reveal().len() - 49..];
        assert!(entries.contains(key.entry().id()) && !entries.contains(secret));
    }

    // A backup, into another server; the revoked one stays so.
    let other = Server::start();
    let restored = super::redis::admin(&other);
    restored.restore(admin.list().await.unwrap(), false).await.unwrap();
    assert_eq!(restored.list().await.unwrap(), admin.list().await.unwrap());
    let pepper = Pepper::new("2026", &[7; 32]).unwrap();
    assert_eq!(restored.rehash(&pepper).await.unwrap(), 2);
    assert_eq!(restored.prune(SystemTime::now() + Duration::from_secs(5)).await.unwrap(), 1);
    assert_eq!(restored.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn two_who_write_at_once_both_have_written() {
    let server = Server::start();
    let store = store(&server);
    let version = store.read(None).await.unwrap().unwrap().version;
    drop(create(&admin(&server), "first").await);
    let entry = Box::new(mint("a", "x").unwrap().entry().clone());
    let late = store.write(version, vec![KeyChange::Put(entry)]).await;
    assert!(matches!(late, Err(KeyStoreError::Conflict)));
    let makes: Vec<_> = (0..4)
        .map(|i| {
            let admin = admin(&server);
            tokio::spawn(async move { drop(create(&admin, &format!("{i}")).await) })
        })
        .collect();
    for make in makes {
        make.await.unwrap();
    }
    assert_eq!(admin(&server).list().await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_gateway_on_the_server() {
    let server = Server::start();
    let admin = admin(&server);
    let key = create(&admin, "acme").await;
    let (here, there) = (Directory::new("redis-here"), Directory::new("redis-there"));
    let gateways = [gateway(&here, &server, "").await, gateway(&there, &server, "").await];
    for gateway in &gateways {
        assert_eq!(status(gateway, &key).await, 200);
    }
    let late = create(&admin, "late").await;
    admin.revoke(key.entry().id()).await.unwrap();
    for gateway in &gateways {
        until(gateway, &late, 200).await;
        until(gateway, &key, 401).await;
    }
    let metrics = gateways[0].client.get(gateways[0].at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains("portcullis_api_keys{provider=\"partners\"} 2\n"), "{metrics}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_not_noticed_by_those_who_have_keys() {
    let mut server = Server::start();
    let admin = admin(&server);
    let key = create(&admin, "acme").await;
    let directory = Directory::new("redis-gone");
    let gateway = gateway(&directory, &server, "").await;
    let failures = |status: &serde_json::Value| status["apiKeys"][0]["failures"].as_u64().unwrap();

    // It stops in the middle of a word, it dies, it comes back with nothing.
    server.signal("STOP");
    gateway.until(|status| failures(status) > 0).await;
    assert_eq!(status(&gateway, &key).await, 200);
    server.signal("CONT");
    server.kill();
    let before = failures(&gateway.status().await);
    gateway.until(|status| failures(status) > before).await;
    assert_eq!(status(&gateway, &key).await, 200);
    server.again();
    let now = create(&super::redis::admin(&server), "late").await;
    until(&gateway, &now, 200).await;
    server.ask("FLUSHALL");
    let before = failures(&gateway.status().await);
    gateway.until(|status| failures(status) > before + 1).await;
    assert_eq!((status(&gateway, &key).await, status(&gateway, &now).await), (200, 200));

    // A change of the configuration keeps the keys that the server cannot tell now.
    let text = fs::read_to_string(directory.path("gateway.yaml")).unwrap();
    directory.write("gateway.yaml", &text.replace("name: r,", "name: other,"));
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(status(&gateway, &key).await, 200);
}

#[tokio::test]
async fn a_gateway_that_never_had_keys_says_so_and_learns_them() {
    let mut server = Server::start();
    let admin = admin(&server);
    let key = create(&admin, "acme").await;
    server.kill();
    let directory = Directory::new("redis-cold");
    let gateway = gateway(&directory, &server, "").await;
    let answer = gateway.get("/", &[("x-api-key", key.reveal())]).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (503, "5"));
    assert_eq!(gateway.get("/", &[]).await.status, 401);
    server.again();
    until(&gateway, &key, 200).await;
}

/// A user who may do what the documentation says, and no more; a password from a file; TLS; a database; a namespace.
#[tokio::test]
async fn a_server_is_asked_as_one_is_told() {
    let certified = Certified::new();
    let settings = "user default off\n\
        user gateway on >hush ~shop:{keys.partners}:* +select +get +set +hget +hset +hdel +hvals +hgetall +hexists \
        +evalsha +script|load +multi +exec";
    let server = Server::of(Program::secured(&certified), settings, &[]);
    let url = format!("rediss://gateway@{}/3", server.address);
    let password = server.path("password");
    fs::write(&password, "hush\n").unwrap();
    let roots = ClientTls::roots(certified.roots().as_bytes()).unwrap();
    let builder = Redis::builder(&url).unwrap().namespace("shop").deadline(PATIENCE);

    let told = builder.clone().tls(roots.clone()).password_file(&password).build();
    let admin = KeyAdmin::new(RedisKeyStore::new(told, "partners"));
    drop(create(&admin, "acme").await);
    assert_eq!(admin.list().await.unwrap().len(), 1);

    // Somebody else's certificate, no password, another's keys.
    let other = Certified::new();
    let stranger = builder.clone().tls(ClientTls::roots(other.roots().as_bytes()).unwrap());
    let stranger = stranger.password_file(&password);
    assert!(matches!(stranger.build().ping().await, Err(RedisError::Connect(_))));
    let nobody = builder.clone().tls(roots.clone()).build().ping().await.unwrap_err();
    assert!(!nobody.to_string().contains("hush"), "{nobody}");
    let elsewhere = builder.tls(roots).password_file(&password).namespace("other").build();
    let refused = KeyAdmin::new(RedisKeyStore::new(elsewhere, "partners")).list().await.unwrap_err();
    let KeyAdminError::Store(KeyStoreError::Unavailable(why)) = refused else { panic!("{refused}") };
    assert_eq!(why.to_string(), "Redis refused: NOPERM");
}

#[tokio::test]
async fn what_cannot_be_read_is_left_where_it_is() {
    let server = Server::start();
    let admin = admin(&server);
    let key = create(&admin, "acme").await;
    server.ask("HSET portcullis:{keys.partners}:entries other nonsense");
    let list = store(&server).read(None).await.unwrap().unwrap();
    assert_eq!((list.entries.len(), list.unreadable), (1, 1));
    let keys = KeyFollower::new("partners", Arc::new(store(&server))).start().await;
    assert_eq!(keys.health().keys, Some(1));
    admin.revoke(key.entry().id()).await.unwrap();
    assert!(server.ask("HGETALL portcullis:{keys.partners}:entries").contains("other"));
}

/// Keys are minted until there are `count`, by whomever it takes, also while the master changes.
async fn mint_until(admin: &KeyAdmin, count: usize) {
    let until = Instant::now() + PATIENCE;
    loop {
        match admin.create(mint("shop", "acme").unwrap()).await {
            Ok(_) if admin.list().await.is_ok_and(|keys| keys.len() >= count) => return,
            Ok(_) => {}
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn borrowed(urls: &[String]) -> impl Iterator<Item = &str> {
    urls.iter().map(String::as_str)
}

#[tokio::test]
async fn sentinels_tell_who_is_master_now() {
    let mut trio = tokio::task::spawn_blocking(Trio::start).await.unwrap();
    let redis = Redis::sentinel("limits", borrowed(&trio.urls())).unwrap().deadline(PATIENCE).build();
    let admin = KeyAdmin::new(RedisKeyStore::new(redis.clone(), "partners"));
    drop(create(&admin, "acme").await);
    trio.master.kill();
    mint_until(&admin, 2).await;
    assert!(trio.replica.ask("ROLE").contains("master"));

    // Who is asked for a master that is none, and who knows none of this name.
    let unknown =
        Redis::sentinel("others", borrowed(&trio.urls())).unwrap().build().ping().await.unwrap_err();
    assert!(matches!(unknown, RedisError::Connect(_)), "{unknown}");
}

#[tokio::test]
async fn a_cluster_is_asked_where_its_keys_are() {
    let mut nodes = tokio::task::spawn_blocking(Nodes::start).await.unwrap();
    let urls = nodes.urls();
    let redis = || Redis::cluster(borrowed(&urls[..2])).unwrap().deadline(PATIENCE).build();
    redis().ping().await.unwrap();

    // Sets lie on all of the masters.
    let sets = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let admins = sets.map(|set| KeyAdmin::new(RedisKeyStore::new(redis(), set)));
    for admin in &admins {
        drop(create(admin, "acme").await);
        assert_eq!(admin.list().await.unwrap().len(), 1);
    }
    for master in &nodes.0[..3] {
        assert!(!master.ask("KEYS *entries").starts_with("*0"), "it has its share");
    }

    // A slot that is on its way is asked for where it goes; when it has gone, the way is learned anew.
    let key = "portcullis:{keys.a}:entries";
    let from = nodes.master_of(key);
    let to = (from + 1) % 3;
    nodes.move_slot(key, from, to);
    mint_until(&admins[0], 2).await;

    // A master dies, its replica takes its place.
    nodes.0[to].kill();
    mint_until(&admins[0], 3).await;
}
