#!/usr/bin/env bash
# Keeps what this version writes, for all later versions to be tested with.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: make-release-fixture.sh
Keeps what this version writes in test/fixtures/releases/VERSION (of package.json): a database and checkpoints with pods and
containers in several states, the key that seals them, what the daemon told of them, and the commit. To be run as root on the
commit that is released, and committed after it. Later versions are tested with it: they must read it, and take over pods
that run under a daemon of that commit." "$@"

need_root
cd "$REPO"
version=$(node -p 'require("./package.json").version')
to=test/fixtures/releases/$version
[ ! -e "$to" ] || die "$to is there already: what was released does not change"
changed=$(git status --porcelain -- src proto package.json package-lock.json) || die "git does not tell what has changed"
[ -z "$changed" ] || die "there are changes that are not committed: this is no release"
commit=$(git rev-parse HEAD)
# Whole or not at all: every directory in there is taken for a release.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SANDBOXERD_RELEASE_FIXTURE=$work/fixture node_modules/.bin/vitest run --project recovery test/recovery/release-fixture.test.ts
[ -s "$work/fixture/facts.json" ] || die "the test has written no fixture"
echo "$commit" >"$work/fixture/commit"
# Whoever commits it, and runs the tests without being root, reads it, the key included.
chmod -R u=rwX,go=rX "$work/fixture"
chown -R --reference=package.json "$work/fixture"
mv "$work/fixture" "$to"
say "wrote $to: add its row to the table of docs/upgrade.md"
