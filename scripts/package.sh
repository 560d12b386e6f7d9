#!/usr/bin/env bash
# Builds a Debian package of this checkout, with the Node.js and the native modules that it runs with.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage "usage: package.sh [--output DIR] [--version VERSION] [--fast]
Builds sandboxerd_VERSION_ARCH.deb: sandboxerd and sandboxerctl with the node that is on PATH, units, manual pages, completion,
and a configuration in which every line is a comment. The same checkout, node and SOURCE_DATE_EPOCH give the same bytes.
  --output DIR       where to put it; the current directory if not given
  --version VERSION  instead of the one in package.json
  --fast             compress little: for trials" "$@"

readonly PACKAGING=$REPO/packaging
output=. version='' compress=(-Zxz --threads-max=1)
while [ $# -gt 0 ]; do
  case $1 in
    --output | --version)
      [ -n "${2:-}" ] || die "$1 needs a value"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --fast)
      compress=(-Zzstd -z1)
      shift
      ;;
    *) die "there is no option $1. See package.sh --help" ;;
  esac
done
for need in dpkg-deb dpkg-shlibdeps strip node npm; do
  command -v "$need" >/dev/null || die "$need is needed (apt-get install dpkg-dev binutils; scripts/setup.sh for node)"
done
node_ok || die "node $MIN_NODE or newer is needed"
node=$(node -p process.execPath)
[ "$(node -p process.config.variables.node_shared)" = false ] ||
  die "$node needs a libnode beside it: put a node of nodejs.org or nodesource.com first on PATH"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
readonly root=$work/root lib=$work/root/usr/lib/sandboxerd doc=$work/root/usr/share/doc/sandboxerd
mkdir -p "$output" "$lib" "$doc" "$root/DEBIAN"
output=$(realpath "$output")
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$(git -C "$REPO" log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(stat -c %Y "$REPO/CHANGELOG.md")
fi
export SOURCE_DATE_EPOCH
[ -n "$version" ] || version=$(node -p 'require(process.argv[1]).version' "$REPO/package.json")
# To npm 1.0.0-rc.1 is older than 1.0.0, to Debian 1.0.0~rc.1.
readonly output version deb_version=${version/-/\~}
arch=$(dpkg --print-architecture)
readonly arch

# install_file MODE SOURCE TARGET...
install_file() {
  local mode=$1 from=$2 target
  shift 2
  for target in "$@"; do install -D -m "$mode" "$from" "$root$target"; done
}

# Everything but the native part of better-sqlite3, which npm would compile anew: that of the checkout is for this node.
install_modules() {
  local native=node_modules/better-sqlite3/build/Release/better_sqlite3.node
  cp "$REPO/package.json" "$REPO/package-lock.json" "$REPO/.npmrc" "$lib/"
  (cd "$lib" && npm ci --omit=dev --ignore-scripts --no-bin-links --prefer-offline --loglevel=error >/dev/null) || die "npm ci failed"
  cmp -s {"$REPO","$lib"}/node_modules/better-sqlite3/package.json || die "node_modules is not up to date: run scripts/setup.sh"
  node "$REPO/scripts/prune-modules.mjs" "$lib" >"$work/modules"
  install_file 644 "$REPO/$native" "/usr/lib/sandboxerd/$native"
  rm -rf "$lib"/{package-lock.json,.npmrc,node_modules/.package-lock.json}
  node -p 'const { name, type, license, description } = require(process.argv[1])
    JSON.stringify({ name, version: process.argv[2], description, license, type, private: true }, null, 2)' \
    "$REPO/package.json" "$version" >"$lib/package.json"
  find "$lib/node_modules" -type d -empty -delete
}

install_programs() {
  local file program
  while IFS= read -r file; do install_file 644 "$REPO/$file" "/usr/lib/sandboxerd/$file"; done < <(
    cd "$REPO" && find dist -name '*.js' && find proto -type f
  )
  # They are started by the node that comes with them, and no other.
  sed -i '1s/^#!.*//' "$lib"/dist/*.js
  install_file 755 "$node" /usr/lib/sandboxerd/bin/node
  find "$lib" \( -name '*.node' -o -path '*/bin/node' \) -exec strip --strip-unneeded {} +
  for program in sandboxerd:main sandboxerctl:sandboxerctl; do
    printf '#!/bin/sh\nexec /usr/lib/sandboxerd/bin/node /usr/lib/sandboxerd/dist/%s.js "$@"\n' "${program#*:}" >"$work/launcher"
    install_file 755 "$work/launcher" "/usr/bin/${program%:*}"
  done
}

install_rest() {
  local file
  for file in "$PACKAGING"/systemd/*.{service,socket}; do
    [ ! -e "$file" ] || install_file 644 "$file" "/usr/lib/systemd/system/${file##*/}"
  done
  install_file 644 "$PACKAGING/config.toml" /etc/sandboxerd/config.toml
  for file in "$PACKAGING"/man/*; do
    gzip -9n <"$file" >"$work/page"
    install_file 644 "$work/page" "/usr/share/man/man${file##*.}/${file##*/}.gz"
  done
  for file in sandboxerd sandboxerctl; do
    install_file 644 "$PACKAGING/completion/$file.bash" "/usr/share/bash-completion/completions/$file"
    install_file 644 "$PACKAGING/completion/_$file" "/usr/share/zsh/vendor-completions/_$file"
    install_file 644 "$PACKAGING/completion/$file.fish" "/usr/share/fish/vendor_completions.d/$file.fish"
  done
  for file in "$REPO"/{docs/*,README,CHANGELOG}.md; do install_file 644 "$file" "/usr/share/doc/sandboxerd/${file##*/}"; done
  [ ! -d "$PACKAGING/observability" ] || cp -R "$PACKAGING/observability" "$doc/"
  install_file 644 "$PACKAGING/debian/lintian-overrides" /usr/share/lintian/overrides/sandboxerd
  printf 'sandboxerd (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$deb_version" \
    "$(sed -n 's/^Maintainer: //p' "$PACKAGING/debian/control")" "$(LC_ALL=C date -Ru -d "@$SOURCE_DATE_EPOCH")" |
    gzip -9n >"$doc/changelog.gz"
}

