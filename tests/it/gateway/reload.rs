//! Changes of the configuration while it serves.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use portcullis::{
    authn::api_key::mint,
    config::{Config, Registry},
};
use tokio::time::sleep;

use super::world::{Client, Directory, Gateway, PATIENCE, file, nobody, upstream};

async fn text(name: &'static str, more: &str) -> String {
    file(&format!(
        "{more}upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], timeouts: {{ request: 30s }} }}] }}]\n",
        upstream(name).await
    ))
}

/// Keeps asking until told, and counts what was asked and what was lost.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(gateway: &Gateway) -> Self {
        let at = gateway.at("public");
        let (stop, asked, lost) = <(Arc<AtomicBool>, Arc<AtomicU32>, Arc<AtomicU32>)>::default();
        let tasks = (0..4).map(|worker| {
            let (stop, asked, lost) = (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&lost));
            let path = ["/", "/slow/30", "/trickle/3", "/slow/5"][worker];
            tokio::spawn(async move {
                let client = Client::new();
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    match client.send("GET", at, path, &[]).await {
                        Ok(answer) if answer.status == 200 => {}
                        _ => drop(lost.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, asked, lost, tasks }
    }

    async fn lost(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        assert!(self.asked.load(Ordering::Relaxed) > 20);
        self.lost.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_good_file_is_taken_and_a_bad_one_changes_nothing() {
    let directory = Directory::new("reload");
    let (old, new) = (text("old", "").await, text("new", "").await);
    directory.write("gateway.yaml", &old);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("old"));
    let load = Load::start(&gateway);

    // What has begun under the old one ends under it.
    let slow = tokio::spawn({
        let (client, at) = (Client::new(), gateway.at("public"));
        async move { client.get(at, "/slow/2500", &[]).await }
    });
    sleep(Duration::from_millis(200)).await;
    directory.write("gateway.yaml", &new);
    gateway.until(|status| status["generation"] == 2).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("new"));
    assert!(slow.await.unwrap().text.starts_with("old"));

    directory.write("gateway.yaml", &format!("{new}oops: 1\n"));
    let status = gateway.until(|status| status["lastLoad"]["accepted"] == false).await;
    assert_eq!(status["generation"], 2);
    let fault = status["lastLoad"]["faults"][0].as_str().unwrap();
    assert!(fault.contains("gateway.yaml:6:1: oops: unknown field"), "{fault}");
    assert!(gateway.get("/", &[]).await.text.starts_with("new"));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains("portcullis_config_load_failures_total 1"), "{metrics}");

    directory.write("gateway.yaml", &old);
    let status = gateway.until(|status| status["generation"] == 3).await;
    assert_eq!(status["lastLoad"]["accepted"], true);
    assert!(gateway.get("/", &[]).await.text.starts_with("old"));
    assert_eq!(load.lost().await, 0);
}

/// What is registered in Rust may panic while a change is read: the old configuration goes on, and the next is taken.
#[tokio::test]
async fn a_panic_in_a_reload_changes_nothing() {
    let directory = Directory::new("panic");
    let one = text("one", "").await;
    let with = |number: u64| {
        let rules = format!("[{{ when: [{{ name: planted, with: {number} }}] }}]");
        format!("{one}authorization: {{ all: {{ action: allow, rules: {rules} }} }}\n")
    };
    directory.write("gateway.yaml", &with(1));
    let gates = Registry::new().predicate("planted", |number: u64| {
        assert_ne!(number, 13, "planted");
        Ok(|_: &portcullis::admission::authz::Facts<'_>| true)
    });
    let config = Config::file(directory.path("gateway.yaml")).gates(gates);
    let gateway = Gateway::start(config).await;
    directory.write("gateway.yaml", &with(13));
    let status = gateway.until(|status| status["lastLoad"]["accepted"] == false).await;
    assert_eq!(status["generation"], 1);
    let fault = status["lastLoad"]["faults"][0].as_str().unwrap();
    assert!(fault.contains("panic"), "{fault}");
    assert!(gateway.get("/", &[]).await.text.starts_with("one"));
    directory.write("gateway.yaml", &with(2));
    let status = gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(status["lastLoad"]["accepted"], true);
}

#[tokio::test]
async fn a_storm_of_changes_is_debounced_and_loses_nothing() {
    let directory = Directory::new("storm");
    let texts = [text("odd", "").await, text("even", "").await];
    directory.write("gateway.yaml", &texts[0]);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let load = Load::start(&gateway);
    for turn in 0..150 {
        let whole = &texts[turn % 2];
        // Half of them are seen half written.
        let end = if turn % 3 == 0 { whole.len() / 2 } else { whole.len() };
        directory.write("gateway.yaml", &whole[..end]);
        sleep(Duration::from_millis(20)).await;
    }
    directory.write("gateway.yaml", &texts[1]);
    gateway.until(|status| status["lastLoad"]["accepted"] == true).await;
    let waiting = async {
        while !gateway.get("/", &[]).await.text.starts_with("even") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    gateway.until(|status| status["lastLoad"]["accepted"] == true).await;
    let generations = gateway.status().await["generation"].as_u64().unwrap();
    assert!(generations < 20, "{generations} of 150");
    assert_eq!(load.lost().await, 0);
}

/// Kubernetes replaces the directory behind a symlink.
#[cfg(unix)]
#[tokio::test]
async fn a_swapped_symlink_is_seen() {
    let directory = Directory::new("symlink");
    for (name, upstream) in [("a", "old"), ("b", "new")] {
        std::fs::create_dir(directory.path(name)).unwrap();
        directory.write(&format!("{name}/gateway.yaml"), &text(upstream, "").await);
    }
    let link = directory.path("data");
    std::os::unix::fs::symlink(directory.path("a"), &link).unwrap();
    let gateway = Gateway::start(Config::file(link.join("gateway.yaml"))).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("old"));
    std::os::unix::fs::symlink(directory.path("b"), directory.path("next")).unwrap();
    std::fs::rename(directory.path("next"), &link).unwrap();
    gateway.until(|status| status["generation"] == 2).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("new"));
}

/// Nothing is read of what is no file, and nobody waits for the other end of a pipe.
#[cfg(unix)]
#[tokio::test]
async fn whatever_stands_in_its_place_changes_nothing() {
    let directory = Directory::new("place");
    let (old, new) = (text("old", "").await, text("new", "").await);
    directory.write("gateway.yaml", &old);
    let path = directory.path("gateway.yaml");
    let gateway = Gateway::start(Config::file(&path)).await;
    let load = Load::start(&gateway);
    let put = |name: &str| {
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir(&path);
        match name {
            "pipe" => {
                let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
                assert!(made.success());
            }
            "directory" => std::fs::create_dir(&path).unwrap(),
            "loop" => std::os::unix::fs::symlink(&path, &path).unwrap(),
            "empty" => directory.write("gateway.yaml", ""),
            "half" => directory.write("gateway.yaml", &old[..old.len() - 5]),
            "large" => directory.write("gateway.yaml", &format!("{new}#{}", " ".repeat(1 << 20))),
            _ => {}
        }
    };
    for (name, why) in [
        ("nothing", "no such file"),
        ("pipe", "not a file"),
        ("directory", "not a file"),
        ("loop", "loop"),
        ("empty", "the file is empty"),
        ("half", "not YAML"),
        ("large", "larger than 1 MiB"),
    ] {
        put(name);
        let is = |status: &serde_json::Value| {
            status["lastLoad"]["faults"][0].as_str().is_some_and(|fault| fault.contains(why))
        };
        // A pipe and a directory are the same to it.
        let status = gateway.until(is).await;
        assert_eq!(
            (&status["generation"], &status["lastLoad"]["accepted"]),
            (&1.into(), &false.into()),
            "{name}"
        );
        assert!(gateway.get("/", &[]).await.text.starts_with("old"), "{name}");
    }
    directory.write("next.yaml", &new);
    std::fs::rename(directory.path("next.yaml"), &path).unwrap();
    gateway.until(|status| status["generation"] == 2).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("new"));
    assert_eq!(load.lost().await, 0);
}

