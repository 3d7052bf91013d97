#!/usr/bin/env python3
"""CPU per request of proxies, side by side.

    benches/gateway/bench.py [--rounds 5] [--seconds 5] [--connections 64] TARGET...

Targets: direct, naive, nginx, portcullis, portcullis-full, portcullis-es256; envoy and envoy-full if $ENVOY names the
binary; pingora if $PINGORA does.
docs/benchmarks.md says how to build what this runs, and what the numbers mean.

The proxy is pinned to core 0, the upstream and wrk to core 1. CPU is read from schedstat, over the process tree.
R is the proxy's CPU a request divided by the upstream's in the same interval: it cancels the drift of the
machine's clock. Targets take turns, round by round; the median and the range over the rounds are printed.
"""
import argparse
import base64
import functools
import glob
import hashlib
import hmac
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
UPSTREAM_PORT = 29000
SECRET = bytes([7] * 32)


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@functools.cache
def issued(algorithm):
    """A token, and the key set that verifies it."""
    now = int(time.time())
    claims = {"iss": "https://issuer.example", "aud": "api", "sub": "bench", "iat": now, "exp": now + 86400}
    parts = {"alg": algorithm, "typ": "JWT", "kid": "k"}, claims
    signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
    if algorithm == "HS256":
        jwk = {"kty": "oct", "k": b64(SECRET)}
        signature = hmac.new(SECRET, signed.encode(), hashlib.sha256).digest()
    else:
        point, signature = ecdsa(signed.encode())
        jwk = {"kty": "EC", "crv": "P-256", "x": b64(point[:32]), "y": b64(point[32:])}
    keys = json.dumps({"keys": [{"alg": algorithm, "kid": "k", **jwk}]})
    return f"{signed}.{b64(signature)}", keys


def ecdsa(message):
    """A public point on P-256, and a signature by its key: both halves in 32 bytes, where openssl has DER."""
    def openssl(*args, **how):
        return subprocess.run(["openssl", *args], capture_output=True, check=True, **how).stdout
    with tempfile.NamedTemporaryFile() as key:
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key.name)
        point = openssl("ec", "-in", key.name, "-pubout", "-outform", "DER")[-64:]
        der = openssl("dgst", "-sha256", "-sign", key.name, input=message)
    signature, at = b"", 2
    for _ in range(2):
        end = at + 2 + der[at + 1]
        signature += der[at + 2:end].lstrip(b"\0").rjust(32, b"\0")
        at = end
    return point, signature


def built(pattern):
    # What is measured is built as one deploys it, what measures is not.
    profile = "dist" if pattern.startswith("examples/") else "release"
    found = [path for path in glob.glob(os.path.join(TARGET, profile, pattern)) if os.access(path, os.X_OK)]
    found = [path for path in found if not path.endswith(".d")]
    if not found:
        sys.exit(f"{pattern} is not built: see docs/benchmarks.md")
    return max(found, key=os.path.getmtime)


