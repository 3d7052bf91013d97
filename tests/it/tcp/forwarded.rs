//! Bytes, both ways, and how connections end.
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{
    MADE, OPEN, RECEIVED, SENT, Server, connect, counted, ended, forwarding, hear, number, pass, rest, soon,
    until,
};
use crate::{gateway::world::nobody, support::log::Log};

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

#[tokio::test]
async fn megabytes_go_both_ways_and_every_byte_is_counted() {
    let (log, _guard) = Log::start();
    let server = Server::echo().await;
    let gateway = forwarding(&[server.address], "", "").await;
    let sent = noise(5_000_011);
    let (mut reader, mut writer) = connect(&gateway).await.into_split();
    let to_send = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&to_send).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut heard = Vec::new();
    soon(reader.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
    drop((reader, soon(writing).await.unwrap()));

    counted(&gateway, &ended("closed"), 1).await;
    counted(&gateway, OPEN, 0).await;
    for (line, value) in [(MADE, 1), (RECEIVED, 5_000_011), (SENT, 5_000_011)] {
        assert_eq!(number(&gateway, line).await, Some(value), "{line}");
    }
    let status = gateway.status().await;
    assert_eq!(status["tcpRoutes"][0]["receivedBytes"], 5_000_011);
    let endpoint = &status["upstreams"][0]["endpoints"][0];
    assert_eq!((&endpoint["inFlight"], &endpoint["connections"]), (&0.into(), &0.into()), "{endpoint}");

    let lines = log.access(1).await;
    let line = lines.iter().find(|line| line["protocol"] == "TCP").unwrap();
    let address = server.address.to_string();
    for (field, value) in [
        ("listener", "public"),
        ("route", "raw"),
        ("upstream", "servers"),
        ("endpoint", &address),
        ("client", "127.0.0.1"),
        ("ended", "closed"),
        ("verdict", "success"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!((&line["received"], &line["sent"]), (&5_000_011.into(), &5_000_011.into()));
    assert!(line["duration_us"].as_u64().unwrap() > 0 && line["reason"].is_null(), "{line}");
}

/// Each side may end first, and still hears the other to its end.
#[tokio::test]
async fn who_has_said_all_still_hears_the_other() {
    let server = Server::start(|mut stream| async move {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        stream.write_all(format!("{} bytes", heard.len()).as_bytes()).await.unwrap();
    })
    .await;
    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    client.write_all(&noise(100_000)).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), "100000 bytes");
    counted(&gateway, &ended("closed"), 1).await;

    let heard = Arc::new(Mutex::new(None));
    let told = Arc::clone(&heard);
    let server = Server::start(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            stream.write_all(b"that is all").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.unwrap();
            *told.lock().unwrap() = Some(heard.len());
        }
    })
    .await;
    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    assert_eq!(rest(&mut client).await.unwrap(), "that is all");
    assert_eq!(number(&gateway, OPEN).await, Some(1), "one way is open");
    client.write_all(&noise(100_000)).await.unwrap();
    drop(client);
    until(|| *heard.lock().unwrap() == Some(100_000)).await;
    counted(&gateway, &ended("closed"), 1).await;
    counted(&gateway, OPEN, 0).await;
}

/// A server that has said all and gone takes nothing more: that is no failure, and its words are not lost.
#[tokio::test]
async fn who_has_said_all_may_go() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"bye").await.unwrap();
    })
    .await;
    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    assert_eq!(rest(&mut client).await.unwrap(), "bye");
    // The first is answered by a reset, of which the next learns.
    while client.write_all(b"still here").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    counted(&gateway, &ended("closed"), 1).await;
    counted(&gateway, OPEN, 0).await;
}

/// Who has broken off is not taken for who has ended: nobody takes a part for the whole.
#[tokio::test]
async fn a_reset_is_passed_on() {
    let (log, _guard) = Log::start();
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"a part").await.unwrap();
        stream.read_u8().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    assert_eq!(hear(&mut client, 6).await, "a part");
    client.write_all(b"!").await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    counted(&gateway, &ended("upstream"), 1).await;
    let line = &log.access(1).await[0];
    assert_eq!((&line["ended"], &line["verdict"]), (&"upstream".into(), &"server_fault".into()), "{line}");

    let broken = Arc::new(Mutex::new(None));
    let told = Arc::clone(&broken);
    let server = Server::start(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            let error = stream.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind());
            *told.lock().unwrap() = Some(error);
        }
    })
    .await;
    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    client.write_all(b"a part").await.unwrap();
    counted(&gateway, RECEIVED, 6).await;
    client.set_zero_linger().unwrap();
    drop(client);
    until(|| *broken.lock().unwrap() == Some(Err(ErrorKind::ConnectionReset))).await;
    counted(&gateway, &ended("client"), 1).await;
    counted(&gateway, OPEN, 0).await;
}

