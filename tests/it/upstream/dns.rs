//! Endpoints by the word of a name server, which is asked over real sockets and does not always behave.
use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis::{
    reject::Reason,
    upstream::{Dns, Proxy, Upstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

use super::peers::{OK, Raw, call, get, soon, text, until};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// What is said of a name.
#[derive(Clone)]
enum Says {
    Records {
        ttl: u32,
        data: Vec<Vec<u8>>,
    },
    Code(u8),
    /// Too long for UDP.
    Long(Vec<Vec<u8>>),
    /// What stands after the question, and how many answers that is.
    Lies(u16, Vec<u8>),
}

#[derive(Default)]
struct Zone {
    says: HashMap<(String, u16), Says>,
    asked: HashMap<(String, u16), usize>,
}

/// A name server.
#[derive(Clone)]
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let server = Self { address, zone: Arc::default() };
        let over_udp = server.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                udp.send_to(&over_udp.answer(&buffer[..length], false), from).await.unwrap();
            }
        });
        let over_tcp = server.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let server = over_tcp.clone();
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut query = vec![0; length.into()];
                        stream.read_exact(&mut query).await.unwrap();
                        let answer = server.answer(&query, true);
                        stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        server
    }

    fn say(&self, name: &str, kind: u16, says: Says) {
        self.zone.lock().unwrap().says.insert((name.to_owned(), kind), says);
    }

    /// The IPv4 addresses of a name.
    pub(crate) fn addresses(&self, name: &str, ttl: u32, addresses: &[Ipv4Addr]) {
        let data = addresses.iter().map(|address| address.octets().to_vec()).collect();
        self.say(name, A, Says::Records { ttl, data });
    }

    /// Records as priority, weight, port and target.
    pub(crate) fn services(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let data = records.iter().map(|(priority, weight, port, target)| {
            let numbers = [priority, weight, port].into_iter().flat_map(|number| number.to_be_bytes());
            numbers.chain(written(target)).collect()
        });
        self.say(name, SRV, Says::Records { ttl, data: data.collect() });
    }

    fn asked(&self, name: &str, kind: u16) -> usize {
        self.zone.lock().unwrap().asked.get(&(name.to_owned(), kind)).copied().unwrap_or(0)
    }

    fn answer(&self, query: &[u8], over_tcp: bool) -> Vec<u8> {
        let (mut labels, mut at) = (Vec::new(), 12);
        while query[at] != 0 {
            let label = &query[at + 1..][..query[at].into()];
            labels.push(String::from_utf8(label.to_ascii_lowercase()).unwrap());
            at += 1 + label.len();
        }
        let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
        let key = (labels.join("."), kind);
        let mut zone = self.zone.lock().unwrap();
        *zone.asked.entry(key.clone()).or_default() += 1;
        let (code, truncated, count, rest) = match zone.says.get(&key) {
            // The name is there, with other records.
            None if zone.says.keys().any(|(name, _)| *name == key.0) => (0, false, 0, Vec::new()),
            None => (NXDOMAIN, false, 0, Vec::new()),
            Some(Says::Code(code)) => (*code, false, 0, Vec::new()),
            Some(Says::Long(_)) if !over_tcp => (0, true, 0, Vec::new()),
            Some(Says::Long(data)) => (0, false, data.len(), records(kind, 60, data)),
            Some(Says::Records { ttl, data }) => (0, false, data.len(), records(kind, *ttl, data)),
            Some(Says::Lies(count, rest)) => (0, false, usize::from(*count), rest.clone()),
        };
        let mut answer = query[..2].to_vec();
        answer.extend([if truncated { 0x87 } else { 0x85 }, 0x80 | code, 0, 1]);
        answer.extend(u16::try_from(count).unwrap().to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(&query[12..at + 5]);
        answer.extend(rest);
        answer
    }
}

/// A name as it stands in a message.
fn written(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    labels.flat_map(label).chain([0]).collect()
}

fn record(kind: u16, ttl: u32, length: u16, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(data);
    record
}

