#!/usr/bin/env bash
# Makes the virtual machine with systemd and cgroup v2 in which test/system/ runs, once.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: ensure-vm.sh DIR
Makes in DIR, with debootstrap, the virtual machine that test/system/ and test-in-vm.sh boot: a Debian of this machine's
release. Installs the Debian packages that making and booting it take. Does nothing when DIR has it, and makes a newer one
only when DIR is removed. What it takes: $REPO/../shared/tools/vm.sh, some minutes, and 1 GB of disk." "$@"

readonly PACKAGES=(debootstrap qemu-system-x86 e2fsprogs cpio busybox-static)
readonly VM_SCRIPT=$REPO/../shared/tools/vm.sh
if [ $# -ne 1 ] || [ -z "$1" ]; then die "usage: ensure-vm.sh DIR"; fi

need_root
[ -e "$VM_SCRIPT" ] || die "there is no $VM_SCRIPT"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
# Two test runs may want it at once; the second finds it made.
exec 9>"$dir/.lock"
flock 9
apt_install "${PACKAGES[@]}"
if [ -s "$dir/root.img" ] && [ -s "$dir/kernel" ] && [ -s "$dir/initrd" ]; then exit 0; fi

# Its disk appears when it is whole: one that was interrupted is made anew.
work=$(mktemp -d "$dir/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
quietly "make a virtual machine in $dir (some minutes)" bash "$VM_SCRIPT" build "$work" || die "no virtual machine could be made"
mv -f "$work/kernel" "$work/initrd" "$dir/"
mv -f "$work/root.img" "$dir/"
