#!/usr/bin/env bash
# Makes this machine (Debian 12 or 13) ready to run sandboxerd from this checkout. Does only what is missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: setup.sh
Makes this machine (Debian 12 or 13) ready to run sandboxerd from this checkout: Debian packages, npm packages, build.
Does only what is missing, and says nothing when nothing is." "$@"

# What sandboxerd runs.
readonly PACKAGES=(crun runc conmon containernetworking-plugins catatonit golang-github-containers-common
  iproute2 iptables procps util-linux skopeo containers-storage)
# What only the quickstart, the tests, the bench and package.sh take besides: a registry, something to put into images, tools.
readonly TRY_PACKAGES=(docker-registry busybox-static umoci zstd openssl iputils-ping jq dpkg-dev)

# apt_node: the version of node that apt-get would install; empty when it knows none.
apt_node() { apt-cache policy nodejs 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9][0-9.]*\).*/\1/p'; }

ensure_node() {
  local have=none
  if ! command -v node >/dev/null; then
    [ -n "$(apt_node)" ] || quietly "update the package lists" apt-get -q update || die "apt-get update failed"
    have="none, and Debian's is $(apt_node)"
    if at_least "$MIN_NODE" "$(apt_node)"; then apt_install nodejs npm; fi
  fi
  if command -v node >/dev/null; then have=$(node -p process.versions.node); fi
  node_ok || die "node $MIN_NODE or newer is needed, here is $have. Debian 13 has it (apt-get install nodejs npm);
on Debian 12 install Node 20 or newer from nodejs.org or nodesource.com, so that 'node -v' shows it, and run this again"
  command -v npm >/dev/null || apt_install npm
}

# lock_installed: whether node_modules holds what the lockfile says. Optional packages are for other machines too.
lock_installed() {
  node -e '
    const { readFileSync } = require("node:fs")
    const packages = (file) => JSON.parse(readFileSync(file, "utf8")).packages
    try {
      const have = packages("node_modules/.package-lock.json")
      const missing = Object.entries(packages("package-lock.json")).some(([path, want]) =>
        path !== "" && (have[path] ? have[path].version !== want.version : !want.optional))
      process.exit(missing ? 1 : 0)
    } catch { process.exit(1) }'
}

sqlite_loads() { node -e 'new (require("better-sqlite3"))(":memory:").close()' 2>/dev/null; }

# rebuild_sqlite: a ready binary if one can be had, else compiled with the headers that came with this node.
rebuild_sqlite() {
  local prefix
  prefix=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
  if [ -e "$prefix/include/node/node.h" ]; then export npm_config_nodedir=$prefix; fi
  npm rebuild better-sqlite3 && sqlite_loads
}

ensure_npm_packages() {
  # Install scripts do not run here: the only one that matters is started by name below.
  lock_installed || quietly "install the npm packages" npm ci --ignore-scripts || die "npm ci failed"
  sqlite_loads && return
  quietly "get better-sqlite3's native part" rebuild_sqlite && return
  apt_install make g++ python3
  # Debian's own node keeps its headers in a package of their own; others bring them along.
  if installed nodejs && ! dpkg-query -W -f '${Version}' nodejs | grep -q nodesource; then apt_install libnode-dev; fi
  quietly "compile better-sqlite3 (some minutes)" rebuild_sqlite || die "better-sqlite3 cannot be compiled"
}

# crun refuses a hybrid hierarchy whose v2 part has controllers. Where that is only the spare hugetlb, nobody misses it there.
ensure_hybrid_cgroup() {
  local unified=/sys/fs/cgroup/unified spare=/sys/fs/cgroup/hugetlb
  [ -e "$unified/cgroup.controllers" ] || return 0
  grep -qw hugetlb "$unified/cgroup.controllers" || return 0
  mountpoint -q "$spare" && return 0
  say "mount the spare cgroup controller hugetlb as v1, which crun needs on a hybrid hierarchy"
  if ! { mkdir -p "$spare" && mount -t cgroup -o hugetlb cgroup "$spare"; }; then
    warn "hugetlb cannot be mounted on $spare: crun may refuse this machine; runc works"
  fi
}

# Of docker-registry only the program is wanted: its service would listen on every address from now on.
keep_registry_service_off() {
  if [ ! -d /run/systemd/system ] || installed docker-registry; then return 0; fi
  say "mask docker-registry.service, so that it does not start (undo: systemctl unmask docker-registry)"
  systemctl --quiet mask docker-registry.service || die "docker-registry.service cannot be masked"
}

need_root
command -v apt-get >/dev/null || die "this machine is no Debian: install what README.md lists by hand, then npm ci and npm run build"
cd "$REPO"
keep_registry_service_off
apt_install "${PACKAGES[@]}" "${TRY_PACKAGES[@]}"
ensure_node
ensure_npm_packages
build_if_newer
ensure_hybrid_cgroup
