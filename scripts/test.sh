#!/usr/bin/env bash
# Sets up, checks the sources, and runs all tests. The last line counts them.
set -uo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: test.sh [VITEST ARGUMENT...]
Sets up this machine, checks the sources, and runs all tests, or those that the arguments choose (test/unit, --project fault).
The last line says how many passed, failed and were skipped; a check that fails counts as a failed test." "$@"

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

check_failed=0
bash scripts/check.sh || check_failed=1

report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
node_modules/.bin/vitest run --reporter=default --reporter=json --outputFile.json="$report" "$@" || status=$?

read -r passed failed skipped < <(count_results "$report") || { passed=0 failed=1 skipped=0; }
# Whatever the report says, a test run that ended badly is not a success.
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
failed=$((failed + check_failed))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
