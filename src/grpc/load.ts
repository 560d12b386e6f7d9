import { fileURLToPath } from 'node:url'
import { loadPackageDefinition } from '@grpc/grpc-js'
import { loadSync, type Options } from '@grpc/proto-loader'
import type { ProtoGrpcType as CriPackages } from '../generated/api.ts'
import type { ProtoGrpcType as SandboxPackages } from '../generated/sandbox.ts'
import type { ProtoGrpcType as ShimPackages } from '../generated/shim.ts'

/** Both src/grpc and dist/grpc are two levels below the package root, where proto/ is. */
const PROTO_DIR = fileURLToPath(new URL('../../proto', import.meta.url))

/** Must match scripts/generate-types.sh: together they decide what a message looks like. */
const OPTIONS: Options = {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
  includeDirs: [PROTO_DIR],
}

/** The packages of the CRI: service definitions and client constructors. Parses the contract anew at each call. */
export function loadCri(): CriPackages {
  return loadPackageDefinition(loadSync('runtime/v1/api.proto', OPTIONS)) as unknown as CriPackages
}

/** The same, where a message is what Go's encoding/json makes of it: enums are numbers, and what is not set is left out. */
export function loadCriForGo(): CriPackages {
  const options = { ...OPTIONS, longs: Number, enums: Number, defaults: false }
  return loadPackageDefinition(loadSync('runtime/v1/api.proto', options)) as unknown as CriPackages
}

/** The packages of the containerd sandbox API, likewise. */
export function loadSandboxApi(): SandboxPackages {
  const file = 'containerd/services/sandbox/v1/sandbox.proto'
  return loadPackageDefinition(loadSync(file, OPTIONS)) as unknown as SandboxPackages
}

/** What one speaks with containerd shims: tasks, events, options of runc, metrics of cgroups, and ttrpc's own messages. */
export function loadShimApi(): ShimPackages {
  return loadPackageDefinition(loadSync('containerd/shim.proto', OPTIONS)) as unknown as ShimPackages
}

/** What a daemon speaks. */
export interface Contracts {
  readonly cri: CriPackages
  readonly sandboxer: SandboxPackages
  readonly shim: ShimPackages
}

/** Parses each once: that takes some 100 ms. */
export function loadContracts(): Contracts {
  return { cri: loadCri(), sandboxer: loadSandboxApi(), shim: loadShimApi() }
}
