//! Two hosts, of which neither service knows of a sidecar: their connections are redirected by the rules that the example prints.
use super::identities;
use crate::{examples::examples, support::hosts};

/// `$1` is the program.
const SCRIPT: &str = r#"
# Each sidecar has a user of its own, whose connections are left alone.
for host in web orders; do
  ip netns exec $host setpriv --reuid=65534 --regid=65534 --clear-groups "$1" --config $host.yaml >$host.out 2>$host.log &
done
ip netns exec orders python3 -m http.server 8080 --bind 127.0.0.1 --directory www >/dev/null 2>&1 &
ip netns exec orders python3 -m http.server 9000 --bind 10.77.0.2 --directory www >/dev/null 2>&1 &
ip netns exec orders python3 -c '
import socket
server = socket.create_server(("0.0.0.0", 9001))
while True:
    client, _ = server.accept()
    client.sendall(b"plain " + client.recv(1000))
    client.close()
' &
listens web 15001
ip netns exec orders python3 -m http.server 8081 --bind fd77::2 --directory www >/dev/null 2>&1 &
for port in 15006 8080 8081 9000 9001; do listens orders $port; done

capture() {
  local program="$1"; shift
  "$program" capture --user 65534 --outbound 15001 "$@" | ip netns exec web nft -f -
  "$program" capture --user 65534 --inbound 15006 --except-inbound 9000 --except-inbound 9001 --except-inbound 9901 "$@" | ip netns exec orders nft -f -
}
release() { "$1" capture --undo | ip netns exec $2 nft -f -; }
ask() { ip netns exec web curl --silent --show-error --max-time 30 "$@" 2>&1 || echo "failed"; }
say() {
  ip netns exec web python3 -c '
import socket, sys
client = socket.create_connection(("10.77.0.2", int(sys.argv[1])), timeout=30)
client.sendall(sys.argv[2].encode() + b"\r\n")
print("%s: %s" % (sys.argv[2], client.recv(1000).decode().strip()))
' "$@"
}

capture "$1"
capture "$1" # it may be run again
echo "captured: $(ask --header 'Host: orders' http://10.77.0.2:8080/)"
echo "passed: $(ask --header 'Host: elsewhere' http://10.77.0.2:9000/)"
say 9001 HELLO
# The rules that have just been put there say what becomes of IPv6: it is refused on both sides.
release "$1" orders; echo "refused outbound: $(ask http://[fd77::2]:8081/)"
capture "$1"; release "$1" web; echo "refused inbound: $(ask http://[fd77::2]:8081/)"
capture "$1" --ipv6 leave; echo "left: $(ask http://[fd77::2]:8081/)"
capture "$1" --ipv6 redirect
echo "captured by IPv6: $(ask --header 'Host: orders6' http://[fd77::2]:8080/)"
echo "captured by IPv4: $(ask --header 'Host: orders' http://10.77.0.2:8080/)"
for host in web orders; do release "$1" $host; done
echo "undone: $(ask --header 'Host: orders' http://10.77.0.2:8080/)"
logged web 5
logged orders 3
logs web orders
"#;

#[tokio::test]
async fn neither_service_knows_of_its_sidecar() {
    let directory = identities(&["orders", "web"]);
    std::fs::create_dir(directory.path("www")).unwrap();
    directory.write("www/index.html", "three orders");
    directory.write(
        "web.yaml",
        "apiVersion: portcullis/v1alpha1\n\
         admin: { address: 127.0.0.1:9901 }\n\
         identities: { web: { directory: web } }\n\
         upstreams:\n\
         \x20 orders: { endpoints: ['10.77.0.2:8080'], tls: { identity: web, spiffeId: spiffe://mesh.local/orders } }\n\
         \x20 orders6: { endpoints: ['[fd77::2]:8080'], tls: { identity: web, spiffeId: spiffe://mesh.local/orders } }\n\
         outbound:\n\
         \x20 listeners:\n\
         \x20   - { name: calls, address: 127.0.0.1:15001, transparent: true, protocol: detect, detectTimeout: 30s }\n\
         \x20   - { name: calls6, address: '[::1]:15001', transparent: true, protocol: detect, detectTimeout: 30s }\n\
         \x20 destinations: { orders: {}, orders6: {} }\n\
         \x20 unknownHosts: passThrough\n",
    );
    directory.write(
        "orders.yaml",
        "apiVersion: portcullis/v1alpha1\n\
         admin: { address: 127.0.0.1:9901 }\n\
         identities: { orders: { directory: orders } }\n\
         authorization: { callers: { action: allow, rules: [{ from: [{ peers: [spiffe://mesh.local/web] }] }] } }\n\
         upstreams: { service: { endpoints: ['127.0.0.1:8080'] } }\n\
         inbound:\n\
         \x20 listeners: [{ name: mesh, address: '[::]:15006', transparent: true, \
         tls: { identities: [orders], clientCertificates: required } }]\n\
         \x20 routes: [{ name: service, rules: [{ policies: { authorize: { policies: [callers] } }, \
         backendRefs: [{ name: service }] }] }]\n",
    );
    // Users of their own are root's to give.
    let program = examples().join("sidecar");
    let said = hosts::run(SCRIPT, ["web", "orders"], &program, &directory.path(""), true).await;
    said.has(&["captured: three orders"]);
    said.has(&["passed: three orders"]);
    said.has(&["HELLO: plain HELLO"]);
    for refused in ["refused outbound: curl: (7)", "refused inbound: curl: (7)", "undone: curl: (7)"] {
        said.has(&[refused]);
    }
    said.has(&["left: three orders"]);
    said.has(&["captured by IPv6: three orders"]);
    said.has(&["captured by IPv4: three orders"]);
    said.has(&["web: ", r#"client="fd77::1""#, r#"endpoint="[fd77::2]:8080""#, "status=200"]);
    said.has(&["orders: ", r#"route="service/0""#, r#"peer="spiffe://mesh.local/web""#, "status=200"]);
    said.has(&["web: ", r#"route="passThrough""#, r#"endpoint="10.77.0.2:9000""#, "status=200"]);
    said.has(&["web: ", r#"route="passThrough""#, r#"endpoint="10.77.0.2:9001""#]);
}