#[tokio::test]
async fn a_file_that_the_file_names_is_followed_too() {
    let directory = Directory::new("named");
    directory.write("keys.yaml", "keys: []\n");
    let more = "authentication: { keys: { apiKey: { keys: { file: keys.yaml } } } }\n";
    directory.write("gateway.yaml", &text("one", more).await);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    directory.write("keys.yaml", "keys: 5\n");
    let status = gateway.until(|status| status["lastLoad"]["accepted"] == false).await;
    assert!(
        status["lastLoad"]["faults"][0].as_str().unwrap().contains("keys.yaml:1:7: keys: expected a list")
    );
    directory.write("keys.yaml", "keys: []\n# again\n");
    gateway.until(|status| status["generation"] == 2).await;
}

/// Neither what stands in the files nor what somebody wrote into the wrong field.
#[tokio::test]
async fn the_admin_address_tells_no_secret() {
    let directory = Directory::new("secrets");
    let (secret, key) = ("TELLTALE".repeat(8), mint("shop", "acme").unwrap());
    directory.write("secret", &secret);
    directory.write("keys.yaml", &format!("keys:\n{}", key.entry().to_yaml()));
    let providers = "authentication:\n  \
                     tokens: { jwt: { issuer: i, audiences: [a], algorithms: [HS256], secret: { file: secret } } }\n  \
                     keys: { apiKey: { keys: { file: keys.yaml } } }\n";
    let one = text("one", providers)
        .await
        .replace("timeouts:", "policies: { authenticate: [tokens, keys] }, timeouts:");
    directory.write("gateway.yaml", &one);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(gateway.get("/", &[("x-api-key", key.reveal())]).await.status, 200);
    assert_eq!(gateway.get("/", &[("authorization", &format!("Bearer {secret}"))]).await.status, 401);
    directory.write("gateway.yaml", &one.replace("file: secret", &format!("file: secret, inline: {secret}")));
    gateway.until(|status| status["lastLoad"]["accepted"] == false).await;
    let hash = key.entry().hash().to_string();
    for path in ["/status", "/metrics", "/readyz", "/", "/quotas/none"] {
        let told = gateway.client.get(gateway.at("admin"), path, &[]).await.text;
        for secret in ["TELLTALE", key.reveal(), &hash] {
            assert!(!told.contains(secret), "{path}: {told}");
        }
    }
}

