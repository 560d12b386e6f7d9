import { hostname as nodeHostname } from 'node:os'
import type { Config } from '../config/config.ts'
import type { Pod, PodNamespacePaths } from '../container/pods.ts'
import type { ControllerRegistry } from '../controller/registry.ts'
import { CodedError } from '../core/errors.ts'
import { mappedRoot, userMappings } from '../oci/user-namespace.ts'
import type { ControlledSandboxes } from '../sandbox/kinds/controlled.ts'
import { sandboxPaths } from '../sandbox/paths.ts'
import { hostnameFor } from '../sandbox/pod-files.ts'
import type { Sandbox } from '../sandbox/sandbox.ts'
import { isReady } from '../sandbox/sandbox-index.ts'

/** What containers are told of the sandbox that they are in. */
export function podOf(sandbox: Sandbox, config: Config): Pod {
  const { id, metadata } = sandbox
  const { runtimeHandler, netMode } = metadata
  const handler = runtimeHandler || config.defaultRuntimeHandler
  const runtime = config.runtimes[handler]
  if (!runtime?.runtime) {
    throw new CodedError('Unimplemented', `run a container of handler ${handler}: its sandboxer runs them itself`)
  }
  const paths = sandboxPaths(config, id)
  const options = metadata.config.linux?.security_context?.namespace_options ?? null
  const mappings = userMappings(options)
  return {
    id,
    config: metadata.config,
    ready: isReady(sandbox),
    runtimeHandler: handler,
    runtime: {
      path: runtime.runtime,
      root: runtime.runtimeRoot,
      systemdCgroup: config.cgroup.driver === 'systemd',
    },
    tasks: null,
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

/** @throws CodedError as `Controller.namespaces`. */
export function podNamespacePaths(
  sandbox: Sandbox,
  deps: { readonly registry: ControllerRegistry; readonly controlled: ControlledSandboxes },
): PodNamespacePaths {
  const { metadata, status } = sandbox
  const entry = sandbox.entries.find(({ kind }) => kind === 'controller')
  if (!entry) throw new CodedError('FailedPrecondition', `pod sandbox ${sandbox.id}: it has no namespaces any more`)
  const { sandboxer, record } = deps.controlled.parse(entry.record)
  const { ipc, uts, pid } = deps.registry.get(sandboxer).namespaces(record, status.process)
  const options = metadata.config.linux?.security_context?.namespace_options
  const ownsNetwork = metadata.netMode === 'cni'
  return {
    ...(ownsNetwork ? { net: metadata.netnsPath } : {}),
    ...(ownsNetwork && uts !== undefined ? { uts } : {}),
    ...(ipc === undefined || options?.ipc === 'NODE' ? {} : { ipc }),
    ...(pid === undefined ? {} : { pid }),
  }
}
