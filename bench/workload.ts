import type { ContainerConfig } from '../src/generated/runtime/v1/ContainerConfig.ts'
import type { Cri } from './cri.ts'
import type { Machine } from './machine.ts'
import { procNumber } from './process.ts'
import { type CriSubjectOptions, podConfig, type Subject } from './subject.ts'

/** The program of every container: it sleeps, and SIGTERM ends it at once though it is the first of its namespace. */
export const SLEEPER = ['/bin/sh', '-c', 'trap "exit 0" TERM; sleep 100000 & wait']
export const EXECED = ['/bin/true']

/** One of those that are compared, with containers in its pods. */
export interface Workload {
  readonly name: string
  readonly subject: Subject
  /** @param part over the configuration of the container, which sleeps by itself. */
  create(podId: string, podName: string, hostNetwork: boolean, part?: ContainerConfig): Promise<string>
  start(id: string): Promise<void>
  exec(id: string): Promise<void>
  stop(id: string): Promise<void>
  /** Ends one that may not have got as far as to listen to a signal. */
  kill(id: string): Promise<void>
  remove(id: string): Promise<void>
  /** The first process of the container, and who watches it. */
  pids(id: string): Promise<readonly number[]>
}

/** A workload behind a CRI socket. */
export function criWorkload(
  options: Pick<CriSubjectOptions, 'pidPerContainer'> & { readonly image: string },
  deps: { subject: Subject; cri: Cri; machine: Machine },
): Workload {
  const { subject, cri, machine } = deps
  let containers = 0
  return {
    name: subject.name,
    subject,
    create: (podId, podName, hostNetwork, part) => {
      const pod = podConfig(options, machine, podName, hostNetwork)
      const namespaces = pod.linux?.security_context?.namespace_options
      const config: ContainerConfig = {
        metadata: { name: `c${containers++}`, attempt: 0 },
        image: { image: options.image },
        command: SLEEPER,
        log_path: 'log',
        linux: { security_context: { namespace_options: { ...namespaces, pid: 'CONTAINER' } } },
        ...part,
      }
      return cri.createContainer(podId, config, pod)
    },
    start: (id) => cri.startContainer(id),
    exec: (id) => cri.execSync(id, EXECED),
    stop: (id) => cri.stopContainer(id),
    kill: (id) => cri.stopContainer(id, 0),
    remove: (id) => cri.removeContainer(id),
    pids: async (id) => {
      const { pid } = await cri.containerInfo(id)
      return pid ? [pid, procNumber(pid, 'status', 'PPid')] : []
    },
  }
}
