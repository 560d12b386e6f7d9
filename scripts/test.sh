#!/usr/bin/env bash
# Sets up, checks the sources, and runs all tests. The last line counts them.
set -uo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: test.sh [VITEST ARGUMENT...]
Sets up this machine, checks the sources, and runs all tests, or those that the arguments choose (test/unit, --project fault).
The last line says how many passed, failed and were skipped; a check that fails counts as a failed test." "$@"

need_root
bash "$REPO/scripts/setup.sh" || die "the machine could not be set up: no test has run"
cd "$REPO" || exit 1

# What the tests talk to besides; they say themselves what they skip without it.
peers=${SANDBOXERD_TEST_PEERS:-/var/cache/sandboxerd-peers}
if bash scripts/peers.sh "$peers"; then
  export SANDBOXERD_TEST_CONTAINERD=$peers/bin SANDBOXERD_TEST_SHIMS=$peers/bin SANDBOXERD_TEST_SHIMS_V2=$peers/debian/bin
else
  warn "tests with containerd and its shims take those on PATH, or are skipped"
fi

vm=${SANDBOXERD_TEST_VM:-/var/cache/sandboxerd-vm}
if bash scripts/ensure-vm.sh "$vm"; then
  export SANDBOXERD_TEST_VM=$vm
else
  warn "no virtual machine: the package and its units are tried under no systemd"
fi

check_failed=0
bash scripts/check.sh || check_failed=1

report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
node_modules/.bin/vitest run --reporter=default --reporter=json --outputFile.json="$report" "$@" || status=$?

report_results "$report" "$status" "$check_failed"
