//! What goes wrong, on either side of a gateway: a status, a line and a number for each.
use portcullis::config::Config;
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{
    super::support::log::Log,
    serving::rule,
    world::{Directory, Gateway, PATIENCE, file, nobody, upstream},
};

/// An answer that goes on for ever, as fast as it is read.
const POURS: &str = "HTTP/1.1 200 OK\r\n\r\n";

/// An upstream that answers each request with these bytes, and closes at once or never.
async fn broken(answer: &'static str, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut line, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                while !heard.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = line.read_u8().await else { return };
                    heard.push(byte);
                }
                let _ = line.write_all(answer.as_bytes()).await;
                while answer == POURS && line.write_all(&[b'.'; 65_536]).await.is_ok() {}
                if !closes {
                    let _ = line.read_u8().await;
                }
            });
        }
    });
    address
}

/// A gateway that refuses in every way it knows. It takes its time on the listener `public`, but not on `strict`; on `behind`
/// peers speak for others.
async fn refuser() -> (Gateway, Directory) {
    let upstreams = [
        ("one", upstream("one").await.to_string()),
        ("gone", nobody().to_string()),
        ("unresolved", "no-such-host.invalid:80".to_owned()),
        ("cut-head", broken("HTTP/1.1 200 OK\r\ncontent-le", true).await.to_string()),
        ("cut-body", broken("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", true).await.to_string()),
        ("garbage", broken("hello\r\n\r\n", false).await.to_string()),
        (
            "endless",
            broken("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", false)
                .await
                .to_string(),
        ),
        ("pouring", broken(POURS, false).await.to_string()),
    ];
    let rules = [
        rule("/private", "backendRefs: [{ name: one }], policies: { authenticate: [keys] }"),
        rule("/limited", "backendRefs: [{ name: one }], policies: { rateLimit: [twice] }"),
        rule("/slow", "backendRefs: [{ name: one }], timeouts: { request: 100ms }"),
        rule("/attempt/slow", "backendRefs: [{ name: one }], timeouts: { backendRequest: 100ms }"),
        rule("/gone", "backendRefs: [{ name: gone }]"),
        rule("/unresolved", "backendRefs: [{ name: unresolved }]"),
        rule("/cut/head", "backendRefs: [{ name: cut-head }]"),
        rule("/cut/body", "backendRefs: [{ name: cut-body }]"),
        rule("/garbage", "backendRefs: [{ name: garbage }]"),
        rule("/endless", "backendRefs: [{ name: endless }]"),
        rule("/pouring", "backendRefs: [{ name: pouring }], timeouts: { request: 0s }"),
        rule("/endless/timed", "backendRefs: [{ name: endless }], timeouts: { request: 500ms }"),
        rule(
            "/moved",
            "filters: [{ type: RequestRedirect, requestRedirect: { scheme: https, statusCode: 301 } }]",
        ),
        rule("/open", "backendRefs: [{ name: one }]"),
    ];
    let directory = Directory::new("refusals");
    directory.write("keys.yaml", "keys: []\n");
    let text = file(&format!(
        "authentication: {{ keys: {{ apiKey: {{ keys: {{ file: keys.yaml }} }} }} }}\n\
         rateLimits: {{ twice: {{ key: clientIp, rate: 1/h, burst: 2 }} }}\n\
         upstreams:\n{}\
         routes:\n- name: r\n  hostnames: [shop.example]\n  rules:\n{}",
        upstreams.map(|(name, at)| format!("  {name}: {{ endpoints: ['{at}'] }}\n")).concat(),
        rules.concat()
    ));
    let strict = "address: 127.0.0.1:0 }, { name: strict, address: 127.0.0.1:0, \
                  minimumRates: { head: 1000000, body: 1000000, response: 10000000, grace: 100ms } }, \
                  { name: behind, address: 127.0.0.1:0, proxyProtocolFrom: [127.0.0.0/8] }]";
    directory.write("gateway.yaml", &text.replacen("address: 127.0.0.1:0 }]", strict, 1));
    (Gateway::start(Config::file(directory.path("gateway.yaml"))).await, directory)
}

/// Status, reason, flag and verdict of a line.
fn told(line: &Value) -> (u64, &str, &str, &str) {
    let text = |field: &str| line[field].as_str().unwrap_or_default();
    (line["status"].as_u64().unwrap_or_default(), text("reason"), text("flag"), text("verdict"))
}