# copyright: ours, what is said in the packages themselves, and the text that came with node where there is one.
write_copyright() {
  local prefix text
  prefix=$(dirname "$(dirname "$(readlink -f "$node")")")
  sed "s/@NODE_VERSION@/$(node -p process.version)/" "$PACKAGING/debian/copyright"
  printf '\nThe packages in node_modules, each with its license beside it:\n\n'
  sed 's/^/  /' "$work/modules"
  for text in "$prefix/LICENSE" "$prefix/share/doc/nodejs/LICENSE"; do
    [ ! -s "$text" ] || { printf '\nThe LICENSE of Node.js:\n\n' && cat "$text" && break; }
  done
}

# libraries: the Debian packages of the libraries that the binaries are linked with.
libraries() {
  mkdir -p "$work/shlibs/debian"
  printf 'Source: sandboxerd\n\nPackage: sandboxerd\nArchitecture: any\n' >"$work/shlibs/debian/control"
  (cd "$work/shlibs" && find "$lib" \( -name '*.node' -o -path '*/bin/node' \) -print0 |
    xargs -0 dpkg-shlibdeps -O --ignore-missing-info 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
}

write_control() {
  local file schema
  schema=$(node --input-type=module -e "
    const { MIGRATIONS } = await import('$lib/dist/store/schema.js'); console.log(MIGRATIONS.length)")
  [[ $schema =~ ^[0-9]+$ ]] || die "dist/store/schema.js does not tell the version of the schema"
  for file in preinst postinst prerm postrm; do
    sed "s/@VERSION@/$deb_version/g; s/@SCHEMA@/$schema/g" "$PACKAGING/debian/$file" >"$root/DEBIAN/$file"
    chmod 755 "$root/DEBIAN/$file"
  done
  echo /etc/sandboxerd/config.toml >"$root/DEBIAN/conffiles"
  (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
  sed "s/@VERSION@/$deb_version/; s/@ARCH@/$arch/; s/@LIBRARIES@/$(libraries)/
    s/@SIZE@/$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f 1)/" "$PACKAGING/debian/control" >"$root/DEBIAN/control"
}

# The same bytes from the same input, whoever makes it, wherever and when.
level() {
  find "$root" -type d -exec chmod 755 {} +
  find "$root" -type f ! -perm -u+x -exec chmod 644 {} +
  find "$lib/node_modules" "$lib/dist" -type f -exec chmod 644 {} +
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

build_if_newer
install_modules
install_programs
install_rest
write_copyright >"$doc/copyright"
write_control
level
deb=$output/sandboxerd_${deb_version}_$arch.deb
dpkg-deb --root-owner-group "${compress[@]}" --build "$root" "$deb" >/dev/null
say "$deb: $(du -h --apparent-size "$deb" | cut -f 1), installed $(du -sh --apparent-size "$root" | cut -f 1)"
