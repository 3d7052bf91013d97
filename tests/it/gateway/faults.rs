//! What is made to fail on purpose, over real sockets.
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::config::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::world::{Directory, Gateway, file, upstream, yaml_of};
use crate::support::log::Log;

async fn text(listener: &str, top: &str, fault: &str) -> String {
    let one = upstream("one").await;
    let rest = format!(
        "upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n{top}\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: one }}], policies: {{ {fault} }} }}] }}]\n"
    );
    file(&rest).replace("address: 127.0.0.1:0 }]", &format!("address: 127.0.0.1:0{listener} }}]"))
}

/// All bytes of an answer, until the other side closes.
async fn raw(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn each_fault_is_what_it_says_and_is_marked() {
    let (log, _guard) = Log::start();
    for (fault, status, label) in [
        ("abort: { httpStatus: 418, share: 100% }", Some(418), "abort"),
        ("delay: { fixedDelay: 1ms, share: 100% }", Some(200), "delay"),
        ("throttle: { bytesPerSecond: 100000, share: 100% }", Some(200), "throttle"),
        ("delay: { fixedDelay: 1ms, share: 100% }, reset: { share: 100% }", None, "delay+reset"),
    ] {
        let gateway = Gateway::of(&text("", "", &format!("fault: {{ {fault} }}")).await).await;
        let answer = gateway.client.send("GET", gateway.at("public"), "/", &[]).await;
        assert_eq!(answer.as_ref().ok().map(|answer| answer.status), status, "{fault}");
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        let kind = label.rsplit('+').next().unwrap();
        let sample = format!(r#"portcullis_faults_injected_total{{route="r/all",kind="{kind}"}} 1"#);
        assert!(metrics.contains(&sample), "{sample} is not in {metrics}");
        assert_eq!(gateway.status().await["faults"][0][kind], 1);
    }
    let lines = log.access(4).await;
    let labels: Vec<_> = lines.iter().map(|line| line["fault"].as_str().unwrap()).collect();
    assert_eq!(labels, ["abort", "delay", "throttle", "delay+reset"]);
    assert_eq!((&lines[0]["flag"], &lines[0]["reason"]), (&"FI".into(), &"fault_injected".into()));
}

/// HTTP/1.1: a head at most, no end of the body, and the connection is closed. HTTP/2: the stream is reset, and the connection
/// goes on.
#[tokio::test]
async fn a_reset_is_what_the_protocol_has() {
    let gateway = Gateway::of(&text("", "", "fault: { reset: { share: 100% } }").await).await;
    let all = raw(gateway.at("public")).await;
    assert!(all.is_empty() || all.starts_with("HTTP/1.1 200 "), "{all}");
    assert!(!all.ends_with("0\r\n\r\n"), "{all}");

    let stream = TcpStream::connect(gateway.at("public")).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        let request = http::Request::get("http://a/").body(Empty::<bytes::Bytes>::new()).unwrap();
        let failed = match client.send_request(request).await {
            Ok(response) => response.into_body().collect().await.err(),
            Err(error) => Some(error),
        };
        let failed = failed.expect("a whole answer");
        let reset = std::error::Error::source(&failed).and_then(|error| error.downcast_ref::<h2::Error>());
        let reset = reset.unwrap_or_else(|| panic!("{failed:?}"));
        assert!(reset.is_remote() && reset.is_reset(), "{reset:?}");
        assert_eq!(reset.reason(), Some(h2::Reason::INTERNAL_ERROR));
    }
}

/// Trusted peers ask for what they like; of strangers it is taken out, on rules without faults as well.
#[tokio::test]
async fn only_trusted_peers_ask_for_faults() {
    const ASKED: (&str, &str) = ("x-portcullis-fault-abort-request", "429");
    let by_header = "fault: { byHeader: true }";
    let trusted = Gateway::of(&text(", trustedProxies: [127.0.0.0/8]", "", by_header).await).await;
    assert_eq!(trusted.get("/", &[ASKED]).await.status, 429);
    let answer = trusted.get("/", &[("x-portcullis-fault-delay-request", "1"), ("x-other", "1")]).await;
    assert_eq!(answer.status, 200);
    assert!(
        !answer.text.contains("x-portcullis-fault") && answer.text.contains("x-other"),
        "{}",
        answer.text
    );

    let strangers = ", trustedProxies: [192.0.2.0/24]";
    for fault in [by_header, "authenticate: none"] {
        let gateway = Gateway::of(&text(strangers, "", fault).await).await;
        let answer = gateway.get("/", &[ASKED, ("x_portcullis-fault_abort-request", "429")]).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains("portcullis"), "{}", answer.text);
    }
}

/// One line ends all of it.
#[tokio::test]
async fn a_line_of_the_file_is_a_switch() {
    let directory = Directory::new("faults");
    let off = text("", "disableFaults: true\n", "fault: { abort: { share: 100% } }").await;
    let on = off.replace("disableFaults: true", "disableFaults: false");
    directory.write("gateway.yaml", &on);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(gateway.get("/", &[]).await.status, 503);
    for (written, generation, status) in [(&off, 2, 200), (&on, 3, 503)] {
        directory.write("gateway.yaml", written);
        gateway.until(|status| status["generation"] == generation).await;
        assert_eq!(gateway.get("/", &[]).await.status, status);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |fault: &str| {
        let text = file(&format!(
            "upstreams: {{ one: {{ endpoints: [127.0.0.1:9001] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{ fault: {{ {fault} }} }} }}] }}]\n"
        ));
        Config::text("f", text).check().to_string()
    };
    for (fault, said) in [
        ("", "fault: does nothing: expected"),
        ("delay: { fixedDelay: 1s }", "the field `share` is missing"),
        ("delay: { fixedDelay: 2h, share: 1% }", "delay.fixedDelay: expected more than nothing"),
        ("abort: { share: 0% }", "warning: routes[0].rules[0].policies.fault.abort.share: no request is hit"),
        (
            "abort: { share: 100% }, reset: { share: 1% }",
            "fault.reset: nothing is left for it: `abort` takes all",
        ),
        ("abort: { httpStatus: 99, share: 1% }", "abort.httpStatus: expected a number from 200 to 599"),
        ("abort: { grpcStatus: 17, share: 1% }", "abort.grpcStatus: expected a number from 1 to 16"),
        (
            "throttle: { bytesPerSecond: 0, share: 1% }",
            "throttle.bytesPerSecond: expected a number of at least 1",
        ),
        ("byHeader: true", "fault.byHeader: nobody could ask: no listener has `trustedProxies`"),
    ] {
        let told = check(fault);
        assert!(told.contains(said), "{fault}: {told}");
    }
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/inject_faults.md");
    let yaml = yaml_of(guide)[0];
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted(), "{check}");
}
