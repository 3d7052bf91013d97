//! Two hosts, of which neither service knows of a sidecar: their connections are redirected by the rules that the example prints.
use std::process::Stdio;

use tokio::{process::Command, time::timeout};

use super::identities;
use crate::{examples::examples, gateway::world::PATIENCE};

/// In namespaces of its own, which go with it: what it starts, builds and mounts is gone when it is. `$1` is the program.
const SCRIPT: &str = r#"
set -euo pipefail
for tool in curl ip nft python3 setpriv; do
  command -v "$tool" >/dev/null || { echo "there is no $tool: tests/run.sh installs it" >&2; exit 3; }
done
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip netns add web
ip netns add orders
ip link add v0 netns web type veth peer name v0 netns orders
ip -n web address add 10.77.0.1/24 dev v0
ip -n orders address add 10.77.0.2/24 dev v0
for host in web orders; do ip -n $host link set lo up; ip -n $host link set v0 up; done

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
for host in web orders; do
  for _ in $(seq 600); do [ "$(wc -l <$host.out)" -ge 2 ] && break; sleep 0.1; done
done
for at in 127.0.0.1:8080 10.77.0.2:9000; do
  for _ in $(seq 600); do ip netns exec orders curl --silent --output /dev/null http://$at/ && break; sleep 0.1; done
done

capture() {
  "$1" capture --user 65534 --outbound 15001 | ip netns exec web nft -f -
  "$1" capture --user 65534 --inbound 15006 --except-inbound 9000 --except-inbound 9001 --except-inbound 9901 | ip netns exec orders nft -f -
}
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
for host in web orders; do "$1" capture --undo | ip netns exec $host nft -f -; done
echo "undone: $(ask --header 'Host: orders' http://10.77.0.2:8080/)"
sleep 0.2
for host in web orders; do sed "s/^/$host: /" $host.log; done
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
         upstreams: { orders: { endpoints: ['10.77.0.2:8080'], tls: { identity: web, spiffeId: spiffe://mesh.local/orders } } }\n\
         outbound:\n\
         \x20 listeners: [{ name: calls, address: 127.0.0.1:15001, transparent: true, protocol: detect, detectTimeout: 30s }]\n\
         \x20 destinations: { orders: {} }\n\
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
         \x20 listeners: [{ name: mesh, address: '0.0.0.0:15006', transparent: true, \
         tls: { identities: [orders], clientCertificates: required } }]\n\
         \x20 routes: [{ name: service, rules: [{ policies: { authorize: { policies: [callers] } }, \
         backendRefs: [{ name: service }] }] }]\n",
    );
    // Users of their own are root's to give.
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = Command::new(if is_root { "unshare" } else { "sudo" });
    if !is_root {
        command.args(["--non-interactive", "unshare"]);
    }
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", SCRIPT, "script"])
        .arg(examples().join("sidecar"))
        .current_dir(directory.path(""))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE * 2, command.output()).await.expect("it ends").expect("`unshare` runs");
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "two hosts could not be set up, with network namespaces and nftables, as root: {failed}\n{said}"
    );
    let has = |words: &[&str]| {
        let found = said.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line has {words:?}:\n{said}\n{failed}");
    };
    has(&["captured: three orders"]);
    has(&["passed: three orders"]);
    has(&["HELLO: plain HELLO"]);
    has(&["undone: curl: (7)"]);
    has(&["orders: ", r#"route="service/0""#, r#"peer="spiffe://mesh.local/web""#, "status=200"]);
    has(&["web: ", r#"route="passThrough""#, r#"endpoint="10.77.0.2:9000""#, "status=200"]);
    has(&["web: ", r#"route="passThrough""#, r#"endpoint="10.77.0.2:9001""#]);
}
