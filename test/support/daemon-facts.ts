import { readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { listPids } from '../../src/host/process.ts'
import type { TestDaemon } from './daemon.ts'
import { namespaceOf } from './pod-facts.ts'

/** What a daemon holds: its open descriptors by kind, and its threads. */
export interface DaemonFacts {
  readonly descriptors: Readonly<Record<string, number>>
  readonly threads: number
}

export function daemonFacts({ pid }: Pick<TestDaemon, 'pid'>): DaemonFacts {
  const descriptors: Record<string, number> = {}
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const kind = linkOf(`/proc/${pid}/fd/${fd}`)?.replace(/:?\[\d+\]$/, '')
    if (kind !== undefined) descriptors[kind] = (descriptors[kind] ?? 0) + 1
  }
  return { descriptors, threads: readdirSync(`/proc/${pid}/task`).length }
}

/** The same when nothing has changed any more for half a second. */
export async function settledFacts(daemon: Pick<TestDaemon, 'pid'>): Promise<DaemonFacts> {
  let facts = daemonFacts(daemon)
  for (let same = 0; same < 5; ) {
    await sleep(100)
    const now = daemonFacts(daemon)
    same = isDeepStrictEqual(now, facts) ? same + 1 : 0
    facts = now
  }
  return facts
}

/** The processes of a container that has a PID namespace of its own. */
export async function processesIn(daemon: TestDaemon, id: string): Promise<number[]> {
  return processesBeside((await daemon.client.containers.info(id)).pid)
}

/** Those in the PID namespace of a process, with that one. */
export function processesBeside(main: number): number[] {
  const namespace = namespaceOf(main, 'pid')
  return listPids().filter((pid) => {
    try {
      return namespaceOf(pid, 'pid') === namespace
    } catch {
      // It has ended.
      return false
    }
  })
}

/** Undefined for one that was closed meanwhile. */
function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}
