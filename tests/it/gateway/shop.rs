//! The shop's edge, `tests/data/shop/gateway.yaml`, as it stands but for its ports: each rule serves whom it says.
#![cfg(feature = "tls")]

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::Request, http::StatusCode, response::IntoResponse, routing::any};
use portcullis::config::Config;
use serde_json::json;

use super::{
    process::run,
    world::{Answer, Directory, Gateway, tell},
};
use crate::support::provider::{Kind, Signer, claims};

/// An endpoint that fails on its first request, and on every second one, to `/api/orders/flaky`.
async fn endpoint(name: &'static str, asked: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::clone(asked);
    let flaky = async move |request: Request| match asked.fetch_add(1, Ordering::Relaxed) % 2 {
        0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => tell(name, request).await.into_response(),
    };
    let app = Router::new()
        .route("/api/orders/flaky", any(flaky))
        .fallback(move |request: Request| tell(name, request));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// The gateway of the file, and who may ask it.
struct Shop {
    gateway: Gateway,
    signer: Signer,
    /// A key that may read orders, and one that may place them.
    keys: [String; 2],
    /// How often `/api/orders/flaky` was asked for.
    flaky: Arc<AtomicUsize>,
    _directory: Directory,
}

impl Shop {
    async fn open(name: &str) -> Self {
        let flaky = Arc::default();
        let mut text = std::fs::read_to_string("tests/data/shop/gateway.yaml").unwrap();
        for (port, name) in
            [("9001", "stable-1"), ("9002", "stable-2"), ("9003", "canary"), ("9004", "catalogue")]
        {
            let there = endpoint(name, &flaky).await.to_string();
            text = text.replace(&format!("127.0.0.1:{port}"), &there);
        }
        text = text.replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9901", "127.0.0.1:0");

        let (mut keys, mut entries) = (Vec::new(), String::from("keys:\n"));
        for (owner, scope) in [("reader", "orders.read"), ("acme", "orders.write")] {
            let (_, said, _) = run(&["keys", "new", "--owner", owner, "--scopes", scope, "--expires", "90d"]);
            let (key, entry) = said.split_once('\n').unwrap();
            keys.push(key.to_owned());
            entries += entry;
        }
        let signer = Signer::new("example-2026-11", Kind::Rs256);
        let directory = Directory::new(name);
        directory.write("keys.yaml", &entries);
        directory.write("jwks.json", &json!({ "keys": [signer.jwk()] }).to_string());
        directory.write("gateway.yaml", &text);
        let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
        Self { gateway, signer, keys: keys.try_into().unwrap(), flaky, _directory: directory }
    }

    /// A bearer token for these scopes.
    fn token(&self, subject: &str, scope: &str) -> String {
        let mut claims = claims("https://id.shop.example", subject);
        claims["scope"] = json!(scope);
        format!("Bearer {}", self.signer.token(&claims))
    }

    /// Asks for a path of a host, with one credential, from the address `from`.
    async fn ask(&self, method: &str, at: &str, credential: (&str, &str), from: &str) -> Answer {
        let (host, path) = at.split_at(at.find('/').unwrap());
        let headers = [("host", host), credential, ("x-forwarded-for", from), ("x-user", "root")];
        self.gateway.client.send(method, self.gateway.at("public"), path, &headers).await.unwrap()
    }
}

#[tokio::test]
async fn each_rule_of_the_shop_serves_whom_it_says() {
    let shop = Shop::open("shop").await;
    let tokens = ["orders.read", "orders.write", "other"].map(|scope| shop.token("ada", scope));
    let stranger = Signer::new("example-2026-11", Kind::Rs256);
    let forged = format!("Bearer {}", stranger.token(&claims("https://id.shop.example", "ada")));
    let [reads, writes, other] = tokens.each_ref().map(|token| ("authorization", &**token));
    let [key_reads, key_writes] = shop.keys.each_ref().map(|key| ("x-api-key", &**key));
    let (none, junk) = (("x-none", "1"), ("x-api-key", "junk"));
    let forged = ("authorization", &*forged);
    let orders = "shop.example/api/orders/7";
    for (number, (method, at, credential, status, says)) in [
        ("GET", orders, none, 401, ""),
        ("GET", orders, junk, 401, ""),
        ("GET", orders, forged, 401, ""),
        ("GET", orders, other, 403, ""),
        ("GET", orders, reads, 200, " /api/orders/7\n"),
        ("GET", orders, writes, 200, " /api/orders/7\n"),
        ("GET", orders, key_reads, 200, " /api/orders/7\n"),
        ("HEAD", orders, key_writes, 200, ""),
        ("GET", "eu.shop.example/api/orders", reads, 200, " /api/orders\n"),
        ("GET", "a.eu.shop.example/api/orders", key_reads, 200, " /api/orders\n"),
        ("GET", "other.example/api/orders", reads, 404, ""),
        ("GET", "notshop.example/api/orders", reads, 404, ""),
        ("GET", "shop.example/api/ordersandmore", reads, 404, ""),
        ("POST", orders, none, 401, ""),
        ("POST", orders, reads, 403, ""),
        ("POST", orders, key_reads, 403, ""),
        ("POST", orders, writes, 200, "stable-"),
        ("POST", "eu.shop.example/api/orders", key_writes, 200, "stable-"),
        ("DELETE", orders, writes, 404, ""),
        ("GET", "shop.example/catalogue/hats/7", none, 200, "catalogue /hats/7\n"),
        ("GET", "eu.shop.example/catalogue", none, 200, "catalogue /\n"),
        ("POST", "other.example/catalogue/", junk, 200, "catalogue /\n"),
        ("GET", "127.0.0.1/cataloguer", none, 404, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = shop.ask(method, at, credential, &format!("192.0.2.{number}")).await;
        let what = format!("{number}: {method} {at}: {answer:?}");
        assert_eq!(answer.status, status, "{what}");
        assert!(answer.text.contains(says), "{what}");
        assert!(status != 401 || answer.headers.contains_key("www-authenticate"), "{what}");
        let by_catalogue = answer.text.starts_with("catalogue ");
        assert_eq!(answer.headers.contains_key("x-served-by"), by_catalogue, "{what}");
        assert!(!answer.text.contains("x-user: root") && !answer.text.contains("authorization"), "{what}");
        assert!(!answer.text.contains("x-api-key"), "no upstream sees a key: {what}");
        let told = answer.text.contains("x-user: ada\n");
        let is_user = credential.0 == "authorization" && status == 200 && method != "HEAD";
        assert_eq!(told, is_user, "{what}");
    }
}

#[tokio::test]
async fn the_shops_canary_its_endpoints_and_its_retries() {
    let shop = Shop::open("shop-canary").await;
    let (mut seen, mut canary) = (HashSet::new(), Vec::new());
    for user in 0..500 {
        let token = shop.token(&format!("user-{user}"), "orders.read");
        let from = format!("198.51.{}.{}", user / 200, user % 200);
        let answer = shop.ask("GET", "shop.example/api/orders", ("authorization", &token), &from).await;
        let name = answer.text.split(' ').next().unwrap().to_owned();
        if name == "canary" {
            canary.push(token);
        }
        seen.insert(name);
    }
    assert_eq!(seen, HashSet::from(["stable-1", "stable-2", "canary"].map(str::to_owned)));
    assert!((3..=20).contains(&canary.len()), "{} of 500 are not 2%", canary.len());
    for (number, token) in canary.iter().enumerate() {
        for (at, says) in [
            ("shop.example/api/orders/another", "canary /api/orders/another\n"),
            ("eu.shop.example/api/orders", "canary /api/orders\n"),
        ] {
            let from = format!("203.0.113.{number}");
            let answer = shop.ask("GET", at, ("authorization", token), &from).await;
            assert!(answer.text.starts_with(says), "always the same users: {answer:?}");
        }
    }

    // One failure of a GET is tried again; that of a POST is the answer.
    let key = ("x-api-key", &*shop.keys[1]);
    for (method, status, asked) in [("GET", 200, 2), ("POST", 503, 1), ("POST", 200, 1)] {
        let before = shop.flaky.load(Ordering::Relaxed);
        let answer = shop.ask(method, "shop.example/api/orders/flaky", key, "203.0.113.200").await;
        assert_eq!(answer.status, status, "{method}");
        assert_eq!(shop.flaky.load(Ordering::Relaxed) - before, asked, "{method}");
    }
}

#[tokio::test]
async fn the_shops_limits() {
    let shop = Shop::open("shop-limits").await;
    let key = ("x-api-key", &*shop.keys[1]);
    let statuses = async |method: &str, count: usize, from: fn(usize) -> String| {
        let mut statuses = Vec::new();
        for n in 0..count {
            let answer = shop.ask(method, "shop.example/api/orders", key, &from(n)).await;
            statuses.push(answer.status);
        }
        statuses
    };
    // 20 at once for a customer, from wherever; then one every 0.6 s, and never 30 of 60 in what this takes.
    let placed = statuses("POST", 60, |n| format!("192.0.2.{n}")).await;
    assert!(placed[..20].iter().all(|status| *status == 200), "{placed:?}");
    assert!(placed[20..].contains(&429), "{placed:?}");
    // Ten at once for an address, and then one every 0.1 s.
    let from_one = statuses("GET", 40, |_| "192.0.2.200".to_owned()).await;
    assert!(from_one[..10].iter().all(|status| *status == 200), "{from_one:?}");
    assert!(from_one[10..].contains(&429), "{from_one:?}");
    // Where a limit asks who it is, all are decided when that is known.
    let refused = shop.ask("POST", "shop.example/api/orders", ("x-none", "1"), "192.0.2.200").await;
    assert_eq!(refused.status, 401);
}
