#!/usr/bin/env bash
# Runs every check of the sources. Goes on after a failure, so that one run shows all of them.
set -uo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: check.sh [STEP...]
Runs the checks of the sources: types lint format dead layers shell. All of them, or only those named." "$@"

cd "$REPO" || exit 1
PATH=$REPO/node_modules/.bin:$PATH

types() { tsc -p tsconfig.test.json; }
lint() { oxlint --type-aware --deny-warnings; }
format() { biome format .; }
dead() { knip --no-progress --no-config-hints; }
layers() { vitest run --project unit test/unit/repo; }
shell() {
  command -v shellcheck >/dev/null || {
    say "shell: skipped, shellcheck is not installed"
    return 0
  }
  shellcheck --external-sources scripts/*.sh bench/*.sh .ci/run test/system/fixtures/*.sh packaging/completion/*.bash \
    packaging/debian/{pre,post}{inst,rm}
}

# The checks read the generated types, and some tests the compiled code; what the compiler minds is for `types` to say.
built=$(bash scripts/build.sh --if-newer 2>&1) || [ -d src/generated ] || die "$built"
[ $# -gt 0 ] || set -- types lint format dead layers shell
failed=()
for step in "$@"; do
  case $step in
    types | lint | format | dead | layers | shell) ;;
    *) die "there is no check $step" ;;
  esac
  if output=$("$step" 2>&1); then
    say "$step: ok"
    # What a passing check has to say is that it did not run.
    case $output in *skipped*not\ installed*) printf '%s\n' "$output" ;; esac
  else
    printf '%s\n' "$output"
    say "$step: FAILED"
    failed+=("$step")
  fi
done
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
