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

# installed PACKAGE: whether Debian's package is.
installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# quietly WHAT COMMAND...: runs it, and shows its output only when it fails.
quietly() {
  local what=$1 log status=0
  shift
  say "$what"
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || status=$?
  [ "$status" -eq 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}

# apt_install PACKAGE...: installs those that are missing.
apt_install() {
  local missing=() package
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}")
  # The lists may be there already, and then the network is needed less.
  if apt-get -q -s install "${missing[@]}" >/dev/null 2>&1; then
    quietly "install ${missing[*]}" "${install[@]}" && return
  fi
  quietly "update the package lists" apt-get -q update || die "apt-get update failed"
  quietly "install ${missing[*]}" "${install[@]}" || die "apt-get could not install ${missing[*]}"
}

# build_if_newer: brings dist/ up to date; silent when it is.
build_if_newer() {
  [ -d "$REPO/node_modules" ] || die "npm packages are missing: run scripts/setup.sh first"
  bash "$REPO/scripts/build.sh" --if-newer
}

# count_results FILE: prints 'PASSED FAILED SKIPPED' from vitest's JSON report. A file that could not even be loaded has no
# tests to count and is one failure; so is an error outside of all tests.
count_results() {
  node -e '
    const report = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"))
    const broken = report.testResults.filter((file) => file.status === "failed" &&
      !file.assertionResults.some((test) => test.status === "failed")).length
    const failed = report.numFailedTests + broken
    const skipped = report.numPendingTests + report.numTodoTests
    console.log(report.numPassedTests, failed || (report.success ? 0 : 1), skipped)' "$1"
}

# report_results FILE STATUS [FAILED]: prints 'N passed, N failed, N skipped' of vitest's report and exit status, and of what
# failed besides; succeeds when something passed and nothing failed.
report_results() {
  local passed failed skipped
  read -r passed failed skipped < <(count_results "$1") || { passed=0 failed=1 skipped=0; }
  # Whatever the report says, a test run that ended badly is not a success.
  [ "$2" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
  failed=$((failed + ${3:-0}))
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
