import { GrpcSandboxerClient } from '../../client/sandboxer-client.ts'
import type { Config, RemoteSandboxerConfig } from '../../config/config.ts'
import { PauseContainers, type PauseProgram } from '../../controller/pause-container.ts'
import { PinnedController } from '../../controller/pinned-controller.ts'
import { ControllerRegistry } from '../../controller/registry.ts'
import { SandboxerController } from '../../controller/sandboxer-controller.ts'
import type { SandboxRuntime } from '../../controller/sandboxer-record.ts'
import { ShimController } from '../../controller/shim-controller.ts'
import { ShimV2Controller } from '../../controller/shim-v2-controller.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import type { Observer } from '../../core/observer.ts'
import type { ConmonExecutor } from '../../executor/conmon-executor.ts'
import type { SeccompProfiles } from '../../executor/seccomp-profiles.ts'
import type { PodSandboxConfig } from '../../generated/runtime/v1/PodSandboxConfig.ts'
import { type Contracts, loadCriForGo } from '../../grpc/load.ts'
import { readCgroupMode } from '../../host/cgroup/cgroup-mode.ts'
import type { Kernel } from '../../host/kernel/kernel.ts'
import type { HostSecurityFacts } from '../../host/security.ts'
import { sandboxesDir } from '../../sandbox/paths.ts'
import type { ShimParts } from './shims.ts'

export interface ControllerDeps {
  readonly executor: ConmonExecutor
  readonly kernel: Kernel
  readonly pause: () => PauseProgram
  readonly hostSecurity: HostSecurityFacts
  readonly seccomp: SeccompProfiles
  readonly shim: Pick<ShimParts, 'shims' | 'choose' | 'optionsOf'>
  readonly bootId: string
  readonly contracts: Contracts
  readonly observer: Observer
}

/** The controllers of this node, by the names that runtime handlers give as their sandboxer. */
export function buildControllers(
  config: Config,
  deps: ControllerDeps,
  parts: CleanupStack,
): {
  readonly registry: ControllerRegistry
  readonly pauses: PauseContainers
  /** Makes those known that are new; the others stay as they are. */
  readonly addSandboxers: (sandboxers: Config['sandboxers']) => void
} {
  const { hostSecurity } = deps
  const pauses = new PauseContainers(
    {
      pause: deps.pause,
      cgroupDriver: config.cgroup.driver,
      cgroupMode: readCgroupMode(),
      seccomp: deps.seccomp,
      hostSecurity,
      runtimes: config.runtimes,
    },
    deps,
  )
  const options = { stateParent: sandboxesDir(config.state) }
  const registry = new ControllerRegistry()
  registry.register(new ShimController(options, { pauses }))
  registry.register(new PinnedController(options, { kernel: deps.kernel, pauses }))
  const { shims, choose } = deps.shim
  const { runtimeMs, remoteMs: callMs } = config.timeouts
  const { bootId } = deps
  registry.register(new ShimV2Controller({ ...options, choose, runtimeMs, callMs, bootId }, { shims, pauses }))
  const addSandboxers = (sandboxers: Config['sandboxers']): void => {
    const known = new Set(registry.all().map(({ name }) => name))
    const added = Object.entries(sandboxers).filter(([name]) => !known.has(name))
    for (const controller of remoteControllers(added, config, deps, parts)) registry.register(controller)
  }
  addSandboxers(config.sandboxers)
  return { registry, pauses, addSandboxers }
}

/** One for each remote sandboxer. None of them is connected to before it is needed. */
function remoteControllers(
  entries: readonly (readonly [name: string, RemoteSandboxerConfig])[],
  { runtimes, timeouts }: Config,
  { shim: { optionsOf }, contracts, observer }: Pick<ControllerDeps, 'shim' | 'contracts' | 'observer'>,
  parts: CleanupStack,
): SandboxerController[] {
  if (entries.length === 0) return []
  const { Controller } = contracts.sandboxer.containerd.services.sandbox.v1
  const encode = contracts.cri.runtime.v1.PodSandboxConfig.serialize
  const decode = loadCriForGo().runtime.v1.PodSandboxConfig.deserialize
  const codec = { encode, toJson: (config: PodSandboxConfig) => decode(encode(config)) }
  const runtimeOf = (handler: string): SandboxRuntime => {
    return { name: runtimes[handler]?.runtimeType || handler, options: optionsOf(handler) }
  }
  return entries.map(([name, sandboxer]) => {
    const client = parts.use(new GrpcSandboxerClient({ name, address: sandboxer.address }, { Controller, observer }))
    return new SandboxerController({ name, ...sandboxer, runtimeOf, ...timeouts }, { client, codec })
  })
}
