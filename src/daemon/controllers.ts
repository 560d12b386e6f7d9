import { readFile } from 'node:fs/promises'
import type { Config } from '../config/config.ts'
import { PauseContainers, type PauseProgram, pauseTarget } from '../controller/pause-container.ts'
import { PinnedController } from '../controller/pinned-controller.ts'
import { ControllerRegistry } from '../controller/registry.ts'
import { GrpcSandboxerClient } from '../controller/sandboxer-client.ts'
import { SandboxerController } from '../controller/sandboxer-controller.ts'
import { ShimController } from '../controller/shim-controller.ts'
import type { CleanupStack } from '../core/cleanup.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
import { loadCri, loadSandboxApi } from '../grpc/load.ts'
import { readCgroupMode } from '../host/cgroup-mode.ts'
import type { Kernel } from '../host/kernel.ts'
import { type HostSecurityFacts, readHostSecurity } from '../host/security.ts'
import { seccompFilter } from '../oci/seccomp.ts'
import { parseSeccompProfile } from '../oci/seccomp-profile.ts'
import type { LinuxSeccomp } from '../oci/spec.ts'
import { sandboxesDir } from '../sandbox/paths.ts'

export interface ControllerDeps {
  readonly executor: ConmonExecutor
  readonly kernel: Kernel
  readonly pause: () => PauseProgram
}

/** The controllers of this node, by the names that runtime handlers give as their sandboxer. */
export async function buildControllers(
  config: Config,
  deps: ControllerDeps,
  parts: CleanupStack,
): Promise<{ readonly registry: ControllerRegistry; readonly pauses: PauseContainers }> {
  const hostSecurity = readHostSecurity()
  const pauses = new PauseContainers(
    {
      pause: deps.pause,
      cgroupDriver: config.cgroup.driver,
      cgroupMode: readCgroupMode(),
      defaultSeccomp: await readDefaultSeccomp(config.seccomp.defaultProfile, hostSecurity),
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

/** Read once: every pod that asks for RuntimeDefault gets it. A profile that cannot be read concerns only those pods. */
async function readDefaultSeccomp(path: string, host: HostSecurityFacts): Promise<() => LinuxSeccomp> {
  try {
    const filter = seccompFilter(parseSeccompProfile(await readFile(path, 'utf8'), path), pauseTarget(host))
    return () => filter
  } catch (cause) {
    return () => {
      const why = errorMessage(cause)
      throw new CodedError('FailedPrecondition', `apply the default seccomp profile ${path}: ${why}`, { cause })
    }
  }
}
