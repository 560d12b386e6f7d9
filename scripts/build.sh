#!/usr/bin/env bash
# Generates the wire types when proto/ is newer, then compiles src/ into dist/.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: build.sh [--if-newer]
Generates the wire types when proto/ is newer, then compiles src/ into dist/.
  --if-newer  do nothing when no source is newer than dist/" "$@"

cd "$REPO"
readonly TYPES_DONE=src/generated/.done BUILD_DONE=dist/.done

# newer_than STAMP PATH...: whether anything under the paths changed after the stamp was made (a deletion changes its folder).
newer_than() {
  local stamp=$1
  shift
  [ -e "$stamp" ] || return 0
  [ -n "$(find "$@" -newer "$stamp" -print -quit)" ]
}

generate() {
  newer_than "$TYPES_DONE" proto scripts/generate-types.sh || return 0
  local stamp
  stamp=$(mktemp)
  bash scripts/generate-types.sh
  mv "$stamp" "$TYPES_DONE"
}

# Compiled files whose source is gone would still be loaded, or packed.
drop_stale() {
  local file source
  while IFS= read -r file; do
    source=src/${file#dist/}
    source=${source%.map}
    source=${source%.js}
    [ -e "${source%.d.ts}.ts" ] || rm -f "$file"
  done < <(find dist -name '*.js' -o -name '*.js.map' -o -name '*.d.ts')
}

compile() {
  local stamp
  # The time at which the sources were read, so that what changes meanwhile is compiled next time.
  stamp=$(mktemp)
  node_modules/.bin/tsc -p .
  drop_stale
  mv "$stamp" "$BUILD_DONE"
}

# Daemons and test runs that start side by side must not compile into each other's files.
mkdir -p dist
exec 9>dist/.lock
flock 9

generate
if [ "${1:-}" != --if-newer ] || newer_than "$BUILD_DONE" src tsconfig.json package-lock.json; then
  compile
fi
