//! What two parties could read as two different messages, byte for byte, from both sides.

use http_body_util::BodyExt;
use portcullis::{reject::Reason, upstream::Proxy};

use super::peers::{Line, OK, Raw, call, edge_to, get, soon, text, until, upstream};

/// Requests of which the upstream must never see a second one. With each: the status of the answer, if there must be one.
const ATTACKS: &[(&str, &str, Option<&str>)] = &[
    (
        "CL.TE",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "TE.CL",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "CL.CL",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a list of lengths",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 38\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a length with a sign",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +38\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a folded line",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a space before the colon",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "another coding last",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a coding that is none",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a coding in quotes",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a coding behind another kind of blank",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "no coding beside a length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 38\r\ntransfer-encoding: identity\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "an empty coding beside a length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 38\r\ntransfer-encoding:\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("501"),
    ),
    (
        "chunked in two lines",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("501"),
    ),
    (
        "an empty length",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a length that overflows",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551654\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "another coding first",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("501"),
    ),
    (
        "chunked in HTTP/1.0",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    (
        "a chunk size that is none",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a chunk size that overflows",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a chunk longer than said",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a chunk size of another base",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a chunk size that ends in a line feed alone",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a chunk extension with a line feed alone",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2;a\nok\r\nok\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a chunk that ends in a line feed alone",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a last chunk with what is no trailer",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        None,
    ),
    (
        "a line feed alone in a field",
        "POST / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\ncontent-length: 0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Some("400"),
    ),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n", Some("400")),
    ("a user in the target", "GET http://a@b/ HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n", Some("400")),
    ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\nconnection: close\r\n\r\n", Some("501")),
];

#[tokio::test]
async fn one_request_stays_one() {
    for (name, bytes, status) in ATTACKS {
        let upstream = Raw::start(|_, mut line| async move {
            while let Some(head) = line.head().await {
                if head.contains("chunked") && line.hear("0\r\n\r\n").await.is_none() {
                    return;
                }
                line.say(OK).await;
            }
        })
        .await;
        let (edge, _) = edge_to([upstream.address]).await;
        let mut client = Line::to(edge).await;
        client.say(bytes).await;
        client.finish().await;
        let answer = client.rest().await;
        if let Some(status) = status {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
            assert_eq!(upstream.heard().concat(), "", "{name}");
        }
        let heard = upstream.heard().concat();
        assert!(!heard.contains("smuggled"), "{name}: {heard}");
        assert!(heard.matches("HTTP/1.1\r\n").count() <= 1, "{name}: {heard}");
        assert!(
            !(heard.contains("content-length") && heard.contains("transfer-encoding")),
            "{name}: {heard}"
        );
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{name}: {answer}");
    }
}

/// Some read an octal number where there are zeros before it.
#[tokio::test]
async fn a_length_is_sent_on_as_we_would_write_it() {
    for said in ["0010", "10"] {
        let upstream = Raw::start(|_, mut line| async move {
            line.hear("0123456789").await;
            line.say(OK).await;
        })
        .await;
        let (edge, _) = edge_to([upstream.address]).await;
        let mut client = Line::to(edge).await;
        client.say(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {said}\r\n\r\n0123456789")).await;
        client.hear("ok").await.unwrap();
        let heard = &upstream.heard()[0];
        assert!(heard.contains("content-length: 10\r\n"), "{heard}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_closes_the_upstreams_connection() {
    for body in [
        "content-length: 10\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let upstream = Raw::start(|_, mut line| async move {
            line.hear("half").await;
            line.rest().await;
            line.say(OK).await;
        })
        .await;
        let (edge, group) = edge_to([upstream.address]).await;
        let mut client = Line::to(edge).await;
        client.say(format!("POST / HTTP/1.1\r\nhost: a\r\n{body}")).await;
        until(|| upstream.heard().concat().contains("half")).await;
        drop(client);
        until(|| group.endpoints()[0].connections == 0).await;
        assert_eq!(group.endpoints()[0].in_flight, 0);
        assert!(!upstream.heard()[0].contains("0\r\n\r\n"), "no fake end");
    }
}

/// Answers that break HTTP.
const GARBAGE: &[(&str, &str)] = &[
    ("no HTTP", "hello\r\n\r\n"),
    ("a status that is none", "HTTP/1.1 9x9 OK\r\n\r\n"),
    ("differing lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok"),
    ("a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok"),
    ("a length with a sign", "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok"),
    ("a list of differing lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nok"),
    ("a coding that is none", "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("chunked twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("a name with a blank", "HTTP/1.1 200 OK\r\nx y: 1\r\ncontent-length: 2\r\n\r\nok"),
    ("a control character", "HTTP/1.1 200 OK\r\nx: a\x01b\r\ncontent-length: 2\r\n\r\nok"),
    ("a status of two digits", "HTTP/1.1 99 OK\r\ncontent-length: 2\r\n\r\nok"),
    ("a coding nobody asked for", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok"),
    ("a folded line", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok"),
    (
        "protocols switched unasked",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ),
    ("HTTP/2", "\0\0\0\x04\0\0\0\0\0"),
];

#[tokio::test]
async fn garbage_is_502_and_its_connection_is_closed() {
    for (name, answer) in GARBAGE {
        let peer = Raw::answering(answer).await;
        let group = upstream([peer.address]);
        let refused = call(&Proxy::new(group.clone()), get("/")).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::UpstreamProtocol, "{name}: {refused:?}");
        until(|| group.endpoints()[0].connections == 0).await;
        assert_eq!(peer.connections(), 1, "{name}: not tried again");
    }
}

#[tokio::test]
async fn heads_of_any_size_are_cut_off() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 OK\r\n").await;
        for n in 0..90 {
            line.say(format!("x-{n}: {}\r\n", "a".repeat(1000))).await;
        }
        line.say("content-length: 0\r\n\r\n").await;
        line.rest().await;
    })
    .await;
    let refused = call(&Proxy::new(upstream([peer.address])), get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamProtocol);

    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say(format!("HTTP/1.1 200 {}", "x".repeat(100_000))).await;
        line.rest().await;
    })
    .await;
    let refused = call(&Proxy::new(upstream([peer.address])), get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamProtocol, "a status line");

    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        let fields: String = (0..101).map(|n| format!("x-{n}: a\r\n")).collect();
        line.say(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n")).await;
        line.rest().await;
    })
    .await;
    let refused = call(&Proxy::new(upstream([peer.address])), get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamProtocol);
}

