import { setTimeout as sleep } from 'node:timers/promises'
import type { Cri } from './cri.ts'
import type { Subject } from './subject.ts'

/** The times of one subject, in milliseconds, pod by pod. */
export interface Times {
  readonly run: number[]
  readonly stop: number[]
  readonly remove: number[]
  /** Stop + Remove of the same pod. */
  readonly down: number[]
  /** How long all pods of a round took to come up, one value for each round. */
  readonly batch: number[]
  /** For each step of RunPodSandbox, where the subject tells. */
  readonly steps: Map<string, { readonly startMs: number[]; readonly durationMs: number[] }>
}

export interface LoadOptions {
  readonly rounds: number
  readonly concurrency: number
  readonly hostNetwork: boolean
  readonly prefix: string
  /** Checked before each round of a subject. */
  readonly signal: AbortSignal
}

const SETTLE_MS = 100

let pods = 0

/**
 * Runs `concurrency` pods of each subject at a time and takes them away again, subject after subject, round after round,
 * so that whatever else this machine does meanwhile hits all of them alike. Each round begins with another one.
 *
 * @param stepsOf asked after each pod of a subject for its step timings; not part of any measured time.
 */
export async function load(
  subjects: readonly Subject[],
  options: LoadOptions,
  stepsOf: (subject: Subject) => Cri | undefined,
): Promise<Map<string, Times>> {
  const times = new Map(subjects.map(({ name }) => [name, noTimes()]))
  for (let round = 0; round < options.rounds; round++) {
    for (let turn = 0; turn < subjects.length; turn++) {
      options.signal.throwIfAborted()
      const subject = subjects[(round + turn) % subjects.length]
      const of = subject && times.get(subject.name)
      if (subject && of) await oneBatch(subject, options, of, stepsOf(subject))
    }
  }
  return times
}

async function oneBatch(subject: Subject, options: LoadOptions, times: Times, cri: Cri | undefined): Promise<void> {
  const names = Array.from({ length: options.concurrency }, () => `${options.prefix}-${subject.name}-${pods++}`)
  const began = performance.now()
  const ids = await settled(names.map((name) => timed(times.run, () => subject.up(name, options.hostNetwork))))
  times.batch.push(performance.now() - began)
  if (cri) for (const id of ids) await noteSteps(cri, id, times)
  // Pods live longer than it takes to make one. A network that is only just up takes longer to go, whoever asks.
  await sleep(SETTLE_MS)
  const downMs = new Map<string, number>()
  await settled(
    ids.map((id) =>
      timed(
        times.stop,
        () => subject.stop(id),
        (ms) => downMs.set(id, ms),
      ),
    ),
  )
  await settled(
    ids.map((id) =>
      timed(
        times.remove,
        () => subject.remove(id),
        (ms) => times.down.push(ms + (downMs.get(id) ?? 0)),
      ),
    ),
  )
}

async function noteSteps(cri: Cri, id: string, times: Times): Promise<void> {
  const { steps = [] } = await cri.podInfo(id)
  for (const { name, startMs, durationMs } of steps) {
    const of = times.steps.get(name) ?? { startMs: [], durationMs: [] }
    of.startMs.push(startMs)
    of.durationMs.push(durationMs)
    times.steps.set(name, of)
  }
}

async function timed<T>(times: number[], work: () => Promise<T>, then?: (ms: number) => void): Promise<T> {
  const began = performance.now()
  const result = await work()
  const ms = performance.now() - began
  times.push(ms)
  then?.(ms)
  return result
}

/** Like Promise.all, but nothing is still going on when it fails: there is cleaning up to do then. */
export async function settled<T>(works: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(works)
  return Promise.all(works)
}

function noTimes(): Times {
  return { run: [], stop: [], remove: [], down: [], batch: [], steps: new Map() }
}
