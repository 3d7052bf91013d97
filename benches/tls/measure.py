#!/usr/bin/env python3
"""TLS of proxies, side by side: CPU of handshakes and requests, and memory.

    benches/tls/measure.py [--rounds 5] [--seconds 5] WHAT...

WHAT is a kind and a target: `mtls:nginx`, `mtls:nginx-tickets` (as Debian ships it), `mtls:haproxy`, `mtls:envoy`,
`mtls:portcullis` (a connection with a client certificate for each request); `tls:...` (wrk, keep-alive, over TLS); `sidecar:envoy`, `sidecar:portcullis` (wrk, keep-alive,
plain in and mTLS out); `memory:...` of the same two. `mtls` alone means all of that kind. Envoy is what $ENVOY names.
docs/benchmarks.md says how to build what this runs, and what the numbers mean.

The method is that of benches/gateway/bench.py: the proxy on core 0, upstream and load on core 1, CPU from schedstat, targets
in turns. R is the proxy's CPU divided by the upstream's; L, for handshakes, by that of the client, who does the same
work whatever the proxy is.
"""
import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.append(os.path.join(os.path.dirname(HERE), "gateway"))
from bench import (UPSTREAM_PORT, built, busy, children_cpu, cpu, is_open, pinned, rss, tree, wait_for)  # noqa: E402

PORTS = {"nginx": 29201, "nginx-tickets": 29201, "haproxy": 29202, "envoy": 29203, "portcullis": 29210}
SECURE_UPSTREAM_PORT = 29001
KINDS = {"mtls": ["nginx", "nginx-tickets", "haproxy", "envoy", "portcullis"],
         "tls": ["nginx", "haproxy", "envoy", "portcullis"],
         "sidecar": ["envoy", "portcullis"], "memory": ["envoy", "portcullis"]}
DOMAIN = "spiffe://mesh.local"


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def certificates(scratch):
    """ECDSA P-256: a root, and two workloads of it; as mesh_ca writes them, without its renewal."""
    at = lambda *names: os.path.join(scratch, *names)
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", at("ca.key"), "-out", at("ca.crt"), "-days", "2", "-subj", "/CN=bench",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name in ("orders", "web"):
        os.mkdir(at(name))
        with open(at("extensions"), "w") as file:
            file.write(f"subjectAltName=URI:{DOMAIN}/{name},DNS:localhost,DNS:{name},IP:127.0.0.1\n"
                       "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
                       "basicConstraints=critical,CA:FALSE\n")
        openssl("req", *new, "-keyout", at(name, "tls.key"), "-out", at("request"), "-subj", "/")
        openssl("x509", "-req", "-in", at("request"), "-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial",
                "-days", "1", "-extfile", at("extensions"), "-out", at(name, "tls.crt"))
        os.chmod(at(name, "tls.key"), 0o600)
        parts = [open(at(name, part)).read() for part in ("tls.crt", "tls.key")]
        with open(at(name, "both.pem"), "w") as file:
            file.write("".join(parts))
        with open(at(name, "ca.crt"), "w") as file:
            file.write(open(at("ca.crt")).read())


