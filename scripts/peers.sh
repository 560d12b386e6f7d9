#!/usr/bin/env bash
# Fetches the containerd and the shims that tests talk to, and unpacks them beside the system.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: peers.sh DIR
Downloads from Debian, with apt and lists of its own, and unpacks into DIR what tests have as peers:
  DIR/bin         sid's containerd, ctr and containerd-shim-runc-v2 (bootstrap protocol 3)
  DIR/debian/bin  Debian 12's containerd, ctr and containerd-shim-runc-v2 (bootstrap protocol 2)
Installs nothing and starts nothing. Does nothing when DIR has them, and asks for newer ones only when DIR is removed.
SANDBOXERD_DEBIAN_MIRROR is the mirror to ask; http://deb.debian.org/debian if unset." "$@"

readonly PROGRAMS=(containerd ctr containerd-shim-runc-v2)
readonly MIRROR=${SANDBOXERD_DEBIAN_MIRROR:-http://deb.debian.org/debian}
if [ $# -ne 1 ] || [ -z "$1" ]; then die "usage: peers.sh DIR"; fi

# complete DIR: whether its programs are there, and run on this machine.
complete() {
  local program
  for program in "${PROGRAMS[@]}"; do [ -x "$1/$program" ] || return 1; done
  "$1/containerd" --version >/dev/null 2>&1 && "$1/containerd-shim-runc-v2" -v >/dev/null 2>&1
}

# apt_get ARGUMENT...: apt-get with nothing of the machine's but its proxy and its keys.
apt_get() { APT_CONFIG=$work/apt.conf apt-get -qq "$@" >>"$work/log" 2>&1; }

# unpack SUITE INTO: the programs of that suite's containerd.
unpack() {
  local suite=$1 into=$2
  mkdir -p "$work/$suite"
  (cd "$work/$suite" && apt_get download "containerd/$suite") || return 1
  dpkg-deb --extract "$work/$suite"/containerd_*.deb "$work/$suite/root" >>"$work/log" 2>&1 || return 1
  mkdir -p "$into"
  (cd "$work/$suite/root/usr/bin" && mv -f "${PROGRAMS[@]}" "$into/") || return 1
  complete "$into" || echo "the containerd of $suite does not run on this machine" >>"$work/log"
  complete "$into"
}

mkdir -p "$1"
dir=$(cd "$1" && pwd)
# Two test runs may want them at once; the second finds them made.
exec 9>"$dir/.lock"
flock 9
if complete "$dir/bin" && complete "$dir/debian/bin"; then exit 0; fi
for need in apt-get dpkg-deb; do
  command -v "$need" >/dev/null || die "$need is needed to fetch containerd from Debian"
done

work=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{parts,state/lists/partial,cache/archives/partial}
: >"$work/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$MIRROR" sid "$keyring" "$MIRROR" bookworm >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::Etc::preferencesparts "$work/parts";
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Log "$work";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
CONF
say "fetch containerd from $MIRROR into $dir"
if ! { apt_get update && unpack sid "$dir/bin" && unpack bookworm "$dir/debian/bin"; }; then
  die "containerd could not be fetched from $MIRROR: $(grep -m 1 '^[EW]: ' "$work/log" || tail -n 1 "$work/log")"
fi
