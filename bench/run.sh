#!/usr/bin/env bash
# Compiles the bench and runs it. As root: it makes pods, and the bare commands that they are compared with.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
cd "$REPO"
build_if_newer
node_modules/.bin/tsc -p bench
case " $* " in *" --help "*) ;; *) need_root ;; esac
exec node .cache/bench/bench/main.js "$@"