/// Whether a request with this status, reason and verdict was counted.
fn is_counted(metrics: &str, (status, reason, _, verdict): (u64, &str, &str, &str)) -> bool {
    let reason = if reason.is_empty() { String::new() } else { format!(r#"reason="{reason}","#) };
    let labels = format!(r#"status="{status}",{reason}verdict="{verdict}""#);
    metrics.lines().any(|line| line.starts_with("portcullis_requests_total{") && line.contains(&labels))
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let (gateway, _directory) = refuser().await;
    let host = ("host", "shop.example");
    let (log, _guard) = Log::start();
    let (success, caller, server) = ("success", "caller_fault", "server_fault");
    let asked = [
        ("/private", 401, "missing_credentials", "AN", caller),
        ("/limited", 200, "", "", success),
        ("/limited", 200, "", "", success),
        ("/limited", 429, "rate_limited", "RL", caller),
        ("/slow/5000", 504, "deadline_exceeded", "DT", server),
        ("/attempt/slow/5000", 504, "upstream_timeout", "UT", server),
        ("/gone", 502, "connect_failed", "UF", server),
        ("/unresolved", 503, "no_endpoint", "UH", server),
        ("/cut/head", 502, "upstream_reset", "UC", server),
        ("/garbage", 502, "upstream_protocol", "UPE", server),
        // Their heads were given, and then they broke.
        ("/cut/body", 200, "upstream_reset", "UC", server),
        ("/endless/timed", 200, "deadline_exceeded", "DT", server),
        ("/moved/x", 301, "", "", success),
        ("/nothing", 404, "no_route", "NR", caller),
        ("/open", 200, "", "", success),
        ("/open/..%2fprivate", 400, "bad_request", "DPE", caller),
        ("/open/../private", 401, "missing_credentials", "AN", caller),
    ];
    for (n, (path, status, reason, flag, verdict)) in asked.into_iter().enumerate() {
        let answer = gateway.client.send("GET", gateway.at("public"), path, &[host]).await;
        if status == 200 && !reason.is_empty() {
            assert!(answer.is_err(), "{path}: a body that breaks never looks whole: {answer:?}");
        } else {
            let answer = answer.unwrap();
            assert_eq!(u64::from(answer.status), status, "{path}: {answer:?}");
            assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1, "{path}");
            let has = |name: &str| answer.headers.contains_key(name);
            assert_eq!(
                (has("retry-after") && has("ratelimit"), has("www-authenticate")),
                (status == 429, status == 401)
            );
            if status == 301 {
                assert_eq!(answer.headers["location"], "https://shop.example/moved/x");
            }
        }
        let lines = log.access(n + 1).await;
        assert_eq!(lines.len(), n + 1, "one line each");
        assert_eq!(told(&lines[n]), (status, reason, flag, verdict), "{path}");
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        assert!(is_counted(&metrics, (status, reason, flag, verdict)), "{path}: {metrics}");
    }
    assert_eq!(gateway.get("/open", &[("host", "other.example")]).await.status, 404);
}

/// How a client goes on when it has sent what it sends.
enum Then {
    /// It reads to the end.
    Reads,
    /// It goes away while it waits for an answer.
    Leaves,
    /// It goes away when it has heard this.
    LeavesAfter(&'static str),
}

/// Clients that do not do what they should: what they get, what is logged, what is counted.
#[tokio::test]
async fn each_bad_client_has_its_line() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let waits = "GET /open/slow/60000 HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    let begins = "GET /endless HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    let late = "GET / HTTP/1.1\r\nhost: a\r\nx-drip: ";
    let stalled = "POST /open/slow/60000 HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 100\r\n\r\nfew";
    let too_late = (408, "request_timeout", "SI", "caller_fault");
    for (n, (name, listener, sent, then, expected, is_request)) in [
        ("gone before the head", "public", waits, Then::Leaves, (0, "", "DC", "cancelled"), true),
        ("gone in the body", "public", begins, Then::LeavesAfter("half"), (200, "", "DC", "cancelled"), true),
        ("a late head", "strict", late, Then::Reads, too_late, false),
        ("a stalled body", "strict", stalled, Then::Reads, too_late, true),
    ]
    .into_iter()
    .enumerate()
    {
        let mut peer = TcpStream::connect(gateway.at(listener)).await.unwrap();
        peer.write_all(sent.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        match then {
            Then::Reads => {
                let _ = timeout(PATIENCE, peer.read_to_end(&mut heard)).await.expect("it was kept waiting");
                let heard = String::from_utf8_lossy(&heard);
                assert!(heard.starts_with("HTTP/1.1 408 "), "{name}: {heard}");
            }
            Then::Leaves => {
                gateway.until(|status| status.to_string().contains(r#""inFlight":1"#)).await;
            }
            Then::LeavesAfter(after) => {
                while !String::from_utf8_lossy(&heard).contains(after) {
                    heard.push(timeout(PATIENCE, peer.read_u8()).await.expect("in time").unwrap());
                }
            }
        }
        drop(peer);
        let lines = log.access(n + 1).await;
        assert_eq!((lines.len(), told(&lines[n])), (n + 1, expected), "{name}");
        assert_eq!(lines[n]["client"], "127.0.0.1", "{name}");
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        assert_eq!(is_counted(&metrics, expected), is_request, "{name}: {metrics}");
        let late = r#"portcullis_heads_refused_total{reason="request_timeout"} 1"#;
        assert!(is_request || metrics.contains(late), "{name}: {metrics}");
    }
    assert_eq!(gateway.get("/open", &[("host", "shop.example")]).await.status, 200);
}

/// Those that are refused below us, and come to no answer of ours, have a line too.
#[tokio::test]
async fn what_is_refused_over_http2_is_told() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let stream = TcpStream::connect(gateway.at("public")).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let ask = async |fields: usize, bytes: usize| {
        let mut request = http::Request::get("http://shop.example/open");
        for field in 0..fields {
            request = request.header(format!("x-{field}"), "x".repeat(bytes));
        }
        let (response, _) =
            client.clone().ready().await.unwrap().send_request(request.body(()).unwrap(), true).unwrap();
        timeout(PATIENCE, response).await.expect("in time").unwrap()
    };
    let head = http::Request::head("http://shop.example/private").body(()).unwrap();
    let (response, _) = client.clone().ready().await.unwrap().send_request(head, true).unwrap();
    let mut response = timeout(PATIENCE, response).await.expect("in time").unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.body_mut().data().await.is_none(), "the answer to HEAD has no body");
    assert_eq!(told(&log.access(1).await[0]), (401, "missing_credentials", "AN", "caller_fault"));

    let too_large = (431, "head_too_large", "HL", "caller_fault");
    for (n, (fields, bytes, is_ours)) in
        [(101, 1, true), (10, 7_000, true), (3, 60_000, false)].into_iter().enumerate()
    {
        let answer = ask(fields, bytes).await;
        assert_eq!(answer.status(), 431);
        let line = &log.access(n + 2).await[n + 1];
        assert_eq!((told(line), &line["listener"]), (too_large, &"public".into()));
        assert_eq!(line["client"], "127.0.0.1");
        let id = answer.headers().get("x-request-id").map(|id| id.to_str().unwrap());
        assert_eq!((id.is_some(), line["request_id"].as_str()), (is_ours, id));
    }
    assert_eq!(ask(10, 10).await.status(), 200, "the connection goes on");
    assert_eq!(log.access(5).await.len(), 5);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains(r#"portcullis_heads_refused_total{reason="head_too_large"} 3"#), "{metrics}");
}

/// Heads that never become requests are logged and counted all the same.
#[tokio::test]
async fn a_head_that_is_no_request_leaves_a_line() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let bad = "GET / HTTP/1.1\r\nno field\r\n\r\n";
    for (n, (head, status, reason, flag)) in
        [(bad, 400, "bad_request", "DPE"), (&large, 431, "head_too_large", "HL")].into_iter().enumerate()
    {
        let mut peer = TcpStream::connect(gateway.at("public")).await.unwrap();
        peer.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = peer.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let line = &log.access(n + 1).await[n];
        assert_eq!(told(line), (status, reason, flag, "caller_fault"));
        assert_eq!((&line["client"], &line["listener"]), (&"127.0.0.1".into(), &"public".into()));
        let id = line["request_id"].as_str().unwrap();
        assert!(answer.contains(&format!("\r\nx-request-id: {id}\r\n")), "{answer}");
        assert!(answer.contains(&format!(r#""reason":"{reason}""#)), "{answer}");
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        let count = format!(r#"portcullis_heads_refused_total{{reason="{reason}"}} 1"#);
        assert!(metrics.contains(&count), "{metrics}");
    }
}

/// No more than five a second and the five of the first, and what they tell of the others is not more than there was.
fn few(lines: &[Value], began: Instant, all: u64) {
    let (count, seconds) = (u64::try_from(lines.len()).unwrap(), began.elapsed().as_secs());
    assert!((5..=5 * seconds + 5).contains(&count), "{count} in {seconds} s");
    let left_out: u64 = lines.iter().filter_map(|line| line["left_out"].as_u64()).sum();
    assert!(count + left_out <= all, "{count} and {left_out}");
}

/// However many there are, a few of them have a line, and all are counted.
#[tokio::test]
async fn a_flood_of_bad_heads_floods_no_log() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let mut peer = TcpStream::connect(gateway.at("public")).await.unwrap();
    peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut heads = Vec::new();
    for stream in (1_u32..1_000).step_by(2) {
        heads.extend(b"\0\0\x01\x01\x05");
        heads.extend(stream.to_be_bytes());
        heads.push(0x82); // a method, and nothing else
    }
    let began = Instant::now();
    peer.write_all(&heads).await.unwrap();
    let all = r#"portcullis_heads_refused_total{reason="bad_request"} 500"#;
    let counted =
        async { while !gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text.contains(all) {} };
    timeout(PATIENCE, counted).await.expect("in time");
    let lines = log.access(1).await;
    few(&lines, began, 500);
    assert!(lines.iter().all(|line| told(line) == (400, "bad_request", "DPE", "caller_fault")), "{lines:?}");
}

/// So it is with connections that are cut.
#[tokio::test]
async fn a_flood_of_misuse_floods_no_log() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let began = Instant::now();
    for _ in 0..60 {
        let mut peer = TcpStream::connect(gateway.at("behind")).await.unwrap();
        peer.write_all(b"PROXY TCP4 junk\r\n").await.unwrap();
        let _ = peer.read_to_end(&mut Vec::new()).await;
    }
    let counted = async {
        while !gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text.contains("cut_total 60") {}
    };
    timeout(PATIENCE, counted).await.expect("in time");
    let lines = log.access(5).await;
    few(&lines, began, 60);
    let listener = |line: &Value| line["cut"] == "proxy_protocol" && line["listener"] == "behind";
    assert!(lines.iter().all(listener), "{lines:?}");
}

/// A connection that is cut for what its peer does with it is logged and counted.
#[tokio::test]
async fn a_flood_leaves_a_line() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let mut peer = TcpStream::connect(gateway.at("public")).await.unwrap();
    peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let pings = b"\0\0\x08\x06\0\0\0\0\0abcdefgh".repeat(3_000);
    let _ = peer.write_all(&pings).await; // it may be cut before its end
    let _ = peer.read_to_end(&mut Vec::new()).await;
    let line = &log.access(1).await[0];
    assert_eq!((line["cut"].as_str(), line["client"].as_str()), (Some("flood"), Some("127.0.0.1")));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains("portcullis_connections_cut_total 1"), "{metrics}");
}

/// So is one whose peer reads as slowly as it can: a little, again and again.
#[tokio::test]
async fn a_slow_reader_leaves_a_line() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let socket = TcpSocket::new_v4().unwrap();
    // What the system takes for it, it has read.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut peer = socket.connect(gateway.at("strict")).await.unwrap();
    peer.write_all(b"GET /pouring HTTP/1.1\r\nhost: shop.example\r\n\r\n").await.unwrap();
    let reading = async {
        let mut some = [0; 1024];
        while let Ok(1..) = peer.read(&mut some).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let lines = tokio::select! {
        lines = log.access(2) => lines,
        () = reading => log.access(2).await,
    };
    let (cut, served): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["cut"].is_string());
    assert_eq!((cut.len(), served.len()), (1, 1), "{lines:?}");
    assert_eq!((cut[0]["cut"].as_str(), cut[0]["client"].as_str()), (Some("slow_reader"), Some("127.0.0.1")));
    assert_eq!(told(served[0]), (200, "", "DC", "cancelled"));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains("portcullis_connections_cut_total 1"), "{metrics}");
}

/// And one whose peer is to speak for others, and says nothing of them that can be understood.
#[tokio::test]
async fn a_bad_proxy_header_leaves_a_line() {
    let (gateway, _directory) = refuser().await;
    let (log, _guard) = Log::start();
    let mut peer = TcpStream::connect(gateway.at("behind")).await.unwrap();
    peer.write_all(b"PROXY TCP4 junk\r\nGET / HTTP/1.1\r\nhost: shop.example\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = peer.read_to_end(&mut heard).await;
    assert!(heard.is_empty(), "{heard:?}");
    let line = &log.access(1).await[0];
    assert_eq!((line["cut"].as_str(), line["client"].as_str()), (Some("proxy_protocol"), Some("127.0.0.1")));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains("portcullis_connections_cut_total 1"), "{metrics}");
}
