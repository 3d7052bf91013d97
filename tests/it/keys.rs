//! `gateway keys`: from a key's making to its end, as an operator types it; and the file that it leaves.
#![cfg(feature = "config")]

use std::{
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use portcullis::{
    authn::api_key::{KeyAdmin, KeyFollower, KeyStore as _, KeyStoreError, KeyUse, Minted, is_key, mint},
    config::{Config, FileKeyStore},
};
use tokio::time::{Instant, sleep};
use tracing::Level;

use crate::{
    gateway::world::{Directory, Gateway, PATIENCE, file, program, upstream},
    support::log::Log,
};

/// What it prints; and whether it says that it was done.
fn told(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(program()).arg("keys").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn done(arguments: &[&str]) -> String {
    let (is, out, err) = told(arguments);
    assert!(is && err.is_empty(), "{arguments:?}: {err}");
    out
}

fn refused(arguments: &[&str]) -> String {
    let (is, out, err) = told(arguments);
    assert!(!is && out.is_empty(), "{arguments:?}: {out}");
    err
}

/// The key on the first line, and its id.
fn made(out: &str) -> (String, String) {
    let key = out.lines().next().unwrap().to_owned();
    let id = out.lines().nth(1).unwrap().split('"').nth(1).unwrap().to_owned();
    assert!(is_key(&key) && key.contains(&id), "{out}");
    assert!(!out[key.len()..].contains(&key[key.len() - 49..]), "the key is printed once: {out}");
    (key, id)
}

/// The same on a file and on a server.
fn life(store: &[&str], directory: &Directory) {
    let with = |words: &[&str]| done(&[words, store].concat());
    let order = [
        "new",
        "--owner",
        "acme",
        "--scopes",
        "orders.write,orders.read",
        "--plan",
        "gold",
        "--notes",
        "ticket 7",
    ];
    let (_, first) = made(&with(&[&order[..], &["--expires", "90d", "--prefix", "shop_live"]].concat()));
    let (key, second) = made(&with(&["rotate", &first, "--overlap", "7d"]));
    assert!(key.starts_with("shop_live_"));
    let list = with(&["list"]);
    assert!(list.lines().count() == 3 && list.contains("acme: orders.write orders.read"), "{list}");
    assert_eq!(with(&["list", "--owner", "nobody"]).lines().count(), 1);
    assert!(with(&["revoke", &first]).contains("revoked: \"20"));
    assert!(with(&["list"]).contains(&format!("{first}  revoked")));
    let shown = with(&["show", &second]);
    for line in ["owner: \"acme\"", "plan: \"gold\"", "notes: \"ticket 7\"", "expires: \"20", "created: \"20"]
    {
        assert!(shown.contains(line), "{shown}");
    }

    let backup = with(&["export"]);
    assert!(backup.starts_with("keys:\n- id: ") && !backup.contains(&key));
    directory.write("backup.yaml", &backup);
    let path = directory.path("backup.yaml");
    let path = path.to_str().unwrap();
    assert_eq!(with(&["import", path]), "0 put back, 2 kept as they were\n");

    directory.write("pepper", "a pepper that is as long as it has to be\n");
    let pepper = format!("2026={}", directory.path("pepper").display());
    assert_eq!(with(&["rehash", "--pepper", &pepper]), "2 hashes are under the pepper now\n");
    assert!(with(&["show", &second]).contains("hash: \"hmac-sha256:2026:"));
    assert_eq!(with(&["prune", "--older", "1d"]), "0 keys forgotten\n");
    assert_eq!(with(&["import", path, "--replace"]), "2 put back, 0 kept as they were\n");
    assert!(with(&["show", &first]).contains("revoked: "));
    let unknown = refused(&[&["show", "0123456789ab"], store].concat());
    assert_eq!(unknown, "gateway: there is no key with the id \"0123456789ab\"\n");
}

#[test]
fn the_life_of_a_key_in_a_file() {
    let directory = Directory::new("keys-file");
    let file = directory.path("keys.yaml");
    life(&["--store", file.to_str().unwrap()], &directory);
    // What it leaves is a key file, which nobody else can read.
    assert_eq!(FileKeyStore::new(&file).load().unwrap().len(), 2);
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777,
        0o600
    );
}

#[cfg(feature = "redis")]
#[test]
fn the_life_of_a_key_on_a_server() {
    let server = crate::support::redis::Server::start();
    let directory = Directory::new("keys-server");
    life(&["--store", &server.url(), "--set", "partners"], &directory);
    assert!(refused(&["list", "--store", &server.url()]).contains("--set NAME"));
    let password = format!("redis://me:hush@{}", server.address);
    let said = refused(&["list", "--store", &password, "--set", "partners"]);
    assert!(said.contains("in a file") && !said.contains("hush"), "{said}");
}

#[test]
fn a_key_without_a_store_is_an_entry_to_paste() {
    let out = done(&["new", "--owner", "acme", "--scopes", "orders.write,orders.read", "--expires", "90d"]);
    let (key, _) = made(&out);
    assert!(key.starts_with("pc_"));
    let directory = Directory::new("keys-paste");
    directory.write("keys.yaml", &format!("keys:\n{}", &out[key.len() + 1..]));
    assert_eq!(FileKeyStore::new(directory.path("keys.yaml")).load().unwrap()[0].owner(), "acme");
}

#[test]
fn a_list_may_be_empty_and_end_with_a_comma() {
    let new = |list| done(&["new", "--owner", "acme", "--scopes", list, "--roles", list]);
    for list in ["", " ", ","] {
        let out = new(list);
        assert!(!out.contains("scopes") && !out.contains("roles"), "{list:?}: {out}");
    }
    assert!(new("a, b,").contains("  scopes: [\"a\", \"b\"]\n  roles: [\"a\", \"b\"]\n"));
}

#[test]
fn what_is_not_understood_is_said() {
    for (arguments, says) in [
        (&["frob"][..], "`keys` can do one of"),
        (&[], "`keys` needs one of"),
        (&["show"], "`keys show` needs ID"),
        (&["list", "--frob", "x"], "`keys list` does not know `--frob`"),
        (&["list", "--store"], "`--store` needs a value"),
        (&["list", "--store", "a", "--store", "b"], "`--store` stands there twice"),
        (&["new"], "needs `--owner NAME`"),
        (&["new", "--owner", "a", "--expires", "0d"], "expected a time such as `90d`"),
        (&["new", "--owner", "a", "--expires", "90days"], "--expires: at byte 2"),
        (&["new", "--owner", "a", "--pepper", "x"], "expected NAME=FILE"),
        (&["list"], "`--store` is needed"),
        (&["list", "--store", "/no/such/file"], "/no/such/file"),
        (&["new", "--owner", "--scopes"], "`--owner` needs a value"),
        (&["new", "--owner", " "], "needs `--owner NAME`"),
        (
            &["new", "--owner", "a", "--scopes", "read write"],
            "--scopes: expected words with commas between them",
        ),
        (&["new", "--owner", "a", "--roles", "a,,b"], "--roles: expected words with commas between them"),
        (&["new", "--owner", "a", "--roles", "a,,"], "--roles: expected words with commas between them"),
        (&["new", "--owner", "a", "--not-before", "2d", "--expires", "1d"], "it would end before it begins"),
        (&["new", "--owner", "a", "--expires", "-1d"], "--expires: at byte 0: no number"),
        (
            &["new", "--owner", "a", "--expires", "99999999d"],
            "--expires: at byte 0: a number of more than 5 digits",
        ),
        (&["new", "--owner", "a", "--prefix", "A B"], "expected a prefix of"),
        (&["new", "--owner", "a", "--pepper", "p=/no/such"], "--pepper: /no/such: "),
        (&["new", "--owner", "a", "--store", "/no/such/keys.yaml"], "/no/such/keys.yaml: "),
        (&["new", "--owner", "a", "--set", "partners"], "`--set` is for a `--store` on a server"),
        (&["list", "--store", "keys.yaml", "--roots", "r"], "`--roots` is for a `--store` on a server"),
    ] {
        let said = refused(arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}

fn entries(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_file_is_replaced_as_a_whole_and_keeps_what_is_not_about_keys() {
    let directory = Directory::new("keys-replace");
    let path = directory.path("keys.yaml");
    directory.write("keys.yaml", "# Whose keys these are.\n\nkeys: []\n");
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let admin = KeyAdmin::new(FileKeyStore::new(&path));
    let makes: Vec<_> = (0..6)
        .map(|i| {
            let admin = admin.clone();
            tokio::spawn(async move { drop(admin.create(mint("a", format!("{i}")).unwrap()).await.unwrap()) })
        })
        .collect();
    // Whoever reads meanwhile reads a whole file.
    while !makes.iter().all(tokio::task::JoinHandle::is_finished) {
        assert!(FileKeyStore::new(&path).load().is_ok());
        tokio::task::yield_now().await;
    }
    for make in makes {
        make.await.unwrap();
    }
    let text = entries(&path);
    assert!(text.starts_with("# Whose keys these are.\n\nkeys:\n- id: "), "{text}");
    assert_eq!(admin.list().await.unwrap().len(), 6);
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777,
        0o640
    );
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");

    // When keys were used stands beside the file, and is no change of it.
    let store = FileKeyStore::new(&path);
    let version = store.read(None).await.unwrap().unwrap().version;
    let id = admin.list().await.unwrap()[0].id().to_owned();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for seconds in [100, 200, 150] {
        store.used(vec![KeyUse::new(&id, at(seconds))]).await.unwrap();
    }
    assert!(store.read(Some(version)).await.unwrap().is_none());
    assert_eq!(admin.find(&id).await.unwrap().last_use(), Some(at(200)));
    assert_eq!(entries(&path), text);
    directory.write("keys.yaml.used", "nonsense\n\u{0}\u{0} 7\n0123456789ab x\n");
    assert_eq!(admin.find(&id).await.unwrap().last_use(), None);

    // A file that is no list of keys says where; and nothing is written over it.
    directory.write("keys.yaml", "keys:\n- id: \"0123456789ab\"\n  owner: \"acme\"\n  secret: hush\n");
    let Err(KeyStoreError::Malformed(why)) = store.read(None).await else { panic!("it was read") };
    assert!(why.contains("keys.yaml:2:") && why.contains("keys.yaml:4:") && !why.contains("hush"), "{why}");
    assert!(admin.create(mint("a", "b").unwrap()).await.is_err());
    assert!(entries(&path).contains("secret"));
}

/// A key that is revoked in its file is refused even while the gateway's own file is wrong.
#[tokio::test]
async fn a_revocation_in_a_file_does_not_wait_for_the_rest_of_the_configuration() {
    let directory = Directory::new("keys-follow");
    let path = directory.path("keys.yaml");
    let admin = KeyAdmin::new(FileKeyStore::create(&path).unwrap());
    let key = admin.create(mint("shop", "acme").unwrap()).await.unwrap();
    let upstream = upstream("one").await;
    let text = file(&format!(
        "authentication: {{ partners: {{ apiKey: {{ keys: {{ file: keys.yaml }} }} }} }}\n\
         upstreams: {{ one: {{ endpoints: [{upstream}] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ authenticate: [partners] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    ));
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let status = async || gateway.get("/", &[("x-api-key", key.reveal())]).await.status;
    assert_eq!(status().await, 200);

    directory.write("gateway.yaml", &format!("{text}nonsense: true\n"));
    gateway.until(|status| status["lastLoad"]["accepted"] == false).await;
    admin.revoke(key.entry().id()).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while status().await != 401 {
        assert!(Instant::now() < until, "the revoked key is still good");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.status().await["apiKeys"][0]["keys"], 1);
}

/// Also while somebody puts another file there all the time.
#[tokio::test(start_paused = true)]
async fn a_revocation_in_a_file_is_in_force_within_two_seconds() {
    let directory = Directory::new("keys-restless");
    let path = directory.path("keys.yaml");
    let store = FileKeyStore::create(&path).unwrap();
    let admin = KeyAdmin::new(store.clone());
    let keys = KeyFollower::new("partners", Arc::new(store)).start().await;
    let is_valid = |key: &Minted| keys.current().unwrap().verify(key.reveal(), SystemTime::now()).is_ok();
    for pause in [100, 240, 260, 400, 900] {
        let key = admin.create(mint("shop", "acme").unwrap()).await.unwrap();
        sleep(Duration::from_millis(1_990)).await;
        assert!(is_valid(&key));
        admin.revoke(key.entry().id()).await.unwrap();
        let revoked = Instant::now();
        while revoked.elapsed() + Duration::from_millis(pause) < Duration::from_secs(2) {
            sleep(Duration::from_millis(pause)).await;
            let text = fs::read_to_string(&path).unwrap();
            directory.write("next.yaml", &format!("# {pause}\n{text}"));
            fs::rename(directory.path("next.yaml"), &path).unwrap();
        }
        tokio::time::sleep_until(revoked + Duration::from_millis(1_990)).await;
        assert!(!is_valid(&key), "with another file each {pause} ms");
    }
}

/// Wrong keys from one address are answered 429 with the time to wait, and its right one passes.
#[tokio::test]
async fn a_gateway_answers_429_to_whoever_fails_too_often() {
    let (log, _guard) = Log::start_at(Level::TRACE);
    let directory = Directory::new("keys-failures");
    let admin = KeyAdmin::new(FileKeyStore::create(directory.path("keys.yaml")).unwrap());
    let key = admin.create(mint("shop", "acme").unwrap()).await.unwrap();
    let upstream = upstream("one").await;
    directory.write(
        "gateway.yaml",
        &file(&format!(
            "authentication: {{ partners: {{ apiKey: {{ keys: {{ file: keys.yaml }}, failureLimit: 3/h }} }} }}\n\
             upstreams: {{ one: {{ endpoints: [{upstream}] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ authenticate: [partners] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        )),
    );
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let wrong = mint("shop", "stranger").unwrap();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(gateway.get("/", &[("x-api-key", wrong.reveal())]).await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    let answer = gateway.get("/", &[("x-api-key", "typo")]).await;
    assert_eq!(answer.status, 429);
    assert!((1..=1200).contains(&answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap()));
    assert_eq!(gateway.get("/", &[("x-api-key", key.reveal())]).await.status, 200);
    assert_eq!(gateway.get("/", &[]).await.status, 401);

    // A file that is none is told of, and what stands in it is not. Nor is a key anywhere.
    directory.write("keys.yaml", "keys:\n- id: \"0123456789ab\"\n  owner: \"acme\"\n  secret: TELLTALE\n");
    let told = async {
        while !log.ours().iter().any(|line| line.contains("keys.yaml:4:")) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("told");
    let secret = |key: &Minted| key.reveal().rsplit('_').next().unwrap().to_owned();
    let lines = log.ours();
    for secret in ["TELLTALE".to_owned(), secret(&key), secret(&wrong)] {
        let told: Vec<_> = lines.iter().filter(|line| line.contains(&secret)).collect();
        assert!(told.is_empty(), "{secret}: {told:?}");
    }
}

/// The blocks of the guide in this language.
fn blocks(language: &str) -> Vec<String> {
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/api_keys.md")).unwrap();
    let begin = format!("```{language}\n");
    guide.split(&begin).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// The guide's commands, one after the other in one directory, as somebody types them who reads it.
#[cfg(feature = "redis")]
#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    let server = crate::support::redis::Server::start();
    let directory = Directory::new("keys-guide");
    let mut id = String::new();
    for block in blocks("sh") {
        let script = format!("set -e\ngateway() {{ {:?} \"$@\"; }}\n{block}", program());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(directory.path("")).env("ID", &id).env("REDIS", server.url());
        let output = shell.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{block}\n{out}\n{err}");
        if id.is_empty() {
            id = made(&out).1;
        }
    }
    let kept = FileKeyStore::new(directory.path("keys.yaml")).load().unwrap();
    assert_eq!(kept.iter().filter(|entry| entry.revocation().is_some()).count(), 1);
    assert!(kept.len() == 3 && kept.iter().all(|entry| entry.hash().pepper() == Some("2026")));
    let shared = done(&["list", "--store", &server.url(), "--set", "partners"]);
    assert_eq!(shared.lines().count(), 1 + 3, "{shared}");
}

/// The guide's files are accepted.
#[test]
fn the_files_of_the_guide_are_accepted() {
    let directory = Directory::new("keys-guide-files");
    for name in ["keys.yaml", "pepper", "redis-password"] {
        directory.write(
            name,
            if name == "keys.yaml" { "keys: []\n" } else { "a secret that is as long as it has to be\n" },
        );
    }
    let [whole, peppers, server] = &blocks("yaml")[..] else { panic!("three files were expected") };
    let before = "      keys: { file: keys.yaml }\n";
    let indented: String = peppers.lines().skip(1).map(|line| format!("    {line}\n")).collect();
    let (head, tail) = whole.split_once("authentication:").unwrap();
    let (_, tail) = tail.split_once("upstreams:").unwrap();
    for text in [whole.clone(), whole.replace(before, &indented), format!("{head}{server}upstreams:{tail}")] {
        directory.write("gateway.yaml", &text);
        let check = Config::file(directory.path("gateway.yaml")).check();
        assert!(check.is_accepted(), "{check}\n{text}");
    }
}

/// Where keys are and how they are guarded: what is wrong is told at its place, and no secret with it.
#[cfg(feature = "redis")]
#[test]
fn what_is_wrong_with_a_store_is_told_at_its_place() {
    let directory = Directory::new("keys-faults");
    let id = "id: \"0123456789ab\"";
    let hash = "0a".repeat(32);
    let entry = format!("keys:\n- {id}\n  hash: hmac-sha256:other:{hash}\n  owner: acme\n");
    for (name, text) in [("keys.yaml", "keys: []\n"), ("peppered.yaml", &entry), ("short", "TELLTALE\n")] {
        directory.write(name, text);
    }
    directory.write("pepper", "a secret that is as long as it has to be\n");
    #[cfg(unix)]
    for (name, mode) in [("pepper", 0o644), ("keys.yaml", 0o666), ("short", 0o600), ("peppered.yaml", 0o600)]
    {
        fs::set_permissions(directory.path(name), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    }
    let text = "apiVersion: portcullis/v1alpha1
listeners: [{ name: public, address: 127.0.0.1:0 }]
redis:
  password: { url: 'redis://me:TELLTALE@127.0.0.1' }
  form: { url: 'http://127.0.0.1' }
  missing: { url: 'redis://127.0.0.1', password: { file: none } }
  sound: { url: 'rediss://127.0.0.1', password: { file: pepper }, roots: { file: pepper } }
authentication:
  neither: { apiKey: { keys: {} } }
  both: { apiKey: { keys: { file: keys.yaml, redis: sound } } }
  set: { apiKey: { keys: { file: keys.yaml, set: a } } }
  unknown: { apiKey: { keys: { redis: soun } } }
  short: { apiKey: { keys: { file: keys.yaml }, peppers: { a: { file: short } } } }
  named: { apiKey: { keys: { file: keys.yaml }, peppers: { A: { file: pepper } } } }
  other: { apiKey: { keys: { file: peppered.yaml }, peppers: { a: { file: pepper } } } }
  limit: { apiKey: { keys: { file: keys.yaml }, failureLimit: often } }
routes: []
";
    directory.write("gateway.yaml", text);
    let check = Config::file(directory.path("gateway.yaml")).check().to_string();
    assert!(!check.contains("TELLTALE"), "{check}");
    let base = format!("{}/", directory.path("").display().to_string().trim_end_matches('/'));
    for fault in [
        "gateway.yaml:4:15: redis.password.url: the password must not stand in the address, but in a file",
        "gateway.yaml:5:11: redis.form.url: expected `redis://host:port/database` or `rediss://...`",
        "gateway.yaml:6:52: redis.missing.password.file: cannot be read: no such file",
        "gateway.yaml:7:51: warning: redis.sound.password.file: this secret can be read by everybody on this machine",
        "gateway.yaml:7:76: redis.sound.roots.file: no root certificate was found",
        "gateway.yaml:9:24: authentication.neither.apiKey.keys: expected exactly one of `file` and `redis`",
        "gateway.yaml:10:21: authentication.both.apiKey.keys: expected exactly one of `file` and `redis`",
        "gateway.yaml:11:45: authentication.set.apiKey.keys.set: a file holds the keys of one provider",
        "gateway.yaml:12:32: authentication.unknown.apiKey.keys.redis: no server of this name; did you mean `sound`?",
        "gateway.yaml:13:65: authentication.short.apiKey.peppers.a.file: a pepper has at least 32 bytes",
        "gateway.yaml:14:65: authentication.named.apiKey.peppers.A.file: a pepper's name is 1 to 32 lower-case letters, digits and `-`",
        "peppered.yaml:3:3: keys[0].hash: there is no pepper of this name",
        "gateway.yaml:16:63: authentication.limit.apiKey.failureLimit: expected a rate such as",
    ] {
        assert!(check.contains(&format!("{base}{fault}")), "{fault}\n{check}");
    }
    assert!(
        check.contains(
            "warning: authentication.limit.apiKey.keys.file: this file can be written by everybody"
        )
    );
}
