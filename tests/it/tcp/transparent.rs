//! Connections that are redirected on their way, between two hosts: network namespaces, in one of which a service connects to
//! addresses that nobody has, and in the other one a server listens. Both have a gateway beside them, and speak mTLS.
use portcullis::transport::Listener;
use rcgen::CertificateParams;

use super::soon;
use crate::{
    gateway::world::{Directory, program},
    support::{
        certificates::{Authority, uri},
        hosts,
    },
};

const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";
const DATABASE: &str = "spiffe://shop.example/ns/shop/sa/database";

/// `$1` is the program.
const SCRIPT: &str = r#"
ip -n service route add default via 10.77.0.2
ip -n service -6 route add default via fd77::2

# What the service sends elsewhere goes to the gateway beside it.
ip netns exec service nft -f - <<'RULES'
table inet out {
  chain out {
    type nat hook output priority -100
    ip daddr 198.51.100.0/24 tcp dport 5432 redirect to :15001
    ip6 daddr 2001:db8::/32 tcp dport 5432 redirect to :15001
  }
}
RULES
# What comes to the server goes to the gateway beside that: its own address by REDIRECT, and others that keep theirs by TPROXY.
ip netns exec server nft -f - <<'RULES'
table inet into {
  chain redirected {
    type nat hook prerouting priority -100
    tcp dport 5432 redirect to :15006
  }
  chain kept {
    type filter hook prerouting priority -150
    ip daddr 203.0.113.0/24 tcp dport 7000 tproxy ip to :15007 meta mark set 1
  }
}
RULES
ip -n server rule add fwmark 1 lookup 100
ip -n server route add local 0.0.0.0/0 dev lo table 100

for host in service server; do
  ip netns exec $host "$1" --config $host.yaml >$host.out 2>$host.log &
done
ip netns exec server python3 -c '
import socket
server = socket.create_server(("127.0.0.1", 6000))
while True:
    client, _ = server.accept()
    client.sendall(b"the server hears " + client.recv(1000))
    client.close()
' &
listens service 15001
listens server 15006
listens server 6000

say() {
  ip netns exec service python3 -c '
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
try:
    client.sendall(sys.argv[3].encode() + b"\r\n")
    heard = b""
    while piece := client.recv(1000):
        heard += piece
    print(sys.argv[3], "->", heard.decode())
except ConnectionResetError:
    print(sys.argv[3], "-> reset")
' "$@"
}
say 198.51.100.7 5432 'of IPv4'
say 2001:db8::7 5432 'of IPv6'
say 203.0.113.9 7000 'kept'
say 198.51.100.7 5432 $'GET / HTTP/1.0\r\nhost: a\r\n'
say 127.0.0.1 15001 'to the gateway itself'
logged service 4
logged server 3
logs service server
"#;

fn write(directory: &Directory, authority: &Authority, name: &str, id: &'static str) {
    let named = |params: &mut CertificateParams| params.subject_alt_names = vec![uri(id)];
    let (chain, key) = authority.sign(named);
    directory.write(&format!("{name}.pem"), &chain);
    directory.write(&format!("{name}.key"), &key);
}

fn world() -> Directory {
    let (directory, authority) = (Directory::new("tcp-transparent"), Authority::new("mesh"));
    directory.write("ca.pem", &authority.pem());
    write(&directory, &authority, "service", ORDERS);
    write(&directory, &authority, "server", DATABASE);
    let identities = |name: &str| {
        format!(
            "apiVersion: portcullis/v1alpha1\n\
             admin: {{ address: 127.0.0.1:9901 }}\n\
             identities: {{ own: {{ certificate: {name}.pem, privateKey: {name}.key, roots: ca.pem }} }}\n"
        )
    };
    directory.write(
        "service.yaml",
        &(identities("service")
            + &format!(
                "listeners:\n\
                 - {{ name: v4, address: 127.0.0.1:15001, protocol: detect, detectTimeout: 30s, transparent: true }}\n\
                 - {{ name: v6, address: '[::1]:15001', protocol: tcp, transparent: true }}\n\
                 upstreams:\n  databases: {{ endpoints: ['10.77.0.2:5432'], tls: {{ identity: own, spiffeId: '{DATABASE}' }} }}\n\
                 tcpRoutes:\n\
                 - {{ name: elsewhere, destinations: ['198.51.100.0/25', '2001:db8:1::/48'], backendRefs: [{{ name: databases, weight: 1 }}], \
                 policies: {{ authorization: [nobody] }} }}\n\
                 - {{ name: databases, destinations: ['198.51.100.7:5432', '[2001:db8::/32]:5432'], backendRefs: [{{ name: databases }}] }}\n\
                 authorization: {{ nobody: {{ action: deny, rules: [{{ }}] }} }}\n"
            )),
    );
    directory.write(
        "server.yaml",
        &(identities("server")
            + "listeners:\n\
               - { name: redirected, address: 0.0.0.0:15006, protocol: tcp, transparent: true, tls: { identities: [own], clientCertificates: required } }\n\
               - { name: kept, address: 0.0.0.0:15007, protocol: tcp, transparent: true }\n\
               upstreams: { local: { endpoints: ['127.0.0.1:6000'] } }\n\
               tcpRoutes:\n\
               - { name: orders, listeners: [redirected], destinations: ['10.77.0.2:5432'], backendRefs: [{ name: local }], \
               policies: { authorization: [orders] } }\n\
               - { name: kept, listeners: [kept], destinations: ['203.0.113.9:7000'], backendRefs: [{ name: local }] }\n\
               authorization: { orders: { action: allow, rules: [{ from: [{ serviceAccounts: [shop/orders] }] }] } }\n"),
    );
    directory
}

/// What was not redirected has no other destination than its listener.
#[tokio::test]
async fn a_connection_to_the_listener_itself_was_meant_for_it() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let mut listener = Listener::builder().transparent(true).bind(address.parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let io = soon(listener.accept()).await;
        assert_eq!(io.who().original_destination(), None, "{address}");
    }
}

#[tokio::test]
async fn it_is_seen_where_redirected_connections_were_meant_to_go() {
    let directory = world();
    let said = hosts::run(SCRIPT, ["service", "server"], program(), &directory.path(""), false).await;
    said.has(&["of IPv4 -> the server hears of IPv4"]);
    said.has(&["of IPv6 -> the server hears of IPv6"]);
    said.has(&["kept -> the server hears kept"]);
    said.has(&["to the gateway itself -> reset"]);
    said.has(&["-> HTTP/1.0 404"]);
    for (host, words) in [
        (
            "service: ",
            [
                "listener=\"v4\"",
                "route=\"databases\"",
                "destination=\"198.51.100.7:5432\"",
                "ended=\"closed\"",
            ],
        ),
        (
            "service: ",
            [
                "listener=\"v6\"",
                "route=\"databases\"",
                "destination=\"[2001:db8::7]:5432\"",
                "ended=\"closed\"",
            ],
        ),
        (
            "server: ",
            ["listener=\"redirected\"", "route=\"orders\"", "destination=\"10.77.0.2:5432\"", ORDERS],
        ),
        (
            "server: ",
            ["listener=\"kept\"", "route=\"kept\"", "destination=\"203.0.113.9:7000\"", "ended=\"closed\""],
        ),
    ] {
        said.has(&[&[host][..], &words].concat());
    }
    let direct =
        said.out.lines().find(|line| line.contains(r#"reason="no_route" error="#)).unwrap_or_default();
    assert!(direct.contains("listener=\"v4\"") && !direct.contains("destination="), "{direct}\n{}", said.out);
}
