#!/usr/bin/env bash
# Runs critest against a daemon that is installed here, and says what came of every spec.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: conformance.sh [OPTION...]
Runs critest, the conformance tests of the CRI, against a daemon on this machine, and prints how many specs passed, group by
group, why each failed one did, and why each skipped one was. Ends non-zero when a spec fails. It takes some minutes.

  --endpoint URL     where the daemon listens                default: unix:///run/sandboxerd/cri.sock
  --handler LIST     the runtime handlers to test (a,b), one after the other   default: the daemon's default
  --images FILE      other images than critest's own (its --test-images-file)
  --focus REGEX      only specs whose names match
  --skip REGEX       all specs but those whose names match
  --websocket        exec, attach and port-forward over WebSocket, not SPDY
  --output FILE      write the tables as Markdown there, too
  --note TEXT        what a reader of these should know, of the images for instance
  --force            although the daemon has pods, or somebody listens on ports that critest takes

critest has to be the daemon's only client: it counts its pods, and removes images. No kubelet may run beside it. It listens on
ports 12000 to 12003 of the node, and pulls images of registry.k8s.io and others, or of their mirrors in registries.conf.
critest comes with cri-tools: https://github.com/kubernetes-sigs/cri-tools/releases" "$@"

endpoint=unix:///run/sandboxerd/cri.sock
handlers=()
critest_args=()
report_args=()
force=no
while [ $# -gt 0 ]; do
  case $1 in
    --force) force=yes ;;
    --websocket) critest_args+=(--websocket-exec --websocket-attach --websocket-portforward) ;;
    --endpoint | --handler | --images | --focus | --skip | --output | --note)
      [ -n "${2:-}" ] || die "$1 wants a value. See conformance.sh --help"
      case $1 in
        --endpoint) endpoint=$2 ;;
        --handler) IFS=, read -ra handlers <<<"$2" ;;
        --images) critest_args+=("--test-images-file=$(realpath -e "$2")") ;;
        --focus) critest_args+=("--ginkgo.focus=$2") ;;
        --skip) critest_args+=("--ginkgo.skip=$2") ;;
        --output) report_args+=("--output=$(realpath -m "$2")") ;;
        --note) report_args+=("--note=$2") ;;
      esac
      shift
      ;;
    *) die "there is no option $1. See conformance.sh --help" ;;
  esac
  shift
done

need_root
node_ok || die "node $MIN_NODE or newer is missing: run scripts/setup.sh first"
[ -d "$REPO/node_modules" ] || die "npm packages are missing: run scripts/setup.sh first"
command -v critest >/dev/null || die "critest is not on PATH. It comes with cri-tools: take
critest-VERSION-linux-ARCH.tar.gz from https://github.com/kubernetes-sigs/cri-tools/releases and unpack it into /usr/local/bin"

dir=$(mktemp -d --tmpdir sandboxerd-conformance.XXXXXX)
readonly dir
passed=no
clean_up() {
  if [ "$passed" = yes ]; then rm -rf "$dir"; else warn "what critest wrote is in $dir"; fi
}
trap clean_up EXIT

client() { node "$REPO/scripts/conformance.mjs" "$@"; }

# refuse WHY: ends the script, unless it was told to go on.
refuse() {
  [ "$force" = yes ] || die "$1 (--force goes on all the same)"
  warn "$1"
}

client node "$endpoint" >"$dir/node.json" || die "nobody to test"
[ ${#handlers[@]} -gt 0 ] || handlers=("$(jq -r .defaultHandler "$dir/node.json")")
for handler in "${handlers[@]}"; do
  jq -e --arg handler "$handler" '.handlers | has($handler)' "$dir/node.json" >/dev/null ||
    die "the daemon has no handler $handler, but $(jq -r '.handlers | keys | join(", ")' "$dir/node.json")"
done
pods=$(jq .pods "$dir/node.json")
[ "$pods" -eq 0 ] || refuse "the daemon has pods ($pods), and critest has to be alone with it"
taken=$(ss -Hltn 'sport >= 12000 and sport <= 12003' | awk '{ print $4 }' | sort -u | paste -sd ' ')
[ -z "$taken" ] || refuse "somebody listens on $taken, where critest has to"
warn "critest has to be the only client of $endpoint until it ends, and takes the node's ports 12000 to 12003"

critest --version | sed -n 's/^critest version: //p' >"$dir/version"
runs=()
for handler in "${handlers[@]}"; do
  say "critest with handler $handler; it writes to $dir/$handler.log"
  # How it ends is in its report; without one there is nothing but the log.
  critest --runtime-endpoint="$endpoint" --image-endpoint="$endpoint" --runtime-handler="$handler" --ginkgo.no-color \
    --ginkgo.json-report="$dir/$handler.json" "${critest_args[@]}" >"$dir/$handler.log" 2>&1 || true
  [ -s "$dir/$handler.json" ] || die "critest has not got as far as to a report: $(tail -n 20 "$dir/$handler.log")"
  runs+=("$handler=$dir/$handler.json")
done
client report "${report_args[@]}" "--critest=$(cat "$dir/version")" "$dir/node.json" "${runs[@]}" || exit 1
passed=yes
