#!/usr/bin/env bash
# Compiles the bench and runs it, or with `leaks` as the first word what looks for leaks. As root: it makes pods, and the bare commands that they are compared with.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
cd "$REPO"
build_if_newer
node_modules/.bin/tsc -p bench
case " $* " in *" --help "*) ;; *) need_root ;; esac
# That part needs a newer containerd than Debian 12's own.
case " $* " in
  *" --only-sandboxer "*)
    peers=/var/cache/sandboxerd-peers
    if [ -z "${BENCH_CONTAINERD:-}" ] && bash scripts/peers.sh "$peers"; then
      export BENCH_CONTAINERD=$peers/bin/containerd
    fi
    ;;
esac
program=main
if [ "${1:-}" = leaks ]; then
  program=leaks
  shift
fi
exec node ".cache/bench/bench/$program.js" "$@"
