import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js'
import type { Config } from '../../config/config.ts'
import type { CleanupStack } from '../../core/cleanup.ts'
import { CodedError } from '../../core/errors.ts'
import type { Observer } from '../../core/observer.ts'
import { validatePodSandboxConfig } from '../../cri/validate.ts'
import type { Any } from '../../generated/google/protobuf/Any.ts'
import type { PodSandboxConfig__Output } from '../../generated/runtime/v1/PodSandboxConfig.ts'
import type { Contracts } from '../../grpc/load.ts'
import { readCgroupMode } from '../../host/cgroup/cgroup-mode.ts'
import { resolveSelinux } from '../../oci/security.ts'
import { controllerService } from '../../sandboxer/controller-service.ts'
import { toMetrics } from '../../sandboxer/metrics.ts'
import { Waits } from '../../sandboxer/waits.ts'
import { ThreadReader } from '../../stats/reader.ts'
import type { Logger } from '../../telemetry/logger.ts'
import type { Node } from '../node.ts'
import { sandboxTarget } from './stats-source.ts'

/** The shim of those who ask for none, where the configuration does not say either. */
const DEFAULT_SHIM = 'io.containerd.runc.v2'
/** Reading one cgroup. */
const READ_MS = 10_000

/** The service on sandboxer.sock, and what ends its calls that last. */
export interface SandboxerService {
  readonly definition: ServiceDefinition
  readonly implementation: UntypedServiceImplementation
  readonly waits: Waits
}

/** What front ends are served with. */
export function openSandboxer(
  config: Config,
  node: Node,
  {
    contracts,
    logger,
    observer,
  }: { readonly contracts: Contracts; readonly logger: Logger; readonly observer: Observer },
  parts: CleanupStack,
): SandboxerService {
  const { PodSandboxConfig: codec } = contracts.cri.runtime.v1
  const { runtimeHandler, eventsAddress } = config.sandboxer
  const waits = parts.use(new Waits())
  const implementation = controllerService(
    {
      // A reload may change it.
      get defaultShim() {
        const handler = config.runtimes[runtimeHandler]
        return handler ? handler.runtimeType || null : DEFAULT_SHIM
      },
      eventsAddress,
    },
    {
      sandboxes: node.sandboxes.served,
      codec,
      validateConfig,
      selinuxLabel: ({ linux }) => {
        const context = linux?.security_context ?? null
        const privileged = context?.privileged ?? false
        return resolveSelinux(context?.selinux_options ?? null, privileged, node.hostSecurity).processLabel
      },
      metrics: metricsOf(config, node, contracts, parts),
      waits,
      logger,
      observer,
    },
  )
  return { definition: contracts.sandboxer.containerd.services.sandbox.v1.Controller.service, implementation, waits }
}

/** As for our own CRI, but for what the front end decides: the cgroup driver is its own, and user namespaces are not ours. */
function validateConfig(config: PodSandboxConfig__Output): void {
  const cgroupDriver = config.linux?.cgroup_parent.endsWith('.slice') ? 'systemd' : 'cgroupfs'
  validatePodSandboxConfig(config, { cgroupDriver, hasUserNamespaces: false })
}

function metricsOf(
  config: Config,
  node: Node,
  contracts: Contracts,
  parts: CleanupStack,
): (id: string, signal: AbortSignal) => Promise<Any> {
  const { v1, v2 } = contracts.shim.io.containerd.cgroups
  const codec = { v1: v1.Metrics.serialize, v2: v2.Metrics.serialize }
  const isCgroupV2 = readCgroupMode() === 'v2'
  const systemdCgroup = config.cgroup.driver === 'systemd'
  // Started by the first question: there are none from containerd 2.1 to 2.3.
  const reader = parts.use(new ThreadReader({ timeoutMs: READ_MS }))
  return async (id, signal) => {
    const target = sandboxTarget(node.sandboxes.served.claim(id), node, { systemdCgroup })
    const told = await target.askMetrics?.(signal)
    if (told) return { type_url: told.typeUrl, value: Buffer.from(told.value) }
    const { cgroupParent, cgroupPath, pid, netnsPath } = target
    const path = cgroupParent || cgroupPath
    const [answer] = await reader.read([
      {
        cgroup: path === '' ? null : { cgroupPath: path, pid, detail: true },
        network: pid === null || netnsPath === '' ? null : { pid, netnsPath },
      },
    ])
    signal.throwIfAborted()
    if (!answer?.cgroup) {
      throw new CodedError('Unavailable', `metrics of sandbox ${id}: ${answer?.failure || 'it has no cgroup'}`)
    }
    return toMetrics({ cgroup: answer.cgroup, interfaces: answer.network?.interfaces ?? [] }, isCgroupV2, codec)
  }
}
