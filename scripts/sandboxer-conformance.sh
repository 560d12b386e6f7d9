#!/usr/bin/env bash
# Asks a sandboxer, anybody's, whether it keeps to the sandbox Controller API.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: sandboxer-conformance.sh ADDRESS [OPTION...]
Checks the sandboxer that serves containerd's sandbox API (containerd.services.sandbox.v1.Controller) on the Unix socket ADDRESS:
every method, twice and in any order, with ids that nobody knows, with sandboxes that are half made, many at once, and through a
restart. Prints a line for each check, and how many there were; ends non-zero when one has failed. It takes a minute or two.

  --restart COMMAND   restarts the sandboxer, and ends when that is done; without it, nothing is checked of restarts
  --tasks             runs containers as well, at the Task service that Start tells of
  --rootfs DIR        for these: where their root file system is, read-only, with /bin/sh and /bin/sleep    default: /
  --announce          for these: tells the sandboxer of them first (Update of extensions.tasks), as iSulad does. By default
                      where the Task service is older than version 3
  --sandboxer NAME    the sandboxer that requests name                                        default: sandboxerd
  --runtime TYPE      the runtime that requests name                                          default: io.containerd.runc.v2
  --oci-runtime PATH  the OCI runtime that is to be used (BinaryName of containerd.runc.v1.Options)
  --cgroup-parent P   the cgroup of the pods, as the sandboxer wants it                       default: none is named
  --host-network      sandboxes in the node's network; by default each gets an empty network namespace
  --many N            how many sandboxes at once                                              default: 20
  --timeout SECONDS   for one call                                                            default: 30
  --seed N            for the calls in any order: the one that a failed run has printed
  --only REGEX        only checks whose names match
  --list              prints the names of all checks, and does nothing

ok is what every front end of today needs. FAILED says what broke, and skipped why nothing was checked. Everything that was made
is removed, also when it is interrupted." "$@"

node_ok || die "node $MIN_NODE or newer is missing: run scripts/setup.sh first"
case " $* " in *' --list '*) ;; *) need_root ;; esac
[ -e "$REPO/dist/client/client.js" ] || build_if_newer
exec node "$REPO/scripts/sandboxer-conformance.mjs" "$@"
