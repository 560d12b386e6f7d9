#!/usr/bin/env bash
# Runs a daemon in the foreground with everything it owns under one directory.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: dev.sh DIR [DAEMON ARGUMENT...]
       dev.sh --clean DIR
Builds if needed and runs a daemon in the foreground with everything it owns under DIR: cri.sock, sandboxer.sock, root/,
state/, netns/, cni/net.d/ with a bridge network of its own, config.toml. Daemons in different DIRs run side by side.
What is there already is left as it is: edit DIR/config.toml and DIR/cni/net.d/ as you like.

  --clean DIR   removes DIR and its bridge again; refuses while pods or a daemon are left in it

In the environment, when the network of DIR is made:
  SANDBOXERD_DEV_SUBNET=10.1.2.0/24   instead of a /24 of 10.208.0.0/12 that follows from DIR
  SANDBOXERD_DEV_MASQ=1               pods reach beyond this machine (iptables; slows each pod down)
  SANDBOXERD_DEV_PORTMAP=1            pods may have port mappings (likewise)" "$@"

# A socket's path must fit into sockaddr_un with its closing NUL.
readonly MAX_SOCKET_PATH=107

# A directory's own number, from which its bridge and its subnet follow.
directory_hash() { printf %s "$1" | sha256sum | cut -c 1-8; }

# subnet_of HASH: a /24 of 10.208.0.0/12; the next one as long as this machine has addresses in it.
subnet_of() {
  local number=$((16#$1 % 4096)) prefix i
  for ((i = 0; i < 4096; i++)); do
    prefix=10.$((208 + number / 256)).$((number % 256)).
    [[ $(ip -o -4 route show table all; ip -o -4 addr) == *[[:space:]]"$prefix"* ]] || break
    number=$(((number + 1) % 4096))
  done
  echo "${prefix}0/24"
}

make_network() {
  local dir=$1 hash
  hash=$(directory_hash "$dir")
  jq -n \
    --arg bridge "sbx$hash" --arg subnet "${SANDBOXERD_DEV_SUBNET:-$(subnet_of "$hash")}" --arg data "$dir/cni/ipam" \
    --argjson masq "$([ "${SANDBOXERD_DEV_MASQ:-0}" = 1 ] && echo true || echo false)" \
    --argjson portmap "$([ "${SANDBOXERD_DEV_PORTMAP:-0}" = 1 ] && echo true || echo false)" \
    '{ cniVersion: "1.0.0", name: $bridge,
       plugins: ([{ type: "bridge", bridge: $bridge, isGateway: true, ipMasq: $masq, hairpinMode: true,
                    ipam: { type: "host-local", dataDir: $data, ranges: [[{ subnet: $subnet }]],
                            routes: [{ dst: "0.0.0.0/0" }] } }]
                 + if $portmap then [{ type: "portmap", capabilities: { portMappings: true } }] else [] end) }' \
    >"$dir/cni/net.d/10-dev.conflist.new"
  mv "$dir/cni/net.d/10-dev.conflist.new" "$dir/cni/net.d/10-dev.conflist"
}

# A JSON string is a TOML string, too.
quoted() { jq -Rn --arg text "$1" '$text'; }

make_config() {
  local dir=$1
  cat >"$dir/config.toml.new" <<TOML
# Made by scripts/dev.sh; it stays as you change it. All keys: sandboxerd --print-default-config
root = $(quoted "$dir/root")
state = $(quoted "$dir/state")
netns_dir = $(quoted "$dir/netns")

[cri]
socket = $(quoted "$dir/cri.sock")

[sandboxer]
socket = $(quoted "$dir/sandboxer.sock")

[cni]
conf_dir = $(quoted "$dir/cni/net.d")
TOML
  mv "$dir/config.toml.new" "$dir/config.toml"
}

clean() {
  local dir=$1 conf bridge
  dir=$(realpath -e "$dir") || die "there is no directory $1"
  [ -e "$dir/config.toml" ] || die "$dir was not made by dev.sh: it has no config.toml"
  ! grep -qF -- " $dir/" /proc/self/mountinfo || die "$dir still has mounts: stop and remove its pods first"
  ! grep -qsF -- "$dir/config.toml" /proc/[0-9]*/cmdline || die "$dir still has a daemon: stop it first"
  for conf in "$dir"/cni/net.d/*.conflist; do
    [ -e "$conf" ] || continue
    bridge=$(jq -r '.plugins[0].bridge // empty' "$conf")
    # Only a bridge of ours, named after this very directory.
    [ "$bridge" = "sbx$(directory_hash "$dir")" ] || continue
    ! ip link show "$bridge" >/dev/null 2>&1 || ip link delete "$bridge"
  done
  # What dev.sh and its daemon made lies in here, no mount is left in it, and it was named by whoever called us.
  rm -rf -- "$dir"
}

if [ "${1:-}" = --clean ]; then
  [ $# -eq 2 ] || die "--clean takes one directory"
  need_root
  clean "$2"
  exit
fi
[ $# -ge 1 ] || die "which directory? See dev.sh --help"
case $1 in -*) die "there is no option $1. See dev.sh --help" ;; esac
need_root
node_ok || die "node $MIN_NODE or newer is missing: run scripts/setup.sh first"
command -v jq >/dev/null || die "jq is missing: run scripts/setup.sh first"

dir=$(realpath -m "$1")
shift
for socket in "$dir/cri.sock" "$dir/sandboxer.sock"; do
  bytes=$(printf %s "$socket" | wc -c)
  [ "$bytes" -le $MAX_SOCKET_PATH ] ||
    die "$socket has $bytes bytes, and a socket's path can have $MAX_SOCKET_PATH: choose a directory with a shorter path"
done
umask 022
mkdir -p "$dir"/{root,state,netns,cni/net.d}
compgen -G "$dir/cni/net.d/*.conf*" >/dev/null || make_network "$dir"
[ -e "$dir/config.toml" ] || make_config "$dir"
build_if_newer
exec node "$REPO/dist/main.js" --config "$dir/config.toml" "$@"
