import type { Options__Output } from '../../generated/containerd/runc/v1/Options.ts'
import type { loadShimApi } from '../../grpc/load.ts'
import type { TaskRecord } from '../types.ts'

/** How containerd and its shims name what is JSON in an Any. */
export const PROCESS_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Process'
export const RESOURCES_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/LinuxResources'

export const SIGKILL = 9

export const RUNC_OPTIONS = 'containerd.runc.v1.Options'

/** What a shim of runc is told of its runtime; null for other shims, and when it is told nothing. */
export function runcOptionsIn(
  options: TaskRecord['options'],
  { containerd }: Pick<ReturnType<typeof loadShimApi>, 'containerd'>,
): Options__Output | null {
  if (!options?.typeUrl.endsWith(RUNC_OPTIONS)) return null
  return containerd.runc.v1.Options.deserialize(Buffer.from(options.value, 'base64'))
}

/** The options of a record as a Create call has them. */
export function optionsOf({ options }: TaskRecord): { readonly type_url: string; readonly value: Buffer } | null {
  return options && { type_url: options.typeUrl, value: Buffer.from(options.value, 'base64') }
}
