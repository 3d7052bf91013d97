//! The program: its demonstration, its sub-commands, its signals.
use std::{
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::world::{Client, Directory, PATIENCE, Process, file, nobody, program, upstream, yaml_of};

pub(super) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program()).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The README's promise: five lines, pasted into a shell.
#[tokio::test]
async fn the_five_lines_do_what_they_say() {
    let mut demo = Process::start(&[]);
    let mut lines = Vec::new();
    while lines.len() < 5 {
        let line = demo.line().await;
        if line.starts_with("curl ") {
            lines.push(line);
        }
    }
    let paste = |line: &str| {
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let refused = paste(&lines[0]);
    assert!(
        refused.starts_with("HTTP/1.1 401 ") && refused.contains("www-authenticate: Bearer"),
        "{refused}"
    );
    let served = paste(&lines[1]);
    assert!(served.starts_with("HTTP/1.1 200 ") && served.ends_with("orders for alice\n"), "{served}");
    let limited = paste(&lines[2]);
    assert_eq!(limited.lines().next(), Some("200"));
    assert_eq!(limited.lines().count(), 15);
    assert!(limited.lines().any(|status| status == "429"), "{limited}");
    let shares = paste(&lines[3]);
    let share = |version: &str| -> u32 {
        let line = shares.lines().find(|line| line.ends_with(version)).unwrap_or("0");
        line.trim().split(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(share("catalogue v1") + share("catalogue v2"), 1000, "{shares}");
    assert!((1..100).contains(&share("catalogue v2")), "{shares}");
    let metrics = paste(&lines[4]);
    assert!(
        metrics.contains(r#"portcullis_requests_total{route="orders/0",method="GET",status="401""#),
        "{metrics}"
    );
    assert!(metrics.contains("portcullis_config_generation 1"), "{metrics}");
    demo.signal("TERM");
    assert_eq!(demo.exit().await, Some(0));
}

/// The README's file, for upstreams of one's own.
#[tokio::test]
async fn the_file_of_the_readme_is_accepted_and_serves() {
    let readme = include_str!("../../../README.md");
    let text = yaml_of(readme)[0];
    let directory = Directory::new("readme");
    directory.write("gateway.yaml", text);
    let (code, said, _) = run(&["check", directory.path("gateway.yaml").to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let [one, two] = [upstream("one").await, upstream("two").await].map(|address| address.to_string());
    let text = text.replace("127.0.0.1:9001", &one).replace("127.0.0.1:9002", &two);
    let mut gateway = Process::of(&directory, &text.replace("127.0.0.1:8080", "127.0.0.1:0"));
    let (at, client) = (gateway.addresses(1).await["public"], Client::new());
    let [first, second] =
        [client.get(at, "/api/orders/7", &[]).await.text, client.get(at, "/api/orders/7", &[]).await.text];
    let served = [&first, &second].map(|text| text.lines().next().unwrap_or_default());
    assert!(served.contains(&"one /api/orders/7") && served.contains(&"two /api/orders/7"), "{served:?}");
    assert_eq!(client.get(at, "/other", &[]).await.status, 404);
}

/// Each file is accepted as it stands, beside the files that it names; and what the guide says of the first ones is so.
#[cfg(feature = "tls")]
#[tokio::test]
async fn the_guide_to_a_file_of_ones_own_does_what_it_says() {
    let guide = include_str!("../../../docs/guides/your_own_file.md");
    let [least, places, callers, machine] = yaml_of(guide)[..] else { panic!("four files") };
    let directory = Directory::new("own");
    let path = |name: &str| directory.path(name).to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["shop.example".to_owned()]).unwrap();
    std::fs::create_dir(directory.path("tls")).unwrap();
    directory.write("tls/fullchain.pem", &params.self_signed(&key).unwrap().pem());
    directory.write("tls/privkey.pem", &key.serialize_pem());
    let minted = guide.lines().find_map(|line| line.strip_prefix("gateway keys new ")).unwrap();
    let store = path("keys.yaml");
    let minted: Vec<_> =
        minted.split(' ').map(|word| if word == "keys.yaml" { &*store } else { word }).collect();
    let (code, said, _) = run(&[&["keys", "new"], &*minted].concat());
    assert_eq!(code, Some(0));
    let key = said.lines().next().unwrap();
    for (text, public) in [(least, 1), (places, 3), (callers, 1), (machine, 1)] {
        directory.write("gateway.yaml", text);
        let (code, said, _) = run(&["check", &path("gateway.yaml")]);
        assert_eq!(code, Some(0), "{said}");
        let rules: Vec<_> = said.lines().skip_while(|line| !line.contains("accepted")).skip(1).collect();
        assert_eq!(rules.len(), public, "{said}");
    }

    let client = Client::new();
    let serve = async |text: &str, from: &str| {
        let there = upstream("there").await.to_string();
        let text = text.replace(from, &there).replace("127.0.0.1:8080", "127.0.0.1:0");
        let mut gateway = Process::of(&directory, &text);
        let at = gateway.addresses(1).await["public"];
        (gateway, at)
    };
    let (_least, at) = serve(least, "127.0.0.1:9001").await;
    let answer = client.get(at, "/api/orders/7", &[("host", "shop.example")]).await;
    assert!(answer.text.starts_with("there /api/orders/7\n"), "{answer:?}");
    for line in [
        "host: shop.example",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example",
    ] {
        assert!(answer.text.lines().any(|told| told == line), "{line}: {answer:?}");
    }
    let (_callers, at) = serve(callers, "127.0.0.1:9001").await;
    let shown = [("x-api-key", key)];
    let answer = client.get(at, "/api/orders", &shown).await;
    assert!(answer.text.contains("x-partner: acme\n") && !answer.text.contains(key), "{answer:?}");
    for (path, status) in [("/api/orders", 401), ("/docs/a", 200), ("/other", 404), ("/docs%2Fa", 400)] {
        assert_eq!(client.get(at, path, &[]).await.status, status, "{path}");
    }
    let without = places.replace("    tls: {} ", "    ").replace("127.0.0.1:8080", "127.0.0.1:0");
    assert_ne!(without, places);
    let (_places, at) = serve(&without, "api.payments.example:443").await;
    let answer = client.get(at, "/pay/v1/charges", &[("host", "shop.example")]).await;
    assert!(answer.text.starts_with("there /v1/charges\n"), "{answer:?}");
    assert!(answer.text.contains("host: api.payments.example\n"), "{answer:?}");
}

#[test]
fn check_says_what_is_wrong_and_exits_accordingly() {
    let (code, said, _) = run(&["check", "tests/data/shop/gateway.yaml"]);
    assert_eq!(code, Some(0));
    assert!(said.ends_with("which ask nobody who they are:\n  catalogue/0\n"), "{said}");
    let (code, said, _) = run(&["check", "tests/data/faulty/gateway.yaml"]);
    assert_eq!(code, Some(1));
    assert!(said.ends_with("tests/data/faulty/gateway.yaml: refused\n"), "{said}");
}

#[test]
fn a_bad_file_at_the_start_is_the_end() {
    let (code, _, said) = run(&["--config", "tests/data/faulty/gateway.yaml"]);
    assert_eq!(code, Some(1));
    assert!(said.lines().count() > 50 && said.contains("gateway.yaml:4:1: tracing: unknown field"), "{said}");
}

#[test]
fn what_is_not_understood_is_told_with_the_usage() {
    for (arguments, mistake) in [
        (&["serve"][..], "what does `serve` mean here?"),
        (&["--config"], "`--config` needs one file"),
        (&["keys", "new"], "`keys new` needs `--owner NAME`"),
        (&["keys", "new", "--owner"], "`--owner` needs a value"),
        (&["keys", "new", "--owner", "a", "--ever", "x"], "`keys new` does not know `--ever`"),
        (&["keys", "old"], "`keys` can do one of `export`, "),
        (&["check"], "`check` needs one file"),
        (&["check", "a", "b"], "`check` needs one file"),
        (&["--config", "a", "b"], "`--config` needs one file"),
        (&["explain", "all"], "`explain` takes nothing more, and what is `all`?"),
        (&["--version", "x"], "`--version` takes nothing more"),
        (&["-x"], "what does `-x` mean here?"),
    ] {
        let (code, _, said) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(said.contains(mistake) && said.contains("usage: gateway"), "{said}");
    }
    for asks in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["keys", "--help"],
        &["keys", "new", "-h"],
        &["check", "--help"],
    ] {
        let (code, said, _) = run(asks);
        assert!(code == Some(0) && said.starts_with("usage: gateway"), "{asks:?}: {said}");
    }
    let (code, said, _) = run(&["--version"]);
    assert!(code == Some(0) && said.trim_end() == env!("CARGO_PKG_VERSION"), "{said}");
    let (code, said, _) = run(&["explain"]);
    assert!(code == Some(0) && said.starts_with("1. rescue"), "{said}");
    let (code, said, _) = run(&["schema"]);
    assert!(code == Some(0) && serde_json::from_str::<serde_json::Value>(&said).is_ok());
}

/// Whoever reads may stop. What cannot be written was not done; and a gateway serves whether or not anybody hears where.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_nobody_reads_breaks_nothing() {
    let told = |said: &str, to: Stdio| {
        let output = Command::new(program()).args(said.split(' ')).stdout(to).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let unread = || Stdio::from(std::io::pipe().unwrap().1);
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(told("schema", unread()), (Some(0), String::new()));
    for said in ["--help", "keys new --owner acme"] {
        let (code, why) = told(said, full());
        assert!(code == Some(1) && why.starts_with("gateway: ") && why.lines().count() == 1, "{said}: {why}");
    }
    let (code, why) = told("keys new --owner acme", unread());
    assert!(code == Some(1) && why.contains("Broken pipe"), "a key that is lost: {why}");

    let directory = Directory::new("unheard");
    let at = nobody();
    directory.write(
        "gateway.yaml",
        &file("").replace("public, address: 127.0.0.1:0", &format!("public, address: '{at}'")),
    );
    let mut command = Command::new(program());
    command.arg("--config").arg(directory.path("gateway.yaml"));
    command.stdout(full()).stderr(Stdio::null());
    let mut gateway = command.spawn().unwrap();
    let client = Client::new();
    while client.send("GET", at, "/", &[]).await.is_err() {
        assert!(gateway.try_wait().unwrap().is_none(), "it ended");
        sleep(Duration::from_millis(20)).await;
    }
    gateway.kill().unwrap();
    gateway.wait().unwrap();
}

/// The demonstration says why it is on other ports, and not each request; and what it wrote goes with it.
#[tokio::test]
async fn the_demonstration_beside_another() {
    let directory = Directory::new("demo");
    let said = directory.path("said");
    // Another demonstration may have it, and be gone before ours begins; who has it all the while will do as well.
    let taken = timeout(PATIENCE, async {
        loop {
            match std::net::TcpListener::bind("127.0.0.1:8080") {
                Ok(listener) => return listener,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let taken = taken.await.ok();
    let mut command = tokio::process::Command::new(program());
    command.env("TMPDIR", directory.path("")).stdout(Stdio::piped()).kill_on_drop(true);
    command.stderr(std::fs::File::create(&said).unwrap());
    let mut demo = Process::spawn(&mut command);
    let line = loop {
        let line = demo.line().await;
        if line.starts_with("curl ") {
            break line;
        }
    };
    assert!(Command::new("sh").args(["-c", &line]).output().unwrap().status.success());
    let entries = || std::fs::read_dir(directory.path("")).unwrap().map(|entry| entry.unwrap());
    let made = entries().find(|entry| entry.path() != said).unwrap();
    assert!(made.path().join("gateway.yaml").exists());
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&made.metadata().unwrap().permissions()) & 0o777,
        0o700
    );
    demo.signal("INT");
    assert_eq!(demo.exit().await, Some(0));
    assert_eq!(entries().count(), 1, "what it made is gone");
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.contains("cannot be bound to 127.0.0.1:8080") && said.contains("on other ports"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    drop(taken);
}

/// A file has whatever name it has.
#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_name_is_not_utf8_is_checked() {
    use std::os::unix::ffi::OsStrExt as _;

    let directory = Directory::new("names");
    let path = directory.path("").join(std::ffi::OsStr::from_bytes(b"caf\xe9.yaml"));
    std::fs::write(&path, file("")).unwrap();
    let output = Command::new(program()).arg("check").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output =
        Command::new(program()).args(["keys", "new", "--owner"]).arg(path.file_name().unwrap()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("arguments are UTF-8"), "{output:?}");
}

#[tokio::test]
async fn a_minted_key_opens_what_its_scopes_say() {
    let minted =
        ["keys", "new", "--owner", "acme", "--scopes", "orders.write,orders.read", "--expires", "90d"];
    let (code, said, _) = run(&minted);
    assert_eq!(code, Some(0));
    let (key, entry) = said.split_once('\n').unwrap();
    assert!(entry.starts_with("- id:") && !entry.contains(key), "{said}");
    let (_, expired, _) = run(&["keys", "new", "--owner", "late", "--expires", "1ms"]);
    let (late, late_entry) = expired.split_once('\n').unwrap();

    let directory = Directory::new("keys");
    directory.write("keys.yaml", &format!("keys:\n{entry}{late_entry}"));
    let mut gateway = Process::of(
        &directory,
        &file(&format!(
            "authentication: {{ partners: {{ apiKey: {{ keys: {{ file: keys.yaml }} }} }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes:\n\
         - name: r\n\
         \x20 rules:\n\
         \x20 - {{ matches: [{{ path: {{ value: /orders }} }}], backendRefs: [{{ name: one }}],\n\
         \x20     policies: {{ authenticate: [partners], authorize: {{ scopes: {{ all: [orders.write] }} }} }} }}\n\
         \x20 - {{ matches: [{{ path: {{ value: /admin }} }}], backendRefs: [{{ name: one }}],\n\
         \x20     policies: {{ authenticate: [partners], authorize: {{ scopes: {{ all: [admin] }} }} }} }}\n",
            upstream("one").await
        )),
    );
    let at = gateway.addresses(2).await["public"];
    let client = Client::new();
    assert_eq!(client.get(at, "/orders", &[]).await.status, 401);
    assert_eq!(client.get(at, "/orders", &[("x-api-key", &format!("{key}x"))]).await.status, 401);
    assert_eq!(client.get(at, "/orders", &[("x-api-key", late)]).await.status, 401);
    let served = client.get(at, "/orders", &[("x-api-key", key)]).await;
    assert_eq!(served.status, 200);
    assert!(!served.text.contains(key), "no upstream sees a key");
    assert_eq!(client.get(at, "/admin", &[("x-api-key", key)]).await.status, 403);
}

/// SIGTERM: `/readyz` says so while requests are still taken, then nothing new is taken, and what is in flight ends.
#[tokio::test]
async fn sigterm_drains() {
    let directory = Directory::new("drain");
    let mut gateway = Process::of(
        &directory,
        &file(&format!(
            "shutdown: {{ delay: 1s, grace: 30s }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n",
            upstream("one").await
        )),
    );
    let addresses = gateway.addresses(2).await;
    let (at, admin) = (addresses["public"], addresses["admin"]);
    let client = Client::new();
    assert_eq!(client.get(admin, "/readyz", &[]).await.status, 200);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.get(at, "/slow/3000", &[]).await }
    });
    let stream = tokio::spawn({
        let client = client.clone();
        async move { client.get(at, "/trickle/50", &[]).await }
    });
    while client.get(admin, "/status", &[]).await.text.matches("\"inFlight\": 2").count() == 0 {
        sleep(Duration::from_millis(10)).await;
    }

    let told = Instant::now();
    gateway.signal("TERM");
    while client.get(admin, "/readyz", &[]).await.status == 200 {
        sleep(Duration::from_millis(5)).await;
    }
    // During the delay whoever has not heard of it yet is served.
    if told.elapsed() < Duration::from_millis(500) {
        assert_eq!(Client::new().get(at, "/late", &[]).await.status, 200);
    }
    assert_eq!(slow.await.unwrap().status, 200);
    let stream = stream.await.unwrap();
    assert!(stream.text.ends_with("49\n"), "{}", stream.text);
    assert!(Client::new().send("GET", at, "/", &[]).await.is_err(), "nothing new is taken");
    assert_eq!(gateway.exit().await, Some(0));
}

#[tokio::test]
async fn a_second_sigterm_cuts() {
    let directory = Directory::new("cut");
    let mut gateway = Process::of(
        &directory,
        &file(&format!(
            "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], timeouts: {{ request: 0s }} }}] }}]\n",
            upstream("one").await
        )),
    );
    let addresses = gateway.addresses(2).await;
    let (at, admin) = (addresses["public"], addresses["admin"]);
    let endless = tokio::spawn(async move { Client::new().send("GET", at, "/slow/600000", &[]).await });
    let client = Client::new();
    while client.get(admin, "/status", &[]).await.text.matches("\"inFlight\": 1").count() == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    gateway.signal("TERM");
    while client.get(admin, "/readyz", &[]).await.status == 200 {
        sleep(Duration::from_millis(5)).await;
    }
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await, Some(0));
    assert!(endless.await.unwrap().is_err());
}

#[tokio::test]
async fn sighup_looks_again() {
    let directory = Directory::new("hangup");
    let text = file(&format!("upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n", upstream("one").await));
    let mut gateway = Process::of(&directory, &text);
    let admin = gateway.addresses(2).await["admin"];
    gateway.signal("HUP");
    let client = Client::new();
    while !client.get(admin, "/status", &[]).await.text.contains("\"generation\": 2") {
        sleep(Duration::from_millis(10)).await;
    }
}