/// A limit of the same name is the same account, whatever it grants.
#[tokio::test]
async fn limits_are_kept_by_name() {
    let directory = Directory::new("kept");
    let one = upstream("one").await;
    let of = |burst: u32, more: &str| {
        file(&format!(
            "rateLimits: {{ few: {{ key: clientIp, rate: 1/h, burst: {burst} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{ rateLimit: [few] }} {more} }}] }}]\n"
        ))
    };
    directory.write("gateway.yaml", &of(2, ""));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200);
    directory.write("gateway.yaml", &of(2, ", timeouts: { request: 9s }"));
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200);
    assert_eq!(gateway.get("/", &[]).await.status, 429);
    directory.write("gateway.yaml", &of(3, ""));
    gateway.until(|status| status["generation"] == 3).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200, "it grants one more");
    assert_eq!(gateway.get("/", &[]).await.status, 429);
}

/// A new listener is bound before the old is let go; one that cannot be bound changes nothing.
#[tokio::test]
async fn listeners_come_and_go() {
    let directory = Directory::new("listeners");
    let old = text("one", "").await;
    directory.write("gateway.yaml", &old);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let first = gateway.at("public");
    let slow = tokio::spawn(async move { Client::new().get(first, "/slow/3000", &[]).await });
    sleep(Duration::from_millis(200)).await;

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let second = |address| {
        old.replace("name: public, address: 127.0.0.1:0", &format!("name: second, address: {address}"))
    };
    directory.write("gateway.yaml", &second(taken.local_addr().unwrap()));
    let status = gateway.until(|status| status["lastLoad"]["accepted"] == false).await;
    assert!(status["lastLoad"]["faults"][0].as_str().unwrap().contains("cannot be bound"), "{status}");
    assert_eq!(gateway.get("/", &[]).await.status, 200);

    directory.write("gateway.yaml", &second("127.0.0.1:0".parse().unwrap()));
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(gateway.client.get(gateway.at("second"), "/", &[]).await.status, 200);
    assert_eq!(slow.await.unwrap().status, 200, "what was accepted is served");
    gateway.until(|status| status["drainingListeners"].as_array().unwrap().is_empty()).await;
    assert!(Client::new().send("GET", first, "/", &[]).await.is_err());
}

/// At each address somebody listens all the while.
#[tokio::test]
async fn listeners_change_places() {
    let directory = Directory::new("places");
    let (here, there, one) = (nobody(), nobody(), text("one", "").await);
    let with = |public, second| {
        let both = format!("public, address: '{public}' }}, {{ name: second, address: '{second}'");
        one.replace("public, address: 127.0.0.1:0", &both)
    };
    directory.write("gateway.yaml", &with(here, there));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let load = Load::start(&gateway);
    for (generation, public, second) in [(2, there, here), (3, here, there)] {
        directory.write("gateway.yaml", &with(public, second));
        gateway.until(|status| status["generation"] == generation).await;
        assert_eq!((gateway.at("public"), gateway.at("second")), (public, second));
        for at in [here, there] {
            assert_eq!(Client::new().get(at, "/", &[]).await.status, 200);
        }
    }
    assert_eq!(load.lost().await, 0);
}

/// The same address with other settings is another acceptor of the same socket: not a connection is refused.
#[tokio::test]
async fn a_listener_changes_its_settings_where_it_is() {
    let directory = Directory::new("settings");
    let (free, one) = (nobody(), text("one", "").await);
    let with =
        |settings: &str| one.replace("address: 127.0.0.1:0 }]", &format!("address: '{free}'{settings} }}]"));
    directory.write("gateway.yaml", &with(""));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let load = Load::start(&gateway);
    for (generation, settings) in
        [(2, ", maxConnections: 100"), (3, ", trustedProxies: [10.0.0.0/8]"), (4, "")]
    {
        directory.write("gateway.yaml", &with(settings));
        gateway.until(|status| status["generation"] == generation).await;
        // Each connection is a new one.
        assert_eq!(Client::new().get(gateway.at("public"), "/", &[]).await.status, 200);
    }
    assert_eq!(load.lost().await, 0);
}
