import { settled } from './load.ts'
import { procNumber } from './process.ts'
import type { Subject } from './subject.ts'

export interface Memory {
  readonly subject: string
  readonly pods: number
  /** Proportional set size of the processes that a pod has beside the daemon: pause and monitor. */
  readonly podKib: number
  readonly processesPerPod: number
  /** Resident set of the daemon with these pods. */
  readonly daemonRssKib: number | null
}

/** Runs so many pods, measures what they take, and takes them away again. */
export async function measureMemory(subject: Subject, pods: number, prefix: string): Promise<Memory> {
  const ids: string[] = []
  for (let pod = 0; pod < pods; pod++) ids.push(await subject.up(`${prefix}-${subject.name}-${pod}`, false))
  const pids = new Set((await Promise.all(ids.map((id) => subject.pids(id)))).flat())
  const kib = [...pids].reduce((sum, pid) => sum + procNumber(pid, 'smaps_rollup', 'Pss'), 0)
  const daemon = subject.daemonPid()
  const daemonRssKib = daemon === undefined ? null : procNumber(daemon, 'status', 'VmRSS')
  await settled(ids.map((id) => subject.stop(id)))
  await settled(ids.map((id) => subject.remove(id)))
  return { subject: subject.name, pods, podKib: kib / pods, processesPerPod: pids.size / pods, daemonRssKib }
}
