import type { Logger } from 'pino'
import { deadline, sleep } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import type { ProtoGrpcType as ShimPackages } from '../generated/shim.ts'
import type { CgroupReading } from './cgroup-reading.ts'
import { type ToldMetrics, toldReading } from './told-metrics.ts'

/** Asks for the metrics of something whose cgroup is not on this node. Null when they are not told. */
export type AskMetrics = (signal: AbortSignal) => Promise<ToldMetrics | null>

export interface ToldTarget {
  readonly id: string
  readonly askMetrics?: AskMetrics
}

export interface ToldReadingsDeps {
  readonly messages: ShimPackages
  readonly logger: Logger
}

/** So long is waited for all answers together. */
const WAIT_MS = 500
/** One question. */
const ASK_MS = 10_000

interface Asked {
  readonly answer: Promise<CgroupReading | null>
  /** Whether it took longer than anybody waits: until it ends, it is not waited for again. */
  isLate: boolean
}

/** What others tell of cgroups that are not on this node. One who does not answer keeps nobody waiting. */
export class ToldReadings {
  readonly #deps: ToldReadingsDeps
  readonly #asked = new Map<string, Asked>()

  constructor(deps: ToldReadingsDeps) {
    this.#deps = deps
  }

  /** The readings of those that have answered in time, by id. Never throws. */
  async of(targets: readonly ToldTarget[]): Promise<ReadonlyMap<string, CgroupReading>> {
    const found = new Map<string, CgroupReading>()
    const waits = targets.flatMap(({ id, askMetrics }) => {
      if (!askMetrics) return []
      const asked = this.#asked.get(id) ?? this.#ask(id, askMetrics)
      if (asked.isLate) return []
      return [{ asked, done: asked.answer.then((reading) => reading && found.set(id, reading)) }]
    })
    if (waits.length === 0) return found
    const patience = new AbortController()
    const over = sleep(WAIT_MS, patience.signal).catch(() => undefined)
    await Promise.race([Promise.all(waits.map(({ done }) => done)), over])
    patience.abort()
    for (const { asked } of waits) asked.isLate = true
    // What comes from now on is too late for whoever got this.
    return new Map(found)
  }

  #ask(id: string, askMetrics: AskMetrics): Asked {
    const ask = async (): Promise<CgroupReading | null> => {
      using limit = deadline(`metrics of ${id}`, ASK_MS)
      try {
        const told = await askMetrics(limit.signal)
        return told && toldReading(told, this.#deps.messages)
      } catch (error) {
        this.#deps.logger.debug({ id, error: errorMessage(error) }, 'metrics were not told')
        return null
      } finally {
        this.#asked.delete(id)
      }
    }
    const asked = { answer: ask(), isLate: false }
    this.#asked.set(id, asked)
    return asked
  }
}
