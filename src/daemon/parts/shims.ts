import { join } from 'node:path'
import type { Config, RuntimeHandlerConfig } from '../../config/config.ts'
import type { SandboxSpec } from '../../controller/controller.ts'
import type { ShimChoice } from '../../controller/shim-v2-controller.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import { CodedError } from '../../core/errors.ts'
import type { Observer } from '../../core/observer.ts'
import { pauseOptions, runtimeOf, shimOptions } from '../../executor/shim/runtime-options.ts'
import { ShimEvents } from '../../executor/shim/shim-events.ts'
import { Shims } from '../../executor/shim/shims.ts'
import type { TaskOptions } from '../../executor/shim/types.ts'
import { TASK_NAMESPACE } from '../../executor/task/task-channel.ts'
import { TaskConnections } from '../../executor/task/task-services.ts'
import type { ProtoGrpcType } from '../../generated/shim.ts'
import type { Libc } from '../../host/libc.ts'
import type { Programs } from '../../host/programs/programs.ts'
import { DEFAULT_PATH } from '../../host/programs/outcome.ts'
import type { Logger } from '../../telemetry/logger.ts'

/** Everything about containerd shims. */
export interface ShimParts {
  readonly messages: ProtoGrpcType
  readonly services: TaskConnections
  readonly events: ShimEvents
  readonly shims: Shims
  /** Which shim runs a sandbox. @throws CodedError `FailedPrecondition` for a runtime handler without one. */
  readonly choose: (spec: SandboxSpec) => ShimChoice
  /** What a Create call says of the runtime of a handler; null for nothing, and for a handler that there is not. */
  readonly optionsOf: (handler: string) => TaskOptions | null
}

interface ShimDeps {
  readonly programs: Programs
  readonly libc: Libc
  readonly bootId: string
  readonly messages: ProtoGrpcType
  /** Default: nobody. */
  readonly observer?: Observer
  readonly logger: Logger
}

/** What containerd's sockets are to its shims, this is to ours. */
function eventsSocket({ state }: Config): string {
  return join(state, 'events.sock')
}

/** To start, find and end shims; `warm` of a kind are kept ready. Nothing is started or ended yet. */
export function makeShims(
  config: Config,
  warm: number,
  deps: ShimDeps,
  parts: CleanupStack,
): Pick<ShimParts, 'services' | 'shims'> {
  const { programs, bootId, messages, observer } = deps
  const definition = messages.containerd.task.v3.Task.service
  const observed = observer ? { observer } : {}
  const services = parts.use(new TaskConnections({}, { definition, messages: messages.ttrpc, ...observed }))
  const ownerAddress = eventsSocket(config)
  const { runtimeMs, remoteMs: callMs } = config.timeouts
  const searchPath = process.env['PATH'] || DEFAULT_PATH
  const ready = { directory: join(config.state, 'shims'), size: warm, ownerAddress, bootId }
  const options = { ownerAddress, searchPath, runtimeMs, callMs, bootId, warm: ready }
  return { services, shims: parts.use(new Shims(options, { ...deps, run: programs.run, services })) }
}

export async function openShims(config: Config, deps: Required<ShimDeps>, parts: CleanupStack): Promise<ShimParts> {
  const { messages } = deps
  const socketPath = eventsSocket(config)
  const events = parts.use(new ShimEvents({ socketPath }, { messages }))
  await events.listen()
  const { services, shims } = makeShims(config, config.shims.warm, deps, parts)
  await shims.endLeft()
  const systemdCgroup = config.cgroup.driver === 'systemd'
  const choose = (spec: SandboxSpec): ShimChoice => choice(spec, config, { messages, eventsAddress: socketPath })
  const optionsOf = (handler: string): TaskOptions | null => {
    const found = config.runtimes[handler || config.defaultRuntimeHandler]
    return found?.runtimeType ? shimOptions({ ...found, systemdCgroup }, messages) : null
  }
  return { messages, services, events, shims, choose, optionsOf }
}

function choice(
  { shim: asked, runtimeHandler }: SandboxSpec,
  config: Config,
  { messages, eventsAddress }: { readonly messages: ProtoGrpcType; readonly eventsAddress: string },
): ShimChoice {
  const systemdCgroup = config.cgroup.driver === 'systemd'
  const handler = config.runtimes[runtimeHandler]
  if (!asked) {
    if (!handler?.runtimeType) {
      throw new CodedError('FailedPrecondition', `runtime handler ${runtimeHandler}: it has no runtime_type`)
    }
    const options = shimOptions({ ...handler, systemdCgroup }, messages)
    const own = { runtimeType: handler.runtimeType, namespace: TASK_NAMESPACE, eventsAddress, options }
    return toChoice(own, handler, messages)
  }
  const own = ownRuntime(config, handler)
  // What the handler says to its own shim, another does not understand.
  const runtimeConfig = own.runtimeType === asked.runtimeType ? own.runtimeConfig : ''
  const runtime = { ...own, runtimeConfig, runtimeType: asked.runtimeType, systemdCgroup }
  const options = pauseOptions(asked.options, runtime, messages)
  return toChoice({ ...asked, eventsAddress: asked.eventsAddress || eventsAddress, options }, runtime, messages)
}

function toChoice(
  choice: Omit<ShimChoice, 'runtime'>,
  { runtimeRoot: root }: Pick<RuntimeHandlerConfig, 'runtimeRoot'>,
  messages: ProtoGrpcType,
): ShimChoice {
  const runtime = runtimeOf(choice.options, choice.namespace, messages)
  return { ...choice, runtime: runtime ?? { path: '', root, systemdCgroup: false } }
}

/** For the pause container of a front end that names no runtime: any of ours does. */
function ownRuntime(config: Config, handler: RuntimeHandlerConfig | undefined): RuntimeHandlerConfig {
  const own = [handler, config.runtimes[config.defaultRuntimeHandler], ...Object.values(config.runtimes)]
  const found = own.find((candidate) => candidate?.runtime)
  if (found) return found
  throw new CodedError('FailedPrecondition', 'run a pause container: no runtime handler has an OCI runtime')
}