fn records(kind: u16, ttl: u32, data: &[Vec<u8>]) -> Vec<u8> {
    data.iter().flat_map(|data| record(kind, ttl, data.len().try_into().unwrap(), data)).collect()
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const HERE: [Ipv4Addr; 1] = [Ipv4Addr::LOCALHOST];

fn dns(server: &NameServer) -> Dns {
    Dns::servers([server.address]).unwrap().lifetimes(SECOND, HOUR)
}

fn named(dns: &Dns, endpoint: impl Into<String>) -> Upstream {
    Upstream::builder("named").endpoint(endpoint.into()).resolver(dns.clone()).build().unwrap()
}

fn addresses(upstream: &Upstream) -> Vec<SocketAddr> {
    upstream.endpoints().iter().map(|endpoint| endpoint.address).collect()
}

fn stale(upstream: &Upstream) -> String {
    upstream.discovery().unwrap().stale.as_deref().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn all_addresses_of_a_name_are_endpoints() {
    let server = NameServer::start().await;
    let ours = [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 1)];
    server.addresses("orders.test", 60, &ours);
    let six: Ipv6Addr = "2001:db8::1".parse().unwrap();
    server.say("orders.test", AAAA, Says::Records { ttl: 60, data: vec![six.octets().to_vec()] });
    let upstream = named(&dns(&server), "orders.test:8080");
    soon(upstream.warm()).await.unwrap();
    let expected: Vec<SocketAddr> =
        ["192.0.2.1:8080", "192.0.2.2:8080", "[2001:db8::1]:8080"].map(|at| at.parse().unwrap()).into();
    assert_eq!(addresses(&upstream), expected);

    // More than a datagram holds is asked for over TCP.
    let many = (1..=100).map(|last| vec![192, 0, 2, last]).collect();
    server.say("many.test", A, Says::Long(many));
    let many = named(&dns(&server), "many.test:80");
    soon(many.warm()).await.unwrap();
    assert_eq!(addresses(&many).len(), 100);
}

#[tokio::test]
async fn an_answer_is_believed_for_as_long_as_it_says() {
    let server = NameServer::start().await;
    for (name, ttl) in [("often", 1), ("seldom", 3000), ("capped", 3000), ("raised", 0)] {
        server.addresses(name, ttl, &HERE);
    }
    let of = |name: &str, shortest, longest| {
        let dns = Dns::servers([server.address]).unwrap().lifetimes(shortest, longest);
        named(&dns, format!("{name}:80"))
    };
    let upstreams = [
        of("often", SECOND, HOUR),
        of("seldom", SECOND, HOUR),
        of("capped", SECOND, SECOND),
        of("raised", HOUR, HOUR),
    ];
    for upstream in &upstreams {
        soon(upstream.warm()).await.unwrap();
    }
    until(|| server.asked("often", A) >= 4 && server.asked("capped", A) >= 4).await;
    assert_eq!((server.asked("seldom", A), server.asked("raised", A)), (1, 1));
    let another = Ipv4Addr::new(192, 0, 2, 1);
    server.addresses("often", 1, &[another]);
    until(|| addresses(&upstreams[0]) == [SocketAddr::from((another, 80))]).await;
}

#[tokio::test]
async fn records_of_services_are_endpoints_with_priority_and_weight() {
    let server = NameServer::start().await;
    let peers = [Raw::answering(OK).await, Raw::answering(OK).await, Raw::answering(OK).await];
    let [one, two, three] = [0, 1, 2].map(|at| peers[at].address.port());
    ["one.test", "two.test"].iter().for_each(|name| server.addresses(name, 60, &HERE));
    let name = "_http._tcp.orders.test";
    let all = [(20, 0, three, "two.test."), (10, 3, one, "one.test."), (10, 1, two, "two.test.")];
    server.services(name, 1, &all);
    let dns = dns(&server);
    let upstream = Upstream::builder("orders").source(dns.srv(name).unwrap()).resolver(dns).build().unwrap();
    let proxy = Proxy::new(upstream.clone());
    assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
    let told = || {
        let endpoints = upstream.endpoints();
        endpoints.iter().map(|at| (at.address.port(), at.priority, at.weight.get())).collect::<Vec<_>>()
    };
    let known = [(three, 1, 1), (one, 0, 3), (two, 0, 1)];
    assert_eq!(told(), known);

    let empty = Says::Records { ttl: 1, data: Vec::new() };
    for says in [Says::Code(SERVFAIL), Says::Code(NXDOMAIN), empty] {
        server.say(name, SRV, says);
        until(|| !stale(&upstream).is_empty()).await;
        assert!(stale(&upstream).starts_with(name), "{}", stale(&upstream));
        assert_eq!(told(), known);
        assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
        server.services(name, 1, &all);
        until(|| stale(&upstream).is_empty()).await;
    }

    // One target is gone, with its address; the others stay.
    server.services(name, 1, &[(10, 1, one, "one.test."), (10, 1, two, "nowhere.test.")]);
    until(|| told() == [(one, 0, 1)]).await;
    assert!(stale(&upstream).starts_with("nowhere.test"), "{}", stale(&upstream));

    // What is no host name takes nothing away from the others, and shows.
    server.services(
        name,
        1,
        &[(10, 1, one, "one.test."), (10, 1, two, "od d.test."), (5, 1, 0, "two.test.")],
    );
    until(|| stale(&upstream).contains("not all of its records are endpoints")).await;
    assert_eq!(told(), [(one, 0, 1)]);

    server.services(name, 1, &[(0, 0, 0, ".")]);
    until(|| told().is_empty()).await;
    assert_eq!(stale(&upstream), "", "there is no such service, for certain");
    assert_eq!(call(&proxy, get("/")).await.unwrap_err().reason(), Reason::NoEndpoint);
}

#[tokio::test]
async fn no_failure_and_no_lie_takes_endpoints_away() {
    let server = NameServer::start().await;
    let address = record(A, 1, 4, &[127, 0, 0, 1]);
    let lies = [
        Says::Code(SERVFAIL),
        Says::Code(NXDOMAIN),
        Says::Code(5),
        Says::Records { ttl: 1, data: Vec::new() },
        // Longer than the message.
        Says::Lies(1, record(A, 1, 60_000, &[127, 0, 0, 1])),
        // Longer and shorter than an address.
        Says::Lies(1, record(A, 1, 5, &[127, 0, 0, 1, 1])),
        Says::Lies(1, record(A, 1, 3, &[127, 0, 0])),
        // More records than there are.
        Says::Lies(u16::MAX, address.clone()),
        // A name that points at itself.
        Says::Lies(1, [&[0xc0, 17], &address[2..]].concat()),
        // The address of somebody else.
        Says::Lies(1, [written("else.test"), address[2..].to_vec()].concat()),
        Says::Lies(1, vec![0xff; 400]),
    ];
    let dns = dns(&server);
    let mut upstreams = Vec::new();
    for at in 0..lies.len() {
        server.addresses(&format!("n{at}.test"), 1, &HERE);
        let upstream = named(&dns, format!("n{at}.test:80"));
        soon(upstream.warm()).await.unwrap();
        upstreams.push(upstream);
    }
    for (at, lie) in lies.into_iter().enumerate() {
        server.say(&format!("n{at}.test"), A, lie);
    }
    for (at, upstream) in upstreams.iter().enumerate() {
        until(|| !stale(upstream).is_empty()).await;
        assert_eq!(addresses(upstream), [SocketAddr::from((Ipv4Addr::LOCALHOST, 80))], "{at}");
        assert!(upstream.discovery().unwrap().failures > 0);
    }
    for at in 0..upstreams.len() {
        server.addresses(&format!("n{at}.test"), 1, &[Ipv4Addr::new(192, 0, 2, 1)]);
    }
    for upstream in &upstreams {
        until(|| stale(upstream).is_empty()).await;
        assert_eq!(addresses(upstream), [SocketAddr::from(([192, 0, 2, 1], 80))]);
    }
}

#[test]
fn what_is_no_name_and_no_server_is_refused() {
    assert!(Dns::servers([]).is_err());
    let dns = Dns::servers(["192.0.2.53:53".parse().unwrap()]).unwrap();
    assert!(dns.srv(&"a".repeat(64)).is_err());
}