/// A client that only speaks learns of the end of a server that it does not listen to.
#[tokio::test]
async fn a_reset_is_noticed_by_who_does_not_read() {
    let (full, breaks) = (Arc::new(Mutex::new(false)), Arc::new(tokio::sync::Notify::new()));
    let (told, when) = (Arc::clone(&full), Arc::clone(&breaks));
    let server = Server::start(move |mut stream| {
        let (told, when) = (Arc::clone(&told), Arc::clone(&when));
        async move {
            let piece = vec![7; 64 << 10];
            let patience = Duration::from_millis(500);
            while let Ok(Ok(())) = tokio::time::timeout(patience, stream.write_all(&piece)).await {}
            *told.lock().unwrap() = true;
            when.notified().await;
            stream.set_zero_linger().unwrap();
        }
    })
    .await;
    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    until(|| *full.lock().unwrap()).await;
    breaks.notify_one();
    soon(async {
        while client.write_all(b"still here").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    counted(&gateway, &ended("upstream"), 1).await;
    counted(&gateway, OPEN, 0).await;
}

#[tokio::test]
async fn another_endpoint_is_tried() {
    let (log, _guard) = Log::start();
    let server = Server::echo().await;
    let gateway = forwarding(&[nobody(), server.address], "", "").await;
    // Two take turns, and who refused comes last for a while: all are served.
    for _ in 0..4 {
        let mut client = connect(&gateway).await;
        client.write_all(b"hello").await.unwrap();
        assert_eq!(hear(&mut client, 5).await, "hello");
    }
    let lines = log.access(4).await;
    assert!(lines.iter().all(|line| line["endpoint"] == server.address.to_string()), "{lines:?}");
    assert!(lines.iter().any(|line| line["attempts"] == 2), "{lines:?}");
}

/// An address at which nobody answers, neither yes nor no: its queue is full.
async fn silent() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    (listener, address, waiting)
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_of() {
    let (log, _guard) = Log::start();
    let gateway = forwarding(&[nobody()], "", "").await;
    let mut client = connect(&gateway).await;
    assert!(rest(&mut client).await.is_err(), "the connection is reset");
    counted(&gateway, r#"tcp_refusals_total{listener="public",reason="connect_failed",route="raw"}"#, 1)
        .await;
    let line = &log.access(1).await[0];
    assert_eq!((&line["ended"], &line["reason"]), (&"refused".into(), &"connect_failed".into()), "{line}");
    assert_eq!(number(&gateway, MADE).await, Some(0));

    let (_listener, address, _waiting) = silent().await;
    let gateway = forwarding(&[address], "connectTimeout: 100ms", "").await;
    let mut client = connect(&gateway).await;
    assert!(rest(&mut client).await.is_err(), "the connection is reset");
    counted(&gateway, r#"tcp_refusals_total{listener="public",reason="upstream_timeout",route="raw"}"#, 1)
        .await;

    // Who is late is not waited for if there is another, and then comes last.
    let server = Server::echo().await;
    let gateway = forwarding(&[address, server.address], "connectTimeout: 30s", "").await;
    for _ in 0..4 {
        let mut client = connect(&gateway).await;
        client.write_all(b"hello").await.unwrap();
        assert_eq!(hear(&mut client, 5).await, "hello");
    }
    counted(&gateway, MADE, 4).await;
}

#[tokio::test]
async fn silence_and_age_end_a_connection() {
    let minute = Duration::from_secs(60);
    for (policies, how) in
        [("idleTimeout: 60s, maxAge: 5h", "idle"), ("idleTimeout: 5h, maxAge: 60s", "max_age"), ("", "idle")]
    {
        let server = Server::echo().await;
        let gateway = forwarding(&[server.address], "", &format!("policies: {{ {policies} }}")).await;
        let mut client = connect(&gateway).await;
        let lasts = if policies.is_empty() { 60 * minute } else { minute };
        for _ in 0..2 {
            client.write_all(b"hello").await.unwrap();
            assert_eq!(hear(&mut client, 5).await, "hello");
            pass(lasts / 2 - Duration::from_secs(5)).await;
        }
        // Neither silent for so long nor so old.
        assert_eq!(number(&gateway, OPEN).await, Some(1), "{policies}");
        pass(lasts / 2 + Duration::from_secs(10)).await;
        let end = rest(&mut client).await;
        assert_eq!(end.is_ok(), how == "idle", "{policies} {end:?}");
        counted(&gateway, &ended(how), 1).await;
        counted(&gateway, OPEN, 0).await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_connections_that_are_gone() {
    let server = Server::echo().await;
    let gateway = forwarding(&[server.address], "", "").await;
    for round in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(connect(&gateway).await);
        }
        for (n, mut client) in clients.into_iter().enumerate() {
            client.write_all(&noise(n * 100)).await.unwrap();
            match n % 4 {
                0 => drop(client),
                1 => {
                    client.set_zero_linger().unwrap();
                    drop(client);
                }
                2 => {
                    client.shutdown().await.unwrap();
                    let mut heard = Vec::new();
                    soon(client.read_to_end(&mut heard)).await.unwrap();
                    assert_eq!(heard.len(), n * 100);
                }
                _ => {
                    let mut heard = vec![0; n * 100];
                    soon(client.read_exact(&mut heard)).await.unwrap();
                }
            }
        }
        counted(&gateway, MADE, (round + 1) * 40).await;
        counted(&gateway, OPEN, 0).await;
    }
    let status = gateway.status().await;
    let endpoint = &status["upstreams"][0]["endpoints"][0];
    assert_eq!((&endpoint["inFlight"], &endpoint["connections"]), (&0.into(), &0.into()), "{endpoint}");
    let public = status["listeners"].as_array().unwrap().iter().find(|one| one["name"] == "public").unwrap();
    assert_eq!(public["connections"], 0, "{public}");
}

/// A peer that does not read has the other wait, and nothing piles up in between.
#[tokio::test]
async fn who_does_not_read_holds_the_other_back() {
    const CHUNK: usize = 64 << 10;
    let written = Arc::new(Mutex::new(0_usize));
    let told = Arc::clone(&written);
    let server = Server::start(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            // 256 MiB.
            for _ in 0..4_096 {
                if stream.write_all(&[7; CHUNK]).await.is_err() {
                    return;
                }
                *told.lock().unwrap() += CHUNK;
            }
        }
    })
    .await;
    let gateway = forwarding(&[server.address], "", "").await;
    let client = connect(&gateway).await;
    let so_far = || *written.lock().unwrap();
    let mut before = 0;
    // Until nothing more is taken.
    while before == 0 || so_far() != before {
        before = so_far();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // What sockets hold is the system's.
    assert!(before < 64 << 20, "{before} bytes were taken");
    drop(client);
    counted(&gateway, OPEN, 0).await;
}

#[tokio::test]
async fn caps_and_lists_of_addresses_are_for_connections_too() {
    let (log, _guard) = Log::start();
    let server = Server::echo().await;
    let text = |listener: &str| super::file(&format!("protocol: tcp, {listener}"), &[server.address], "", "");
    let gateway = crate::gateway::world::Gateway::of(&text("maxConnections: 1")).await;
    let mut first = connect(&gateway).await;
    first.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut first, 5).await, "hello");
    let mut second = connect(&gateway).await;
    assert_ne!(rest(&mut second).await.ok(), Some("hello".into()));
    drop(first);
    counted(&gateway, OPEN, 0).await;
    let mut third = connect(&gateway).await;
    third.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut third, 5).await, "hello");

    let gateway = crate::gateway::world::Gateway::of(&text("proxyProtocolFrom: [127.0.0.0/8]")).await;
    let mut client = connect(&gateway).await;
    client.write_all(b"PROXY TCP4 192.0.2.9 198.51.100.1 1000 5432\r\nhello").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), "hello");
    counted(&gateway, &ended("closed"), 1).await;
    let lines = log.of("portcullis::access");
    assert!(lines.iter().any(|line| line["fields"]["client"] == "192.0.2.9"), "{lines:?}");

    let gateway = crate::gateway::world::Gateway::of(&text("addresses: { deny: [127.0.0.0/8] }")).await;
    assert!(rest(&mut connect(&gateway).await).await.is_err());
    counted(&gateway, r#"tcp_refusals_total{listener="public",reason="address_denied"}"#, 1).await;
    let lines = log.of("portcullis::access");
    assert!(lines.iter().any(|line| line["fields"]["reason"] == "address_denied"), "{lines:?}");
    assert_eq!(server.taken(), 3);
}
