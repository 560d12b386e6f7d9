import type { Logger } from 'pino'
import type { Sealer } from '../core/seal.ts'
import { type LedgerEntry, putEntry, strikeEntry } from '../store/ledger.ts'
import type { Change } from '../store/rows.ts'
import type { Store } from '../store/store.ts'

/** How the row of one sandbox, or container, is written. */
export interface DurableRow<S> {
  readonly put: (status: S) => Change
  readonly remove: Change
  /** Told of every change of the status once it holds; with what the change has for the log. */
  readonly changed: (from: S, to: S, log: ChangeLog) => void
}

export interface DurableDeps {
  readonly store: Pick<Store, 'commit'>
  readonly sealer: Sealer
  readonly logger: Logger
}

/** What a line of the log tells of a change of state beside the states. */
export interface ChangeLog {
  readonly why?: string
  readonly [field: string]: unknown
}

/** What one {@link Durable.save} changes. */
export interface DurableChange<S> {
  /** Makes the new status of the current one; returning it as it is changes nothing. */
  readonly status?: (current: S) => S
  /** Ledger entries that are new, or have changed. */
  readonly put?: readonly LedgerEntry[]
  /** Ledger entries whose release is confirmed. */
  readonly strike?: readonly LedgerEntry[]
  /** Whatever else is to be written with it. */
  readonly also?: readonly Change[]
  /** For the log, when the state changes. */
  readonly log?: ChangeLog
}

/** What changes in the life of a sandbox or container, and what it owns: in memory, and in the database. */
export class Durable<S> {
  readonly #row: DurableRow<S>
  readonly #deps: DurableDeps
  #status: S
  #entries: ReadonlyMap<number, LedgerEntry>
  #saving: Promise<unknown> = Promise.resolve()
  #isDeleted = false
  /** What has happened, and could not be written down yet (disk full). */
  #unsaved: readonly Change[] = []

  constructor(
    start: { readonly status: S; readonly entries: readonly LedgerEntry[] },
    row: DurableRow<S>,
    deps: DurableDeps,
  ) {
    this.#status = start.status
    this.#entries = new Map(start.entries.map((entry) => [entry.seq, entry]))
    this.#row = row
    this.#deps = deps
  }

  get status(): S {
    return this.#status
  }

  /** What it owns, in the order in which it was acquired. */
  get entries(): readonly LedgerEntry[] {
    return [...this.#entries.values()].sort((a, b) => a.seq - b.seq)
  }

  /** Writes it for the first time, with its intents: the first thing that happens, before anything is made. */
  async insert(also: readonly Change[]): Promise<void> {
    const entries = this.entries.map((entry) => putEntry(this.#deps.sealer, entry))
    await this.#deps.store.commit([this.#row.put(this.#status), ...entries, ...also])
  }

  /** Makes a change durable, then visible; when that fails, it did not happen. One at a time, in order. */
  async save(change: DurableChange<S>): Promise<void> {
    return this.#inOrder(() => this.#save(change, false))
  }

  /**
   * Like {@link save}, for a change that has happened outside already (an end, a release): when it cannot be written it
   * holds in memory all the same, and is written with the next one. After a crash it is found out, or done, again.
   */
  async note(change: DurableChange<S>): Promise<void> {
    return this.#inOrder(() => this.#save(change, true))
  }

  /** Removes it from the database, with its ledger entries: everything it owned has been given back. */
  async delete(): Promise<void> {
    return this.#inOrder(async () => {
      const struck = this.entries.map(strikeEntry)
      await this.#deps.store.commit([...struck, this.#row.remove])
      this.#entries = new Map()
      this.#isDeleted = true
    })
  }

  async #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#saving.then(work)
    this.#saving = done.catch(() => undefined)
    return done
  }

  async #save(change: DurableChange<S>, hasHappened: boolean): Promise<void> {
    // An end that is seen only now must not bring its row back.
    if (this.#isDeleted) return
    const { put = [], strike = [], also = [] } = change
    const status = change.status?.(this.#status) ?? this.#status
    const changes: Change[] = [...this.#unsaved]
    if (status !== this.#status) changes.push(this.#row.put(status))
    changes.push(...also)
    for (const entry of put) changes.push(putEntry(this.#deps.sealer, entry))
    for (const entry of strike) changes.push(strikeEntry(entry))
    try {
      await this.#deps.store.commit(changes)
      this.#unsaved = []
    } catch (error) {
      if (!hasHappened) throw error
      this.#unsaved = changes
    }
    const before = this.#status
    this.#status = status
    if (status !== before) this.#row.changed(before, status, change.log ?? {})
    const entries = new Map(this.#entries)
    for (const entry of put) entries.set(entry.seq, entry)
    for (const entry of strike) entries.delete(entry.seq)
    this.#entries = entries
  }
}