def envoy(scratch, full):
    """Envoy's configuration: a bare proxy, or the same policies as portcullis-full."""
    kind = "type.googleapis.com/envoy.extensions.filters.http"
    filters = []
    if full:
        plenty = {"max_tokens": 100000000, "tokens_per_fill": 100000000, "fill_interval": "1s"}
        always = {"default_value": {"numerator": 100}}
        limit = {"@type": f"{kind}.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "rl",
                 "token_bucket": plenty, "filter_enabled": always, "filter_enforced": always}
        provider = {"issuer": "https://issuer.example", "audiences": ["api"], "forward": True,
                    "local_jwks": {"inline_string": issued("HS256")[1]}}
        jwt = {"@type": f"{kind}.jwt_authn.v3.JwtAuthentication", "providers": {"p": provider},
               "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}]}
        filters = [{"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
                   {"name": "envoy.filters.http.jwt_authn", "typed_config": jwt}]
    router = {"@type": f"{kind}.router.v3.Router", "suppress_envoy_headers": True}
    filters.append({"name": "envoy.filters.http.router", "typed_config": router})
    route = {"match": {"prefix": "/"}, "route": {"cluster": "u"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
                 "HttpConnectionManager",
        "stat_prefix": "in", "codec_type": "AUTO", "generate_request_id": full,
        "always_set_request_id_in_response": full,
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    }
    if full:
        log = {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
               "path": "/dev/null"}
        manager["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": log}]
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoint = {"endpoint": {"address": address(UPSTREAM_PORT)}}
    cluster = {"name": "u", "connect_timeout": "2s", "type": "STATIC",
               "circuit_breakers": {"thresholds": [{"max_connections": 4096, "max_pending_requests": 8192,
                                                    "max_requests": 8192}]},
               "load_assignment": {"cluster_name": "u", "endpoints": [{"lb_endpoints": [endpoint]}]}}
    listener = {"name": "l", "address": address(29103),
                "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}]}
    path = os.path.join(scratch, "envoy.json")
    with open(path, "w") as file:
        json.dump({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, file)
    return path


def gateway(scratch, name, algorithm="HS256"):
    """A copy of the configuration with its key set beside it; the secret is nobody else's to read."""
    with open(os.path.join(HERE, f"{name}.yaml")) as file:
        text = file.read().replace("HS256", algorithm)
    with open(os.path.join(scratch, f"{name}.yaml"), "w") as file:
        file.write(text)
    with open(os.path.join(scratch, "bench.jwks.json"), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(issued(algorithm)[1])
    return [built("examples/gateway"), "--config", os.path.join(scratch, f"{name}.yaml")]


def algorithm(name):
    return "ES256" if name.endswith("es256") else "HS256"


def command(name, scratch):
    if name == "direct":
        return None, UPSTREAM_PORT
    if name == "naive":
        return [built("deps/gateway_naive-*"), "127.0.0.1:29100", f"127.0.0.1:{UPSTREAM_PORT}"], 29100
    if name == "pingora":
        return [os.environ["PINGORA"], "127.0.0.1:29104", f"127.0.0.1:{UPSTREAM_PORT}"], 29104
    if name == "nginx":
        return ["nginx", "-p", scratch + "/", "-c", os.path.join(HERE, "nginx.conf")], 29101
    if name in ("portcullis", "portcullis-full", "portcullis-es256"):
        full = name != "portcullis"
        # Bare as nginx is: without an access log.
        log = ["env", f"PORTCULLIS_LOG={'info' if full else 'warn'}"]
        return log + gateway(scratch, "full" if full else "bare", algorithm(name)), 29110
    if name in ("envoy", "envoy-full"):
        config = envoy(scratch, name.endswith("full"))
        run = [os.environ["ENVOY"], "-c", config, "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
        return run, 29103
    sys.exit(f"no target {name}")


def pinned(core, run):
    return ["taskset", "-c", str(core)] + run


def tree(pid):
    out = [pid]
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            for child in open(path).read().split():
                out += tree(int(child))
        except OSError:
            pass
    return out


def cpu(pid):
    """Nanoseconds on a core, all threads of the tree."""
    total = 0
    for process in tree(pid):
        for path in glob.glob(f"/proc/{process}/task/*/schedstat"):
            try:
                total += int(open(path).read().split()[0])
            except OSError:
                pass
    return total


def busy():
    fields = [int(field) for field in open("/proc/stat").readline().split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def rss(pid):
    total = 0
    for process in tree(pid):
        for line in open(f"/proc/{process}/smaps_rollup"):
            if line.startswith("Rss:"):
                total += int(line.split()[1])
    return total / 1024


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


def wait_for(port, process):
    for _ in range(400):
        if is_open(port):
            return
        if process.poll() is not None:
            raise RuntimeError(f"exited with {process.returncode}")
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}")


def load(port, seconds, options, bearer):
    url = f"http://127.0.0.1:{port}/api/v1/items"
    run = ["wrk", "-t1", f"-c{options.connections}", f"-d{seconds}s", "-H", f"Authorization: Bearer {bearer}", url]
    text = subprocess.run(pinned(1, run), capture_output=True, text=True, check=True).stdout
    count, time_, unit = re.search(r"(\d+) requests in ([\d.]+)(\w+)", text).groups()
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if bad:
        raise RuntimeError(f"{bad[1]} of {count} answers were no success")
    return int(count), float(time_) * (60 if unit == "m" else 1)


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(name, options):
    bearer, _ = issued(algorithm(name))
    with tempfile.TemporaryDirectory() as scratch:
        run, port = command(name, scratch)
        for taken in {UPSTREAM_PORT, port}:
            if is_open(taken):
                raise RuntimeError(f"port {taken} is taken by another process")
        upstream = subprocess.Popen(
            pinned(1, [built("deps/gateway_upstream-*"), f"127.0.0.1:{UPSTREAM_PORT}"]))
        proxy = None
        try:
            wait_for(UPSTREAM_PORT, upstream)
            if run:
                proxy = subprocess.Popen(pinned(0, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                wait_for(port, proxy)
            time.sleep(0.5)
            watched = (proxy or upstream).pid
            idle = rss(watched)
            load(port, 2, options, bearer)
            before = cpu(watched), cpu(upstream.pid), busy(), children_cpu()
            count, seconds = load(port, options.seconds, options, bearer)
            after = cpu(watched), cpu(upstream.pid), busy(), children_cpu()
            spent, up, all_, wrk = (b - a for a, b in zip(before, after))
            ours = (spent + (up if proxy else 0)) / 1e9 + wrk
            return {"rps": count / seconds, "us": spent / 1e3 / count, "ratio": spent / up,
                    "rss": idle, "other": (all_ - ours) / seconds}
        finally:
            for process in (proxy, upstream):
                if process:
                    process.terminate()
                    try:
                        process.wait(8)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("targets", nargs="+")
    options = parser.parse_args()
    results = {name: [] for name in options.targets}
    for round_ in range(options.rounds):
        for name in options.targets:
            try:
                result = measure(name, options)
            except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                print(f"{name}: {error}", flush=True)
                continue
            results[name].append(result)
            print(f"round {round_ + 1} {name:<16} {result['us']:6.2f} us/request  R {result['ratio']:.2f}"
                  f"  {result['rps']:.0f} requests/s  other load {result['other']:.2f} cores", flush=True)
    print("\n| target | CPU us/request | R, median | R, range | requests/s | RSS idle, MiB |")
    print("|---|---|---|---|---|---|")
    for name, rows in results.items():
        if rows:
            of = lambda key: [row[key] for row in rows]
            print(f"| {name} | {statistics.median(of('us')):.1f} | {statistics.median(of('ratio')):.2f} |"
                  f" {min(of('ratio')):.2f} to {max(of('ratio')):.2f} | {statistics.median(of('rps')):.0f} |"
                  f" {statistics.median(of('rss')):.1f} |")


if __name__ == "__main__":
    main()
