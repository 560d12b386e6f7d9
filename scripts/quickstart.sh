#!/usr/bin/env bash
# Shows in a minute what sandboxerd does: two pods, a ping, a container from a registry, a kill -9, all of it unharmed,
# and nothing left behind.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: quickstart.sh
Installs what is missing and builds; starts a daemon of its own in a new directory; runs two pods and shows what happened;
pings one from the other; pulls an image from a registry of its own and runs a container with it; talks to a command in it,
attaches to it, and forwards a port to it; asks sandboxerctl; kills the daemon with kill -9, ends the container meanwhile, and
starts the daemon again; shows the same pods, and the container's exit code and log; stops and removes all of it; and shows that nothing is left
on the machine. Ends non-zero when any of this does not happen, and cleans up in any case." "$@"

need_root
"$REPO/scripts/setup.sh"

dir=$(mktemp -d /tmp/sandboxerd-quickstart.XXXXXX)
log=$(mktemp /tmp/sandboxerd-quickstart-log.XXXXXX)
readonly dir log
daemon=
registry=
passed=no

step() { printf '\n== %s\n' "$*"; }
client() { node "$REPO/scripts/quickstart.mjs" "$@" "$dir"; }
ctl() { node "$REPO/dist/sandboxerctl.js" --config "$dir/config.toml" "$@" | sed 's/^/  /'; }
pods() { jq -r "$1" "$dir/quickstart.json"; }

start_daemon() {
  "$REPO/scripts/dev.sh" "$dir" --set images.registries_conf="$dir/registries.conf" >>"$log" 2>&1 &
  daemon=$!
}

# start_registry: Debian's docker-registry on a free port of the loopback, whose address is then in $registry_address.
start_registry() {
  local i
  jq -n --arg storage "$dir/registry" '{ version: "0.1", log: { level: "info" }, http: { addr: "127.0.0.1:0" },
    storage: { filesystem: { rootdirectory: $storage } } }' >"$dir/registry.json"
  docker-registry serve "$dir/registry.json" >"$dir/registry.log" 2>&1 &
  registry=$!
  for ((i = 0; i < 100; i++)); do
    registry_address=$(sed -n 's/.*listening on \(127[0-9.:]*\).*/\1/p' "$dir/registry.log")
    [ -z "$registry_address" ] || break
    sleep 0.1
  done
  [ -n "$registry_address" ] || die "docker-registry does not listen: $(cat "$dir/registry.log")"
  printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$registry_address" >"$dir/registries.conf"
}

stop_registry() {
  [ -n "$registry" ] || return 0
  # Its end needs no words of bash's.
  { kill -KILL "$registry" && wait "$registry"; } 2>/dev/null || true
  registry=
}

# push_image REFERENCE: makes an image of Debian's busybox and pushes it.
push_image() {
  local layout=$dir/layout tree=$dir/tree applet
  mkdir -p "$tree"/{bin,etc,tmp,proc,sys,dev}
  cp /bin/busybox "$tree/bin/"
  for applet in sh echo sleep cat date hostname id ip ls ps uname; do ln -s busybox "$tree/bin/$applet"; done
  printf 'root:x:0:0:root:/:/bin/sh\n' >"$tree/etc/passwd"
  umoci init --layout "$layout"
  umoci new --image "$layout:1"
  umoci insert --image "$layout:1" "$tree" /
  umoci config --image "$layout:1" --config.env PATH=/bin --config.cmd /bin/sh
  skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$layout:1" "docker://$1"
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
    mapfile -t ids < <(find "$dir"/{root,state}/{sandboxes,containers} -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -u)
    if [ -z "$daemon" ] || ! kill -0 "$daemon" 2>/dev/null; then start_daemon; fi
    client remove-all
    stop_daemon TERM
    stop_registry
    our_processes | while read -r pid _; do kill -KILL "$pid"; done
    our_mounts | sort -r | while IFS= read -r path; do umount -l "$path"; done
    our_cgroups | sort -r | while IFS= read -r path; do rmdir "$path"; done
    sleep 0.5
    "$REPO/scripts/dev.sh" --clean "$dir" || warn "$dir is left"
    [ "$status" -ne 0 ] || status=1
  else
    rm -f "$log"
  fi
  stop_registry
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

step "start a registry, and push an image that is made of Debian's busybox-static"
start_registry
push_image "$registry_address/quickstart/busybox:1"
printf '  %s\n' "$registry_address/quickstart/busybox:1"

step "pull it, and run a container with it in the first pod"
client run "$registry_address/quickstart/busybox:1"
mapfile -t -O ${#ids[@]} ids < <(pods '.[0].container.id')

step "its log, an exec in it, and what it takes"
client look

step "sandboxerctl status, and pods"
ctl status
echo
ctl pods

step "what crictl exec -i, attach and port-forward do: talk to a command, watch the container, ask its web server"
client talk

step "kill -9 sandboxerd ($daemon), end the container, and start sandboxerd again"
stop_daemon KILL || true
lines=$(wc -l <"$(pods '.[0].container.log')")
sleep 0.5
[ "$(wc -l <"$(pods '.[0].container.log')")" -gt "$lines" ] || die "the container did not go on without the daemon"
printf '  the container has gone on without the daemon, and is asked to end\n'
kill -TERM "$(pods '.[0].container.pid')"
for pid in $(pods '.[].pid'); do
  kill -0 "$pid" || die "process $pid of a pod did not outlive the daemon"
done
start_daemon
client same
client ended

step "sandboxerctl checkpoint verify, and doctor"
ctl checkpoint verify
ctl doctor

step "stop and remove all of it, and end sandboxerd"
pids=$(pods '.[].pid, .[0].container.pid')
client down
stop_registry
stop_daemon TERM || die "sandboxerd ended with exit code $? on SIGTERM"

step "what is left?"
leaks=0
pods_alive() { for pid in $pids; do [ ! -e "/proc/$pid" ] || grep -H '^State' "/proc/$pid/status"; done; }
nothing_left "pods and containers" pods_alive
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
