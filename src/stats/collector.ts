import type { Logger } from 'pino'
import { errorMessage } from '../core/errors.ts'
import { type NetworkReading, parseNetDev } from './net-dev.ts'
import type { ReadAnswer, Reader } from './reader.ts'
import type { ToldReadings } from './told-readings.ts'
import type { ContainerTarget, SandboxTarget } from './types.ts'

export interface CollectorDeps {
  readonly reader: Reader
  readonly told: Pick<ToldReadings, 'of'>
  /** The text of `/proc/net/dev` in a pinned network namespace. */
  readonly readNetDev: (netnsPath: string) => Promise<string>
  readonly logger: Logger
}

/** What was read for a pod. */
export interface SandboxAnswer extends ReadAnswer {
  /** Whether `cgroup` is that of the whole pod; otherwise it is the pause process's. */
  readonly isWholePod: boolean
}

/** Turns targets into requests, and sees to what the reader cannot do. Holds no state. */
export class Collector {
  readonly #deps: CollectorDeps

  constructor(deps: CollectorDeps) {
    this.#deps = deps
  }

  async containers(
    targets: readonly ContainerTarget[],
    options: { readonly detail: boolean },
  ): Promise<ReadonlyMap<ContainerTarget, ReadAnswer>> {
    const answers = await this.#deps.reader.read(
      targets.map(({ cgroupPath, pid }) => ({ cgroup: { cgroupPath, pid, ...options }, network: null })),
    )
    this.#logFailure(targets, answers)
    const told = await this.#deps.told.of(targets.filter((_, index) => answers[index]?.cgroup === null))
    return zip(
      targets,
      answers.map((answer, index) => ({
        ...answer,
        cgroup: answer.cgroup ?? told.get(targets[index]?.id ?? '') ?? null,
      })),
    )
  }

  /**
   * @param isShared tells parents that several pods have: what such a cgroup uses is not one pod's. Without it no cgroup
   * is read.
   */
  async sandboxes(
    targets: readonly SandboxTarget[],
    isShared?: (cgroupParent: string) => boolean,
  ): Promise<ReadonlyMap<SandboxTarget, SandboxAnswer>> {
    const isWhole = targets.map(({ cgroupParent }) => cgroupParent !== '' && isShared?.(cgroupParent) === false)
    const requests = targets.map(({ cgroupParent, cgroupPath, pid, netnsPath }, index) => {
      const path = isWhole[index] ? cgroupParent : cgroupPath
      return {
        cgroup: path === '' || !isShared ? null : { cgroupPath: path, pid: null, detail: false },
        network: pid === null || netnsPath === '' ? null : { pid, netnsPath },
      }
    })
    const answers = await this.#deps.reader.read(requests)
    this.#logFailure(targets, answers)
    const isRead = (index: number): boolean => isWhole[index] === true && answers[index]?.cgroup !== null
    const told = await this.#deps.told.of(isShared ? targets.filter((_, index) => !isRead(index)) : [])
    const found = zip(
      targets,
      answers.map((answer, index) => {
        const { id = '', askMetrics } = targets[index] ?? {}
        const cgroup = told.get(id)
        if (cgroup) return { ...answer, cgroup, isWholePod: true }
        return { ...answer, isWholePod: askMetrics ? isRead(index) : isWhole[index] === true }
      }),
    )
    return this.#withPinned(found)
  }

  /** Adds the networks that no process leads to. */
  async #withPinned(found: Map<SandboxTarget, SandboxAnswer>): Promise<Map<SandboxTarget, SandboxAnswer>> {
    for (const [target, answer] of found) {
      if (target.netnsPath === '' || answer.network !== null) continue
      const network = await this.#readPinned(target)
      if (network === 'stuck') return found
      found.set(target, { ...answer, network })
    }
    return found
  }

  async #readPinned({ id, netnsPath }: SandboxTarget): Promise<NetworkReading | null | 'stuck'> {
    const startMs = performance.now()
    try {
      return parseNetDev(await this.#deps.readNetDev(netnsPath))
    } catch (error) {
      this.#deps.logger.debug({ sandboxId: id, error: errorMessage(error) }, 'network counters could not be read')
      // One that is gone fails at once; where that takes long, the others are not asked either.
      return performance.now() - startMs > 1000 ? 'stuck' : null
    }
  }

  /** One line for all: they fail for the same reason, as a rule. */
  #logFailure(targets: readonly { readonly id: string }[], answers: readonly ReadAnswer[]): void {
    const failed = answers.findIndex(({ failure }) => failure !== '')
    if (failed === -1) return
    const count = answers.filter(({ failure }) => failure !== '').length
    const fields = { id: targets[failed]?.id, error: answers[failed]?.failure, count }
    this.#deps.logger.warn(fields, 'statistics could not be read')
  }
}

function zip<T, A>(targets: readonly T[], answers: readonly A[]): Map<T, A> {
  const found = new Map<T, A>()
  for (const [index, answer] of answers.entries()) {
    const target = targets[index]
    if (target !== undefined) found.set(target, answer)
  }
  return found
}