def filled(name, scratch, **values):
    """A configuration beside the certificates: what stands in it as @NAME@ is filled in."""
    text = open(os.path.join(HERE, name)).read()
    for key, value in {"dir": scratch, "upstream": UPSTREAM_PORT, **values}.items():
        text = text.replace(f"@{key}@", str(value))
    path = os.path.join(scratch, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def envoy_certificate(scratch, name, peer):
    """Who it is, and who must be at the other end."""
    at = lambda file: {"filename": os.path.join(scratch, name, file)}
    context = {"tls_certificates": [{"certificate_chain": at("tls.crt"), "private_key": at("tls.key")}],
               "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
               "alpn_protocols": ["http/1.1"]}
    if peer:
        is_uri = {"san_type": "URI", "matcher": {"exact": f"{DOMAIN}/{peer}"}}
        context["validation_context"] = {"trusted_ca": at("ca.crt"), "match_typed_subject_alt_names": [is_uri]}
    return context


def envoy(scratch, kind):
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    of = "type.googleapis.com/envoy.extensions."
    socket_of = lambda side, said: {"name": "tls", "typed_config": {
        "@type": f"{of}transport_sockets.tls.v3.{side}TlsContext", **said}}
    router = {"@type": f"{of}filters.http.router.v3.Router", "suppress_envoy_headers": True}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "u"}}
    manager = {"@type": f"{of}filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
               "codec_type": "AUTO", "generate_request_id": False,
               "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}]}
    chain = {"filters": [{"name": "hcm", "typed_config": manager}]}
    is_out = kind in ("sidecar", "memory")
    if not is_out:
        said = {"common_tls_context": envoy_certificate(scratch, "orders", "web" if kind == "mtls" else None),
                "disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True,
                "require_client_certificate": kind == "mtls"}
        chain["transport_socket"] = socket_of("Downstream", said)
    endpoint = {"endpoint": {"address": address(SECURE_UPSTREAM_PORT if is_out else UPSTREAM_PORT)}}
    most = {"max_connections": 4096, "max_pending_requests": 8192, "max_requests": 8192}
    cluster = {"name": "u", "connect_timeout": "2s", "type": "STATIC", "circuit_breakers": {"thresholds": [most]},
               "load_assignment": {"cluster_name": "u", "endpoints": [{"lb_endpoints": [endpoint]}]}}
    if is_out:
        said = {"common_tls_context": envoy_certificate(scratch, "web", "orders"), "sni": "localhost"}
        cluster["transport_socket"] = socket_of("Upstream", said)
    listener = {"name": "l", "address": address(PORTS["envoy"]), "filter_chains": [chain]}
    path = os.path.join(scratch, "envoy.json")
    with open(path, "w") as file:
        json.dump({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, file)
    return [os.environ["ENVOY"], "-c", path, "--concurrency", "1", "-l", "error", "--disable-hot-restart"]


def command(kind, target, scratch):
    verified = {"tls": "off", "mtls": "on"}.get(kind)
    if target in ("nginx", "nginx-tickets"):
        # OpenSSL gives two tickets for sessions that it remembers, if it may not give any that it need not remember.
        tickets = ("on", "") if target == "nginx-tickets" else ("off", "ssl_conf_command NumTickets 0;")
        said = dict(zip(("tickets", "no_tickets"), tickets), verified=verified)
        return ["nginx", "-p", scratch + "/", "-c", filled("nginx.conf", scratch, **said)]
    if target == "haproxy":
        required = f"ca-file {scratch}/orders/ca.crt verify required" if kind == "mtls" else ""
        openssl_conf = f"OPENSSL_CONF={filled('openssl.cnf', scratch)}"
        return ["env", openssl_conf, "haproxy", "-db", "-f", filled("haproxy.cfg", scratch, required=required)]
    if target == "envoy":
        return envoy(scratch, kind)
    if target != "portcullis":
        sys.exit(f"no target {target}")
    # None of the others writes an access log.
    quiet = ["env", "PORTCULLIS_LOG=warn"]
    if kind in ("sidecar", "memory"):
        path = filled("sidecar.yaml", scratch, upstream=SECURE_UPSTREAM_PORT)
        return quiet + [built("examples/sidecar"), "--config", path]
    return quiet + [built("examples/gateway"), "--config", filled(f"{kind}.yaml", scratch)]


def upstream(kind, scratch):
    """Plain text from a program that does nothing else, mTLS from nginx."""
    if kind in ("sidecar", "memory"):
        return ["nginx", "-p", scratch + "/", "-c", filled("upstream.conf", scratch)], SECURE_UPSTREAM_PORT
    return [built("deps/gateway_upstream-*"), f"127.0.0.1:{UPSTREAM_PORT}"], UPSTREAM_PORT


def said(run):
    return subprocess.run(pinned(1, run), capture_output=True, text=True, check=True, timeout=120).stdout


def wrk(url, seconds, connections=64):
    run = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", "Host: orders",
           "-H", "Authorization: Bearer " + "x" * 230, url]
    text = said(run)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text) or re.search(r"Socket errors: (.*)", text)
    if bad:
        raise RuntimeError(f"answers that were no success: {bad[1]}")
    count, took, unit = re.search(r"(\d+) requests in ([\d.]+)(\w+)", text).groups()
    return int(count), float(took) * (60 if unit == "m" else 1)


def load(kind, port, seconds, scratch, options):
    if kind == "mtls":
        run = [built("deps/tls_load-*"), "handshakes", f"127.0.0.1:{port}", os.path.join(scratch, "web"), str(seconds),
               str(options.requests)]
        count, tickets, took = re.match(r"(\d+) connections, (\d+) tickets, ([\d.]+) s", said(run)).groups()
        if int(tickets) and int(count):
            print(f"  {int(tickets) / int(count):.1f} tickets a connection", flush=True)
        return int(count), float(took)
    return wrk(f"http{'s' if kind == 'tls' else ''}://127.0.0.1:{port}/api/v1/items", seconds)


