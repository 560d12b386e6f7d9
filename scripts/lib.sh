# shellcheck shell=bash
# What the scripts share. Sourced, not run.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by those who source this file
readonly REPO
readonly MIN_NODE=20.19

# The daemons and tools we start live in sbin, which a plain user's PATH lacks.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  warn "$*"
  exit 1
}

# usage TEXT "$@": prints TEXT and ends the script when the first argument asks for help.
usage() {
  case ${2:-} in
    -h | --help)
      printf '%s\n' "$1"
      exit 0
      ;;
  esac
}

need_root() {
  [ "$(id -u)" -eq 0 ] || die "needs root: it makes namespaces, mounts and cgroups"
}

# at_least LEAST VERSION: whether the version is there and not older.
at_least() {
  [ -n "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# node_ok: node is there and new enough.
node_ok() {
  command -v node >/dev/null || return 1
  local have
  have=$(node -p process.versions.node) || return 1
  at_least "$MIN_NODE" "$have"
}

# build_if_newer: brings dist/ up to date; silent when it is.
build_if_newer() {
  [ -d "$REPO/node_modules" ] || die "npm packages are missing: run scripts/setup.sh first"
  bash "$REPO/scripts/build.sh" --if-newer
}
