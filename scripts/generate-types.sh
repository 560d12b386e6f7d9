#!/usr/bin/env bash
# Generates the TypeScript types of the wire messages from proto/ into src/generated, which is not kept in git.
# The options must match those in src/grpc/load.ts: they decide what a message looks like at run time.
set -euo pipefail
cd "$(dirname "$0")/.."

out=src/generated
# Made beside its place and swapped in at the end, so that a compiler that runs meanwhile sees one whole version.
tmp=$(mktemp -d src/.generated.XXXXXX)
trap 'rm -rf "$tmp"' EXIT

node_modules/.bin/proto-loader-gen-types \
  --keepCase --longs=String --enums=String --defaults --oneofs \
  --grpcLib=@grpc/grpc-js --targetFileExtension=.ts --importFileExtension=.ts \
  --includeDirs proto --outDir "$tmp" \
  runtime/v1/api.proto containerd/services/sandbox/v1/sandbox.proto containerd/shim.proto >/dev/null

chmod -R u=rwX,go=rX "$tmp"
rm -rf "$out"
mv "$tmp" "$out"
