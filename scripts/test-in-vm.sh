#!/usr/bin/env bash
# Runs tests in a virtual machine with systemd and cgroup v2. The last line counts them.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: test-in-vm.sh [VITEST ARGUMENT...]
Runs the integration tests, or those that the arguments choose (test/integration/pod, --project recovery), in a virtual
machine with systemd and cgroup v2, on a copy of this checkout. It has no network, and nothing comes back but the output.
The last line says how many passed, failed and were skipped.
  SANDBOXERD_TEST_VM          directory of the machine (ensure-vm.sh DIR); default: /var/cache/sandboxerd-vm
  SANDBOXERD_TEST_VM_SECONDS  how long it may run; default: 5400
  SANDBOXERD_TEST_SLOWNESS    how many times slower programs are there, and limits of time longer; default: 10
  SANDBOXERD_TEST_CGROUP_DRIVER  cgroupfs or systemd; default: cgroupfs
  SANDBOXERD_TEST_PEERS       what scripts/peers.sh has fetched; default: /var/cache/sandboxerd-peers" "$@"

vm=${SANDBOXERD_TEST_VM:-/var/cache/sandboxerd-vm}
seconds=${SANDBOXERD_TEST_VM_SECONDS:-5400}
driver=${SANDBOXERD_TEST_CGROUP_DRIVER:-cgroupfs}
slowness=${SANDBOXERD_TEST_SLOWNESS:-10}
peers=${SANDBOXERD_TEST_PEERS:-/var/cache/sandboxerd-peers}
vm_script=$REPO/../shared/tools/vm.sh
[ $# -gt 0 ] || set -- --project integration

# What the tests run and the machine was not built with; it is of the same Debian release as this one.
readonly PROGRAMS=(docker-registry busybox umoci zstd ping curl containers-storage criu crictl critest)
readonly FILES=(/usr/share/containers/storage.conf)
# What no test runs: checkers of sources, other ways to load the same code.
readonly UNUSED=(@biomejs @typescript @oxlint @oxlint-tsgolint @oxc-parser @oxc-resolver typescript oxlint knip .cache
  '@opentelemetry/*/build/esm' '@opentelemetry/*/build/esnext' better-sqlite3/deps)

# files_of PROGRAM...: each that is here, and the libraries that it loads; paths below /.
files_of() {
  local program path
  for program in "$@"; do
    path=$(command -v "$program") || { warn "$program is not here: tests that need it fail or are skipped"; continue; }
    printf '%s\n' "$path"
    # A program without libraries is no failure.
    { ldd "$path" 2>/dev/null || true; } | sed -n 's/.* => \(\/[^ ]*\).*/\1/p'
  done
}

# prepare DIR: puts there what the machine gets.
prepare() {
  local data=$1 excludes=() name
  for name in "${UNUSED[@]}"; do excludes+=("--exclude=./node_modules/$name"); done
  mkdir "$data/checkout"
  tar -C "$REPO" --exclude=./.git --exclude=./.cache "${excludes[@]}" -cf - . | tar -C "$data/checkout" -xf -
  { files_of "${PROGRAMS[@]}"; printf '%s\n' "${FILES[@]}"; } | sort -u | sed 's/^\///' >"$data/programs"
  tar -C / -chf "$data/programs.tar" -T "$data/programs"
  if [ -d "$peers/bin" ]; then cp -a "$peers" "$data/peers"; else warn "no peers in $peers: tests with shims are skipped"; fi
  cat >"$data/run.sh" <<'END'
tar -C / --skip-old-files -xf programs.tar
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin NO_COLOR=1
if [ -d peers ]; then
  export SANDBOXERD_TEST_CONTAINERD=/data/peers/bin SANDBOXERD_TEST_SHIMS=/data/peers/bin SANDBOXERD_TEST_SHIMS_V2=/data/peers/debian/bin
fi
cd checkout
# The compiler has stayed outside, where it has done its work.
ln -sf /bin/true node_modules/.bin/tsc
set -o pipefail
# Not to a terminal, on which it would draw its progress.
node_modules/.bin/vitest run --reporter=verbose --reporter=json --outputFile.json=/data/out/report.json "$@" 2>&1 | cat
END
}

need_root
[ -e "$vm_script" ] || die "no virtual machine: there is no $vm_script"
[ -s "$vm/root.img" ] || die "no virtual machine: $vm has none (scripts/ensure-vm.sh $vm, or SANDBOXERD_TEST_VM)"
build_if_newer

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/data" "$work/out"
prepare "$work/data"
say "boot a machine of $vm; what it prints comes at the end"
status=0
nice -n 10 bash "$vm_script" run "$vm" -d "$work/data" -o "$work/out" -t "$seconds" \
  "SANDBOXERD_TEST_SLOWNESS=$slowness SANDBOXERD_TEST_CGROUP_DRIVER=$driver bash run.sh $(printf '%q ' "$@")" || status=$?
[ "$status" -ne 124 ] || warn "out of time after $seconds seconds"
[ -s "$work/out/report.json" ] || die "the machine ended before its tests: what is said above is all that they found"
report_results "$work/out/report.json" "$status"