def ended(process):
    process.terminate()
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def spent(kind, target, options, scratch, port, proxy, behind):
    load(kind, port, 2, scratch, options)
    before = cpu(proxy), cpu(behind), busy(), children_cpu()
    count, seconds = load(kind, port, options.seconds, scratch, options)
    after = cpu(proxy), cpu(behind), busy(), children_cpu()
    ours, up, all_, client = (b - a for a, b in zip(before, after))
    return {"us": ours / 1e3 / count, "R": ours / up, "L": ours / 1e9 / client, "up": up / 1e3 / count,
            "rps": count / seconds, "other": (all_ - (ours + up) / 1e9 - client) / seconds}


def pss(pid):
    lines = (line for process in tree(pid) for line in open(f"/proc/{process}/smaps_rollup"))
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def memory(port, proxy):
    """Idle; with 1,000 connections that have asked once, one after the other; while wrk has 1,000 at work."""
    result = {"idle": rss(proxy), "idle, PSS": pss(proxy)}
    held = []
    for _ in range(1000):
        held.append(socket.create_connection(("127.0.0.1", port), 5))
        held[-1].sendall(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
        answer = b""
        while not answer.endswith(b"x" * 128):
            more = held[-1].recv(4096)
            if not more:
                raise RuntimeError(f"closed after {answer!r}")
            answer += more
    result["1,000 that have asked"] = rss(proxy)
    for one in held:
        one.close()
    time.sleep(1)
    run = ["wrk", "-t1", "-c1000", "-d4s", "-H", "Host: orders", f"http://127.0.0.1:{port}/"]
    busy_ = subprocess.Popen(pinned(1, run), stdout=subprocess.PIPE, text=True)
    time.sleep(3)
    result["1,000 at work"] = rss(proxy)
    text = busy_.communicate(timeout=30)[0]
    for bad in re.findall(r"(?:Non-2xx|Socket errors).*", text):
        print(f"  {bad}", flush=True)
    return result


def measure(kind, target, options):
    with tempfile.TemporaryDirectory() as scratch:
        certificates(scratch)
        (run_upstream, behind_port), port = upstream(kind, scratch), PORTS[target]
        for taken in (behind_port, port):
            if is_open(taken):
                raise RuntimeError(f"port {taken} is taken by another process")
        started = []
        try:
            for core, run, listens in ((1, run_upstream, behind_port), (0, command(kind, target, scratch), port)):
                quiet = None if options.verbose else subprocess.DEVNULL
                started.append(subprocess.Popen(pinned(core, run), stdout=quiet, stderr=quiet))
                wait_for(listens, started[-1])
            time.sleep(3 if kind == "memory" else 0.5)
            behind, proxy = (process.pid for process in started)
            if kind == "memory":
                return memory(port, proxy)
            return spent(kind, target, options, scratch, port, proxy, behind)
        finally:
            for process in reversed(started):
                ended(process)


def asked(texts):
    for text in texts:
        kind, _, target = text.partition(":")
        if kind not in KINDS:
            sys.exit(f"no kind {kind}")
        yield from [(kind, target)] if target else ((kind, each) for each in KINDS[kind])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1, help="on each connection of `mtls`")
    parser.add_argument("--verbose", action="store_true", help="what the programs say")
    parser.add_argument("what", nargs="+")
    options = parser.parse_args()
    wanted = list(dict.fromkeys(asked(options.what)))
    results = {each: [] for each in wanted}
    for round_ in range(options.rounds):
        for kind, target in wanted:
            try:
                row = measure(kind, target, options)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{kind}:{target}: {error}", flush=True)
                continue
            results[kind, target].append(row)
            text = "  ".join(f"{key} {value:.2f}" for key, value in row.items())
            print(f"round {round_ + 1} {kind}:{target:<11} {text}", flush=True)
    for (kind, target), rows in results.items():
        if rows:
            of = {key: [row[key] for row in rows] for key in rows[0]}
            medians = "; ".join(f"{key} {statistics.median(all_):.2f} ({min(all_):.2f} to {max(all_):.2f})"
                                for key, all_ in of.items())
            print(f"{kind}:{target}: {medians}")


if __name__ == "__main__":
    main()
