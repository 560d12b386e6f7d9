import type { Config } from '../config/config.ts'
import { PauseContainers, type PauseProgram } from '../controller/pause-container.ts'
import { PinnedController } from '../controller/pinned-controller.ts'
import { ControllerRegistry } from '../controller/registry.ts'
import { GrpcSandboxerClient } from '../controller/sandboxer-client.ts'
import { SandboxerController } from '../controller/sandboxer-controller.ts'
import { ShimController } from '../controller/shim-controller.ts'
import type { CleanupStack } from '../core/cleanup.ts'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
import type { SeccompProfiles } from '../executor/seccomp-profiles.ts'
import { loadCri, loadSandboxApi } from '../grpc/load.ts'
import { readCgroupMode } from '../host/cgroup/cgroup-mode.ts'
import type { Kernel } from '../host/kernel/kernel.ts'
import type { HostSecurityFacts } from '../host/security.ts'
import { sandboxesDir } from '../sandbox/paths.ts'

export interface ControllerDeps {
  readonly executor: ConmonExecutor
  readonly kernel: Kernel
  readonly pause: () => PauseProgram
  readonly hostSecurity: HostSecurityFacts
  readonly seccomp: SeccompProfiles
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
  for (const controller of remoteControllers(config, parts)) registry.register(controller)
  return { registry, pauses }
}

/** One for each remote sandboxer. None of them is connected to before it is needed. */
function remoteControllers({ sandboxers, timeouts }: Config, parts: CleanupStack): SandboxerController[] {
  const entries = Object.entries(sandboxers)
  if (entries.length === 0) return []
  const { Controller } = loadSandboxApi().containerd.services.sandbox.v1
  const encodeConfig = loadCri().runtime.v1.PodSandboxConfig.serialize
  return entries.map(([name, { address }]) => {
    const client = parts.use(new GrpcSandboxerClient({ name, address }, { Controller }))
    return new SandboxerController({ name, address, ...timeouts }, { client, encodeConfig })
  })
}
