import type { ProtoGrpcType } from '../../generated/shim.ts'
import { isRuncShim } from '../../core/runtime-type.ts'
import { RUNC_OPTIONS, runcOptionsIn } from '../task/task-messages.ts'
import type { TaskOptions } from './types.ts'

const FILE_OPTIONS = 'runtimeoptions.v1.Options'

/** What the configuration says of the runtime behind a shim. */
export interface ShimRuntime {
  readonly runtimeType: string
  /** Path of the OCI runtime; `''` leaves it to the shim. */
  readonly runtime: string
  /** Under which it keeps its state, in a directory for each namespace. */
  readonly runtimeRoot: string
  /** Path of the configuration of another shim than that of runc; `''` is none. */
  readonly runtimeConfig: string
  readonly systemdCgroup: boolean
}

/** The options of a runtime handler, as its shim wants them in each Create call. Null when there is nothing to say. */
export function shimOptions(runtime: ShimRuntime, { containerd, runtimeoptions }: ProtoGrpcType): TaskOptions | null {
  if (isRuncShim(runtime.runtimeType)) {
    const options = { binary_name: runtime.runtime, root: runtime.runtimeRoot, systemd_cgroup: runtime.systemdCgroup }
    return toOptions(RUNC_OPTIONS, containerd.runc.v1.Options.serialize(options))
  }
  if (runtime.runtimeConfig === '') return null
  return toOptions(FILE_OPTIONS, runtimeoptions.v1.Options.serialize({ config_path: runtime.runtimeConfig }))
}

/**
 * What a front end wants of the shim of runc, for a pause container of ours: with our runtime, and its state under our root,
 * where it names none. Options of other shims stay as they are.
 */
export function pauseOptions(
  wanted: TaskOptions | null,
  runtime: ShimRuntime,
  messages: ProtoGrpcType,
): TaskOptions | null {
  if (!isRuncShim(runtime.runtimeType)) return wanted ?? shimOptions(runtime, messages)
  const { Options } = messages.containerd.runc.v1
  const found = runcOptionsIn(wanted, messages)
  if (!found) return shimOptions(runtime, messages)
  const { task_api_address: _address, task_api_version: _version, ...given } = found
  return toOptions(
    RUNC_OPTIONS,
    Options.serialize({
      ...given,
      binary_name: given.binary_name || runtime.runtime,
      root: given.root || runtime.runtimeRoot,
    }),
  )
}

/** The OCI runtime that a shim runs with these options, and the directory of its state; null for other shims than that of runc. */
export function runtimeOf(
  options: TaskOptions | null,
  namespace: string,
  messages: ProtoGrpcType,
): { readonly path: string; readonly root: string; readonly systemdCgroup: boolean } | null {
  const given = runcOptionsIn(options, messages)
  if (!given) return null
  const { binary_name: path, root, systemd_cgroup: systemdCgroup } = given
  return { path, root: `${root || '/run/containerd/runc'}/${namespace}`, systemdCgroup }
}

function toOptions(typeUrl: string, value: Buffer): TaskOptions {
  return { typeUrl, value: value.toString('base64') }
}
