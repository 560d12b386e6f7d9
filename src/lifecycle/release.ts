import type { Logger } from 'pino'
import { deadline } from '../core/deadline.ts'
import { errorMessage } from '../core/errors.ts'
import type { Failpoints } from '../core/failpoints.ts'
import { type Observer, UNOBSERVED } from '../core/observer.ts'
import type { ResourceKind } from '../core/resource.ts'
import type { LedgerEntry } from '../store/ledger.ts'

/** What came of releasing some entries. */
export interface Release {
  readonly released: readonly LedgerEntry[]
  readonly owed: readonly { readonly entry: LedgerEntry; readonly error: unknown }[]
}

/** Kinds of resource that are released one after the other. */
export interface ReleaseChain {
  readonly kinds: readonly string[]
  /** Whether what could not be released keeps all that comes after it in the chain. */
  readonly strict: boolean
}

/** Goes last, with the checkpoint in it, and only when nothing else is owed. */
const LAST_KIND = 'directory'

/** The changes of the ledger that a release makes. */
export function ledgerChange(release: Release): {
  strike: readonly LedgerEntry[]
  put: readonly LedgerEntry[]
} {
  return { strike: release.released, put: release.owed.map(owedEntry) }
}

function owedEntry({ entry, error }: Release['owed'][number]): LedgerEntry {
  return { ...entry, state: 'releasing', problem: errorMessage(error) }
}

/**
 * Gives resources back: each tried, on a budget of its own, whatever becomes of the others. Chains are released at the
 * same time.
 */
export class Releaser {
  readonly #kinds: ReadonlyMap<string, ResourceKind<unknown>>
  readonly #budgetMs: number
  readonly #failpoints: Failpoints
  readonly #logger: Logger
  readonly #observer: Observer

  constructor(
    options: { readonly budgetMs: number },
    deps: {
      readonly kinds: readonly ResourceKind<unknown>[]
      readonly failpoints: Failpoints
      readonly logger: Logger
      readonly observer?: Observer
    },
  ) {
    this.#budgetMs = options.budgetMs
    this.#kinds = new Map(deps.kinds.map((kind) => [kind.kind, kind]))
    this.#failpoints = deps.failpoints
    this.#logger = deps.logger
    this.#observer = deps.observer ?? UNOBSERVED
  }

  /** Releases the kinds of the chains; other kinds are left alone. */
  async release(entries: readonly LedgerEntry[], chains: readonly ReleaseChain[]): Promise<Release> {
    return this.#release(entries, chains, [])
  }

  /** Releases everything: the chains, kinds that nobody knows any more, and the directories last. */
  async releaseAll(entries: readonly LedgerEntry[], chains: readonly ReleaseChain[]): Promise<Release> {
    const known = [...chains.flatMap(({ kinds }) => kinds), LAST_KIND]
    const unknown = new Set(entries.map(({ kind }) => kind).filter((kind) => !known.includes(kind)))
    const more = [...unknown].map((kind) => ({ kinds: [kind], strict: false }))
    return this.#release(entries, [...chains, ...more], [LAST_KIND])
  }

  async #release(
    entries: readonly LedgerEntry[],
    chains: readonly ReleaseChain[],
    last: readonly string[],
  ): Promise<Release> {
    const released: LedgerEntry[] = []
    const owed: { entry: LedgerEntry; error: unknown }[] = []
    const releaseKind = async (kind: string): Promise<boolean> => {
      const before = owed.length
      for (const entry of entries.filter((e) => e.kind === kind).toSorted((a, b) => b.seq - a.seq)) {
        try {
          const step = { kind: 'step', name: `release ${kind}`, operation: 'release', id: entry.ownerId } as const
          await this.#observer.run(step, () => this.#releaseOne(entry))
          released.push(entry)
        } catch (error) {
          owed.push({ entry, error })
          this.#logger.warn({ id: entry.ownerId, kind, error: errorMessage(error) }, 'release is owed')
        }
      }
      return owed.length === before
    }
    const releaseChain = async ({ kinds, strict }: ReleaseChain): Promise<void> => {
      for (const kind of kinds) {
        if (!(await releaseKind(kind)) && strict) return
      }
    }
    await Promise.all(chains.map(releaseChain))
    const left = entries.filter((entry) => !last.includes(entry.kind) && !released.includes(entry))
    if (left.length === 0) for (const kind of last) await releaseKind(kind)
    return { released, owed }
  }

  async #releaseOne(entry: LedgerEntry): Promise<void> {
    const kind = this.#kinds.get(entry.kind)
    if (!kind) throw new Error(`release ${entry.kind}: this sandboxerd does not know that kind`)
    using budget = deadline(`release ${entry.kind} of ${entry.ownerId}`, this.#budgetMs)
    await this.#failpoints.hit(`release.${entry.kind}.before`, budget.signal)
    await kind.release(kind.parse(entry.record), budget.signal)
    await this.#failpoints.hit(`release.${entry.kind}.after`, budget.signal)
  }
}
