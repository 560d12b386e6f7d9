import { readFile } from 'node:fs/promises'
import type { Config } from '../config/config.ts'
import { PauseContainers, type PauseProgram, pauseTarget } from '../controller/pause-container.ts'
import { PinnedController } from '../controller/pinned-controller.ts'
import { ControllerRegistry } from '../controller/registry.ts'
import { ShimController } from '../controller/shim-controller.ts'
import { CodedError, errorMessage } from '../core/errors.ts'
import type { ConmonExecutor } from '../executor/conmon-executor.ts'
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
  return { registry, pauses }
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
