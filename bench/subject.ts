import type { PodSandboxConfig } from '../src/generated/runtime/v1/PodSandboxConfig.ts'
import type { Cri } from './cri.ts'
import type { Machine } from './machine.ts'
import { procNumber } from './process.ts'

/** One of those that are compared: it makes pods and takes them away again. */
export interface Subject {
  readonly name: string
  /** Makes a pod of a name that no other has, and returns its id. */
  up(name: string, hostNetwork: boolean): Promise<string>
  /** Ends its process and releases its network. */
  stop(id: string): Promise<void>
  /** Removes the rest. */
  remove(id: string): Promise<void>
  /** What belongs to a pod: its pause process and the monitor of that; for measuring memory. */
  pids(id: string): Promise<readonly number[]>
  /** Whether each container is to have a PID namespace of its own, so that the pod needs none. */
  readonly pidPerContainer: boolean
  /** The daemon, if there is one. */
  readonly daemonPid: () => number | undefined
}

export interface CriSubjectOptions {
  readonly name: string
  readonly handler: string
  readonly pidPerContainer: boolean
  readonly daemonPid: () => number
}

/** A subject behind a CRI socket. */
export function criSubject(options: CriSubjectOptions, deps: { cri: () => Cri; machine: Machine }): Subject {
  const { cri, machine } = deps
  return {
    name: options.name,
    pidPerContainer: options.pidPerContainer,
    daemonPid: options.daemonPid,
    up: (name, hostNetwork) => cri().run(podConfig(options, machine, name, hostNetwork), options.handler),
    stop: (id) => cri().stop(id),
    remove: (id) => cri().remove(id),
    pids: async (id) => {
      const { pid } = await cri().podInfo(id)
      return pid ? [pid, procNumber(pid, 'status', 'PPid')] : []
    },
  }
}

/** The same pod for all of them. */
export function podConfig(
  { pidPerContainer }: Pick<CriSubjectOptions, 'pidPerContainer'>,
  machine: Machine,
  name: string,
  hostNetwork: boolean,
): PodSandboxConfig {
  return {
    metadata: { name, uid: `${name}-uid`, namespace: 'bench', attempt: 0 },
    // A pod of the node's network has the node's host name.
    hostname: hostNetwork ? '' : name,
    log_directory: `${machine.dir}/logs/${name}`,
    linux: {
      cgroup_parent: machine.cgroupParent,
      security_context: {
        namespace_options: {
          network: hostNetwork ? 'NODE' : 'POD',
          pid: pidPerContainer ? 'CONTAINER' : 'POD',
          ipc: 'POD',
        },
      },
    },
  }
}
