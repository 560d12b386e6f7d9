import { GrpcSandboxerClient } from '../client/sandboxer-client.ts'
import type { Config } from '../config/config.ts'
import { PauseContainers, type PauseProgram } from '../controller/pause-container.ts'
import { PinnedController } from '../controller/pinned-controller.ts'
import { ControllerRegistry } from '../controller/registry.ts'
import { SandboxerController } from '../controller/sandboxer-controller.ts'
import type { SandboxRuntime } from '../controller/sandboxer-record.ts'
import { ShimController } from '../controller/shim-controller.ts'
import { ShimV2Controller } from '../controller/shim-v2-controller.ts'
import type { CleanupStack } from '../core/cleanup.ts'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
import type { SeccompProfiles } from '../executor/seccomp-profiles.ts'
import type { PodSandboxConfig } from '../generated/runtime/v1/PodSandboxConfig.ts'
import { type Contracts, loadCriForGo } from '../grpc/load.ts'
import { readCgroupMode } from '../host/cgroup/cgroup-mode.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import type { HostSecurityFacts } from '../host/security.ts'
import { sandboxesDir } from '../sandbox/paths.ts'
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
}

/** The controllers of this node, by the names that runtime handlers give as their sandboxer. */
export function buildControllers(
  config: Config,
  deps: ControllerDeps,
  parts: CleanupStack,
): { readonly registry: ControllerRegistry; readonly pauses: PauseContainers } {
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
  for (const controller of remoteControllers(config, deps, parts)) registry.register(controller)
  return { registry, pauses }
}

/** One for each remote sandboxer. None of them is connected to before it is needed. */
function remoteControllers(
  { sandboxers, runtimes, timeouts }: Config,
  { shim: { optionsOf }, contracts }: Pick<ControllerDeps, 'shim' | 'contracts'>,
  parts: CleanupStack,
): SandboxerController[] {
  const entries = Object.entries(sandboxers)
  if (entries.length === 0) return []
  const { Controller } = contracts.sandboxer.containerd.services.sandbox.v1
  const encode = contracts.cri.runtime.v1.PodSandboxConfig.serialize
  const decode = loadCriForGo().runtime.v1.PodSandboxConfig.deserialize
  const codec = { encode, toJson: (config: PodSandboxConfig) => decode(encode(config)) }
  const runtimeOf = (handler: string): SandboxRuntime => {
    return { name: runtimes[handler]?.runtimeType || handler, options: optionsOf(handler) }
  }
  return entries.map(([name, sandboxer]) => {
    const client = parts.use(new GrpcSandboxerClient({ name, address: sandboxer.address }, { Controller }))
    return new SandboxerController({ name, ...sandboxer, runtimeOf, ...timeouts }, { client, codec })
  })
}
