import { CodedError, errorMessage } from '../core/errors.ts'
import { type Observer, UNOBSERVED } from '../core/observer.ts'
import { Thread } from '../core/thread.ts'
import type { Change, Loaded, OwnerRows } from './rows.ts'

interface StoreCalls {
  open: readonly [null, Loaded]
  commit: readonly [readonly Change[], void]
  rowsOf: readonly [string, OwnerRows]
  close: readonly [null, void]
}

/**
 * The database of the node: what must be there after a crash. It is read once, at start; then it is only written.
 * Writes are durable when they return. They run on a thread of their own, so that a slow disk delays who waits for
 * that write and nobody else, and writes that wait at the same time share one fsync.
 */
export class Store implements AsyncDisposable {
  readonly #thread: Thread<StoreCalls>
  readonly #observer: Observer

  private constructor(thread: Thread<StoreCalls>, observer: Observer) {
    this.#thread = thread
    this.#observer = observer
  }

  /**
   * Opens the database file, making it if there is none, and reads all of it. The directory must exist.
   * A damaged file is set aside, see {@link Loaded.setAside}.
   * @throws CodedError `FailedPrecondition` for a file that a newer sandboxerd has written, `ResourceExhausted` when there is
   * no room to bring one of an older sandboxerd up to date, `Unavailable` while somebody else has it locked. Nothing of it has
   * changed then.
   */
  static async open(
    path: string,
    deps: { readonly observer?: Observer } = {},
  ): Promise<{ store: Store; loaded: Loaded }> {
    const thread = new Thread<StoreCalls>('store', new URL('./store-thread.ts', import.meta.url), { path })
    try {
      const loaded = await thread.call('open', null)
      return { store: new Store(thread, deps.observer ?? UNOBSERVED), loaded }
    } catch (error) {
      await thread[Symbol.asyncDispose]()
      throw error
    }
  }

  /**
   * Makes the changes, all or none, durable.
   * @throws CodedError `Internal` with SQLite's reason; then none of them happened.
   */
  async commit(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return
    await this.#observer.run({ kind: 'store', name: 'commit' }, () => this.#commit(changes))
  }

  async #commit(changes: readonly Change[]): Promise<void> {
    try {
      await this.#thread.call('commit', changes)
    } catch (error) {
      throw new CodedError('Internal', `write ${changes.map(({ op }) => op).join(', ')}: ${errorMessage(error)}`, {
        cause: error,
      })
    }
  }

  /** What is stored of one sandbox or container, for people: what the daemon does depends on what it has in memory. */
  async rowsOf(id: string): Promise<OwnerRows> {
    return this.#thread.call('rowsOf', id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#thread.call('close', null)
    } finally {
      await this.#thread[Symbol.asyncDispose]()
    }
  }
}