#[tokio::test]
async fn both_lengths_in_an_answer_are_one() {
    let peer = Raw::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let (edge, _) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert!(!head.contains("content-length") && head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(client.hear("0\r\n\r\n").await.unwrap(), "5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_list_of_one_length_in_an_answer_is_that_length() {
    for lengths in ["content-length: 2, 2", "content-length: 2\r\ncontent-length: 2"] {
        let peer = Raw::start(move |_, mut line| async move {
            line.head().await;
            line.say(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nok")).await;
            line.rest().await;
        })
        .await;
        let (edge, _) = edge_to([peer.address]).await;
        let mut client = Line::to(edge).await;
        client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.head().await.unwrap();
        assert!(
            head.matches("content-length").count() == 1 && head.contains("content-length: 2\r\n"),
            "{head}"
        );
        assert_eq!(client.hear("ok").await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn informational_answers_are_swallowed() {
    let peer = Raw::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let (edge, _) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    for _ in 0..2 {
        client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.head().await.unwrap();
        assert!(head.starts_with("http/1.1 200 ok\r\n") && !head.contains("link"), "{head}");
        assert_eq!(client.hear("ok").await.unwrap(), "ok");
    }
    assert_eq!(peer.connections(), 1);
}

/// Answers that end too soon, and what the client has got by then.
const CUT: &[(&str, &str)] = &[
    ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "content-length: 10"),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "transfer-encoding: chunked"),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        "transfer-encoding: chunked",
    ),
];

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole() {
    for reset in [false, true] {
        for (answer, framing) in CUT {
            let peer = Raw::start(move |_, mut line| async move {
                line.head().await;
                line.say(answer).await;
                // The half must be read before the end comes: a reset discards what was not.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                if reset {
                    line.reset();
                }
            })
            .await;
            let (edge, group) = edge_to([peer.address]).await;
            let mut client = Line::to(edge).await;
            client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let head = client.head().await.unwrap();
            assert!(head.starts_with("http/1.1 200") && head.contains(framing), "{head}");
            let rest = client.rest().await;
            assert!(rest.contains("half") && !rest.contains("0\r\n\r\n"), "closed without an end: {rest}");
            until(|| group.endpoints()[0].connections == 0).await;
            assert_eq!(group.endpoints()[0].in_flight, 0);

            let proxy = Proxy::new(upstream([peer.address]));
            let body = call(&proxy, get("/")).await.unwrap().into_body();
            let error = soon(body.collect()).await.unwrap_err();
            let reason =
                portcullis::reject::Rejection::find(&*error).map(portcullis::reject::Rejection::reason);
            assert!(matches!(reason, Some(Reason::UpstreamReset | Reason::UpstreamProtocol)), "{reason:?}");
        }
    }
}

#[tokio::test]
async fn what_comes_after_an_answer_is_no_answer() {
    // To these there is no body, whatever they say of one.
    let bare = [
        "204 No Content\r\n",
        "204 No Content\r\ncontent-length: 44\r\n",
        "304 Not Modified\r\ncontent-length: 44\r\n",
    ];
    for first in bare.map(|head| format!("HTTP/1.1 {head}\r\n")).into_iter().chain([OK.to_owned()]) {
        let said = first.clone();
        let peer = Raw::start(move |number, mut line| {
            let said = said.clone();
            async move {
                line.head().await;
                if number == 0 {
                    line.say(format!("{said}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")).await;
                } else {
                    line.say(OK).await;
                }
                line.rest().await;
            }
        })
        .await;
        let proxy = Proxy::new(upstream([peer.address]));
        let answer = text(call(&proxy, get("/")).await.unwrap()).await;
        assert_eq!(answer, if first == OK { "ok" } else { "" }, "{first}");
        assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok", "{first}");
        assert_eq!(peer.connections(), 2, "a connection that speaks unasked is not used again");
    }
}
