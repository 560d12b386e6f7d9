import { hostname as nodeHostname } from 'node:os'
import type { Config } from '../../config/config.ts'
import type { Pod, PodNamespacePaths, Pods, PodTasks } from '../../container/pods.ts'
import type { Controller, ControllerRecord } from '../../controller/controller.ts'
import type { ControllerRegistry } from '../../controller/registry.ts'
import type { ShimV2Record } from '../../controller/shim-v2-controller.ts'
import { CodedError, errorCode } from '../../core/errors.ts'
import type { TaskAnnouncer } from '../../executor/task/types.ts'
import { mappedRoot, userMappings } from '../../oci/user-namespace.ts'
import type { ControlledSandboxes } from '../../sandbox/kinds/controlled.ts'
import { sandboxPaths } from '../../sandbox/paths.ts'
import { hostnameFor } from '../../sandbox/pod-files.ts'
import type { Sandbox } from '../../sandbox/sandbox.ts'
import { isReady } from '../../sandbox/sandbox-index.ts'
import type { SandboxManager } from '../../sandbox/sandbox-manager.ts'

export interface PodDeps {
  readonly sandboxes: () => Pick<SandboxManager, 'find'>
  readonly registry: ControllerRegistry
  readonly controlled: ControlledSandboxes
  /** What a Create call says of the runtime of a handler. */
  readonly optionsOf: (runtimeHandler: string) => PodTasks['options']
}

/** The sandboxes, as containers use them. */
export function podsOf(config: Config, deps: PodDeps): Pods {
  const find = (id: string): Sandbox => deps.sandboxes().find(id)
  return {
    get: (id) => podOf(find(id), config, deps),
    namespaces: (id) => podNamespacePaths(find(id), deps),
    endpoint: (id) => {
      try {
        return endpointOf(find(id), deps)
      } catch (error) {
        // There is no such sandbox, nobody runs it any more, or what is on record of it cannot be read.
        if (error instanceof CodedError) return null
        throw error
      }
    },
    hasEnded: (id) => {
      try {
        const { state } = find(id).status
        return state === 'STOPPED' || state === 'REMOVING'
      } catch (error) {
        if (errorCode(error) === 'NotFound') return true
        throw error
      }
    },
  }
}

/** Tells the sandboxers of their tasks. */
export function announcerOf(deps: PodDeps): TaskAnnouncer {
  return {
    announce: async (sandboxId, tasks, signal) => {
      const controlled = controlledOf(deps.sandboxes().find(sandboxId), deps)
      // A sandbox that is gone at its sandboxer has no tasks there.
      await controlled?.controller.announce?.(controlled.record, tasks, signal)
    },
  }
}

/** What containers are told of the sandbox that they are in. */
function podOf(sandbox: Sandbox, config: Config, deps: PodDeps): Pod {
  const { id, metadata } = sandbox
  const { runtimeHandler, netMode } = metadata
  const handler = runtimeHandler || config.defaultRuntimeHandler
  const { runtime = '', runtimeRoot = '' } = config.runtimes[handler] ?? {}
  const endpoint = endpointOf(sandbox, deps)
  const ready = isReady(sandbox)
  if (ready && !endpoint && runtime === '') {
    const why = 'it has no OCI runtime, and its sandboxer has not said where containers are run'
    throw new CodedError('FailedPrecondition', `run a container of handler ${handler}: ${why}`)
  }
  const paths = sandboxPaths(config, id)
  const options = metadata.config.linux?.security_context?.namespace_options ?? null
  const mappings = userMappings(options)
  return {
    id,
    config: metadata.config,
    ready,
    runtimeHandler: handler,
    runtime: { path: runtime, root: runtimeRoot, systemdCgroup: config.cgroup.driver === 'systemd' },
    tasks: endpoint && { ...endpoint, options: taskOptions(sandbox, handler, deps) },
    hostname: hostnameFor({ hostname: metadata.config.hostname, netMode, id, nodeHostname: nodeHostname() }),
    userns: mappings && { path: paths.userns, root: mappedRoot(mappings) },
    files: {
      hostname: paths.hostname,
      hosts: paths.hosts,
      resolvConf: paths.resolvConf,
      shm: options?.ipc === 'NODE' ? '/dev/shm' : paths.shm,
    },
  }
}

/** Who runs the containers of a sandbox, where that is not an OCI runtime under conmon. */
function endpointOf(sandbox: Sandbox, deps: PodDeps): Omit<PodTasks, 'options'> | null {
  const controlled = controlledOf(sandbox, deps)
  return controlled?.controller.tasks?.(controlled.record) ?? null
}

/** The options that the shim of the sandbox was started with, or those of the handler for who runs it elsewhere. */
function taskOptions(sandbox: Sandbox, handler: string, deps: PodDeps): PodTasks['options'] {
  const { shim } = (controlledOf(sandbox, deps)?.record ?? {}) as Partial<ShimV2Record>
  return shim ? shim.options : deps.optionsOf(handler)
}

/** @throws CodedError as `Controller.namespaces`. */
function podNamespacePaths(sandbox: Sandbox, deps: PodDeps): PodNamespacePaths {
  const { metadata, status } = sandbox
  const controlled = controlledOf(sandbox, deps)
  if (!controlled)
    throw new CodedError('FailedPrecondition', `pod sandbox ${sandbox.id}: it has no namespaces any more`)
  const { ipc, uts, pid } = controlled.controller.namespaces(controlled.record, status.process)
  const options = metadata.config.linux?.security_context?.namespace_options
  const ownsNetwork = metadata.netMode === 'cni'
  return {
    ...(ownsNetwork ? { net: metadata.netnsPath } : {}),
    ...(ownsNetwork && uts !== undefined ? { uts } : {}),
    ...(ipc === undefined || options?.ipc === 'NODE' ? {} : { ipc }),
    ...(pid === undefined ? {} : { pid }),
  }
}

function controlledOf(
  sandbox: Sandbox,
  { registry, controlled }: PodDeps,
): { readonly controller: Controller; readonly record: ControllerRecord } | null {
  const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
  if (!entry) return null
  const { sandboxer, record } = controlled.parse(entry.record)
  return { controller: registry.get(sandboxer), record }
}
