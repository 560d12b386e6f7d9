import type { Logger } from 'pino'
import { deadline } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import type { ResourceKind } from '../core/resource.ts'
import type { LedgerEntry } from '../store/ledger.ts'

/** What came of releasing some entries. */
export interface Release {
  readonly released: readonly LedgerEntry[]
  readonly owed: readonly { readonly entry: LedgerEntry; readonly error: unknown }[]
}

export interface ReleaseOptions {
  /** The kinds to release; the others are left alone. */
  readonly kinds: readonly string[]
  /** Whether the network namespace is kept while a CNI DEL is owed, since plugins clean up more when it is there. */
  readonly keepNetnsForCni: boolean
}

/** Everything that a sandbox holds only while it runs. */
export const RUNNING_KINDS: readonly string[] = ['controller', 'cni', 'netns', 'shm']
export const ALL_KINDS: readonly string[] = [...RUNNING_KINDS, 'directory']

/**
 * Gives resources back: each tried, on a budget of its own, whatever becomes of the others.
 * What does not depend on one another is released at the same time; the directories, with the checkpoint, go last, and
 * only when nothing else is owed.
 */
export class Releaser {
  readonly #kinds: ReadonlyMap<string, ResourceKind<unknown>>
  readonly #budgetMs: number
  readonly #failpoints: Failpoints
  readonly #logger: Logger

  constructor(
    options: { readonly budgetMs: number },
    deps: {
      readonly kinds: readonly ResourceKind<unknown>[]
      readonly failpoints: Failpoints
      readonly logger: Logger
    },
  ) {
    this.#budgetMs = options.budgetMs
    this.#kinds = new Map(deps.kinds.map((kind) => [kind.kind, kind]))
    this.#failpoints = deps.failpoints
    this.#logger = deps.logger
  }

  async release(entries: readonly LedgerEntry[], options: ReleaseOptions): Promise<Release> {
    const released: LedgerEntry[] = []
    const owed: { entry: LedgerEntry; error: unknown }[] = []
    const wanted = entries.filter(({ kind }) => options.kinds.includes(kind)).toSorted((a, b) => b.seq - a.seq)
    const releaseKind = async (kind: string): Promise<boolean> => {
      let all = true
      for (const entry of wanted.filter((candidate) => candidate.kind === kind)) {
        try {
          await this.#releaseOne(entry)
          released.push(entry)
        } catch (error) {
          all = false
          owed.push({ entry, error })
          this.#logger.warn({ sandboxId: entry.sandboxId, kind, error: errorMessage(error) }, 'release is owed')
        }
      }
      return all
    }
    const network = async (): Promise<void> => {
      const detached = await releaseKind('cni')
      if (detached || !options.keepNetnsForCni) await releaseKind('netns')
    }
    const unknown = wanted.map(({ kind }) => kind).filter((kind) => !ALL_KINDS.includes(kind))
    await Promise.all([
      releaseKind('controller'),
      network(),
      releaseKind('shm'),
      ...[...new Set(unknown)].map(releaseKind),
    ])
    const left = entries.filter((entry) => entry.kind !== 'directory' && !released.includes(entry))
    if (left.length === 0) await releaseKind('directory')
    return { released, owed }
  }

  async #releaseOne(entry: LedgerEntry): Promise<void> {
    const kind = this.#kinds.get(entry.kind)
    if (!kind) throw new Error(`release ${entry.kind}: this sandboxerd does not know that kind`)
    using budget = deadline(`release ${entry.kind} of ${entry.sandboxId}`, this.#budgetMs)
    await this.#failpoints.hit(`release.${entry.kind}.before`, budget.signal)
    await kind.release(kind.parse(entry.record), budget.signal)
    await this.#failpoints.hit(`release.${entry.kind}.after`, budget.signal)
  }
}
