import { readFileSync, readlinkSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { runOk } from '../../src/host/programs/run.ts'
import { slowed } from './slowness.ts'

/** What the kernel shows of a process. */
export interface ProcessFacts {
  readonly uids: readonly number[]
  readonly gids: readonly number[]
  readonly groups: readonly number[]
  /** 0 none, 1 strict, 2 filter. */
  readonly seccompMode: number
  readonly noNewPrivileges: boolean
  readonly effectiveCapabilities: string
  readonly oomScoreAdj: number
}

export function processFacts(pid: number): ProcessFacts {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? ''
  const numbers = (name: string): number[] => field(name).split(/\s+/).filter(Boolean).map(Number)
  return {
    uids: numbers('Uid'),
    gids: numbers('Gid'),
    groups: numbers('Groups'),
    seccompMode: Number(field('Seccomp')),
    noNewPrivileges: field('NoNewPrivs') === '1',
    effectiveCapabilities: field('CapEff'),
    oomScoreAdj: Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8')),
  }
}

/** The identity of a namespace of a process (`pid:[4026531836]`). */
export function namespaceOf(pid: number | 'self', kind: 'net' | 'ipc' | 'uts' | 'pid' | 'mnt'): string {
  return readlinkSync(`/proc/${pid}/ns/${kind}`)
}

/** The identity of a namespace that is pinned at a path, in the same form. */
export function pinnedNamespace(path: string, kind: 'net' | 'ipc' | 'uts'): string {
  return `${kind}:[${statSync(path).ino}]`
}

/** Runs a program inside the namespaces that the options (of nsenter) name. */
export async function inside(options: readonly string[], ...command: readonly string[]): Promise<string> {
  return (await runOk('nsenter', [...options, '--', ...command], { timeoutMs: slowed(20_000) })).stdout.trim()
}

/** The global addresses in a network namespace. */
export async function addressesIn(netnsPath: string): Promise<string[]> {
  const text = await inside([`--net=${netnsPath}`], 'ip', '-o', 'addr', 'show', 'scope', 'global')
  return [...text.matchAll(/inet6? ([^/ ]+)/g)].map((match) => match[1] ?? '')
}

/** Polls until the value is what is wanted; returns it, or the last one seen when it takes too long. */
export async function eventually<T>(read: () => Promise<T>, isWanted: (value: T) => boolean, ms = 5000): Promise<T> {
  const end = performance.now() + slowed(ms)
  for (;;) {
    const value = await read()
    if (isWanted(value) || performance.now() > end) return value
    await sleep(20)
  }
}
