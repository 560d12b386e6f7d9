#!/usr/bin/env bash
# Shows in a minute what sandboxerd does: two pods, a ping, a kill -9, the same two pods, and nothing left behind.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: quickstart.sh
Installs what is missing and builds; starts a daemon of its own in a new directory; runs two pods and shows what happened;
pings one from the other; kills the daemon with kill -9 and starts it again; shows the same pods; stops and removes them;
and shows that nothing is left on the machine. Ends non-zero when any of this does not happen, and cleans up in any case." "$@"

need_root
"$REPO/scripts/setup.sh"

dir=$(mktemp -d /tmp/sandboxerd-quickstart.XXXXXX)
log=$(mktemp /tmp/sandboxerd-quickstart-log.XXXXXX)
readonly dir log
daemon=
passed=no

step() { printf '\n== %s\n' "$*"; }
client() { node "$REPO/scripts/quickstart.mjs" "$@" "$dir"; }
pods() { jq -r "$1" "$dir/quickstart.json"; }

start_daemon() {
  "$REPO/scripts/dev.sh" "$dir" >>"$log" 2>&1 &
  daemon=$!
}

# stop_daemon SIGNAL: returns the daemon's exit status; one that has not ended after 20 seconds is killed.
# dev.sh has become the daemon, so its pid is the daemon's.
stop_daemon() {
  [ -n "$daemon" ] || return 0
  local pid=$daemon status=0 i
  daemon=
  # Without stderr, where bash would report the killed job on its own.
  {
    kill "-$1" "$pid" || true
    for ((i = 0; i < 100; i++)); do
      kill -0 "$pid" || break
      sleep 0.2
    done
    kill -KILL "$pid" || true
    wait "$pid" || status=$?
  } 2>/dev/null
  return "$status"
}

bridge() { jq -r '.plugins[0].bridge' "$dir"/cni/net.d/*.conflist 2>/dev/null || true; }

# our_processes: pids that work for a pod of ours: its directory or its id is in the command line or the cgroup.
our_processes() {
  local proc pid pattern
  for proc in /proc/[0-9]*; do
    pid=${proc#/proc/}
    if [ "$pid" = $$ ] || [ "$pid" = "$daemon" ]; then continue; fi
    for pattern in "$dir/" "${ids[@]}"; do
      if grep -qsF -- "$pattern" "$proc/cmdline" "$proc/cgroup"; then
        printf '%s %s\n' "$pid" "$(tr '\0' ' ' <"$proc/cmdline" 2>/dev/null)"
        break
      fi
    done
  done
}

our_mounts() { awk -v prefix="$dir/" 'index($5, prefix) == 1 { print $5 }' /proc/self/mountinfo; }

our_cgroups() {
  local id
  for id in "${ids[@]}"; do find /sys/fs/cgroup -type d -name "*$id*" 2>/dev/null; done
  # The parent of all pods' cgroups goes with the last of them, unless it was there before us or is another daemon's now.
  if [ -z "$cgroups_before" ] && [ -z "$(find /sys/fs/cgroup -path '*/sandboxerd/*' -type d 2>/dev/null)" ]; then
    parent_cgroups
  fi
}
parent_cgroups() { find /sys/fs/cgroup -maxdepth 2 -type d -name sandboxerd 2>/dev/null || true; }

our_files() {
  local id
  for id in "${ids[@]}"; do find "$dir/root" "$dir/state" -name "*$id*"; done
  find "$dir/netns" -mindepth 1
}

# A leased address is a file named after it; the others are the plugin's own notes.
our_addresses() { [ ! -d "$dir/cni/ipam" ] || find "$dir/cni/ipam" -type f -name '[0-9]*.[0-9]*'; }
rows_left() { client rows 2>&1; }
our_veths() { ip -o link show master "$(bridge)" 2>/dev/null; }

# nothing_left WHAT COMMAND...: the command must print nothing. Processes may be a moment in going.
nothing_left() {
  local what=$1 left try
  shift
  for ((try = 0; try < 25; try++)); do
    left=$("$@" || true)
    if [ -z "$left" ]; then
      printf '  %-24s none left\n' "$what"
      return
    fi
    sleep 0.2
  done
  printf '  %-24s LEFT:\n%s\n' "$what" "$left"
  leaks=$((leaks + 1))
}

# Whatever went wrong, the machine is as before: by the daemon's own means first, then by force.
clean_up() {
  local status=$? path
  trap - EXIT
  set +e
  if [ "$passed" != yes ]; then
    step "FAILED; the end of the daemon's log, which is kept in $log:"
    tail -n 40 "$log"
    mapfile -t ids < <(find "$dir"/{root,state}/sandboxes -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -u)
    if [ -z "$daemon" ] || ! kill -0 "$daemon" 2>/dev/null; then start_daemon; fi
    client remove-all
    stop_daemon TERM
    our_processes | while read -r pid _; do kill -KILL "$pid"; done
    our_mounts | sort -r | while IFS= read -r path; do umount -l "$path"; done
    our_cgroups | sort -r | while IFS= read -r path; do rmdir "$path"; done
    sleep 0.5
    "$REPO/scripts/dev.sh" --clean "$dir" || warn "$dir is left"
    [ "$status" -ne 0 ] || status=1
  else
    rm -f "$log"
  fi
  exit "$status"
}

ids=()
cgroups_before=$(parent_cgroups)
trap clean_up EXIT
trap 'exit 130' INT TERM

step "start sandboxerd in $dir"
start_daemon
step "run two pods"
client up
mapfile -t ids < <(pods '.[].id')

step "ping the second pod from the first"
nsenter --net="$(pods '.[0].netnsPath')" ping -n -c 3 -i 0.2 -w 5 "$(pods '.[1].ip')" | sed 's/^/  /'

step "kill -9 sandboxerd ($daemon), and start it again"
stop_daemon KILL || true
for pid in $(pods '.[].pid'); do
  kill -0 "$pid" || die "process $pid of a pod did not outlive the daemon"
done
start_daemon
client same

step "stop and remove the pods, and end sandboxerd"
pids=$(pods '.[].pid')
client down
stop_daemon TERM || die "sandboxerd ended with exit code $? on SIGTERM"

step "what is left?"
leaks=0
pods_alive() { for pid in $pids; do [ ! -e "/proc/$pid" ] || grep -H '^State' "/proc/$pid/status"; done; }
nothing_left "pod processes" pods_alive
nothing_left "other processes" our_processes
nothing_left "mounts" our_mounts
nothing_left "files and netns" our_files
nothing_left "veth" our_veths
nothing_left "leased IPs" our_addresses
nothing_left "cgroups" our_cgroups
nothing_left "database rows" rows_left
[ "$leaks" -eq 0 ] || die "$leaks kinds of things are left"

bridge_name=$(bridge)
"$REPO/scripts/dev.sh" --clean "$dir"
! ip link show "$bridge_name" >/dev/null 2>&1 || die "the bridge $bridge_name is left"
[ ! -e "$dir" ] || die "$dir is left"
passed=yes
printf '\nAll of it happened, and nothing is left.\n'
